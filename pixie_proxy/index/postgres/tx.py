"""Transactions of PostgreSQL: the queries are SQLite's, and what they bring has the same types."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from psycopg import Connection
from psycopg.adapt import Buffer, Loader
from psycopg.types.string import StrDumperUnknown

from pixie_proxy.index import Row
from pixie_proxy.index.postgres import search
from pixie_proxy.index.tables import NUL

_NAMED = re.compile(r"(?<![:\w]):([a-z_]\w*)|%")


class PostgresTx:
    """One transaction on one connection; its rows are dicts."""

    __slots__ = ("_execute",)
    search = search

    def __init__(self, connection: Connection[dict[str, Any]]) -> None:
        """Run statements on this connection."""
        self._execute = connection.execute

    def all(self, sql: str, **params: object) -> list[Row]:
        """Return every row."""
        return [*self._execute(rewritten(sql), params)]

    def one(self, sql: str, **params: object) -> Row | None:
        """Return the first row, or None."""
        return self._execute(rewritten(sql), params).fetchone()

    def run(self, sql: str, **params: object) -> int:
        """Execute and return the number of rows touched."""
        return self._execute(rewritten(sql), params).rowcount


@lru_cache(maxsize=1024)
def rewritten(sql: str) -> bytes:
    """Write `:name` as psycopg wants it. No string in our SQL has a colon in it."""
    return _NAMED.sub(lambda match: f"%({match[1]})s" if match[1] else "%%", sql).encode()


def adapt(connection: Connection[dict[str, Any]]) -> None:
    """Let values come and go as they do with SQLite: sums are whole numbers, and any text can be kept."""
    connection.adapters.register_loader("numeric", _WholeNumber)
    connection.adapters.register_dumper(str, _AnyText)


class _WholeNumber(Loader):
    """Reads what is numeric only because PostgreSQL adds up BIGINTs without a bound."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data))


class _AnyText(StrDumperUnknown):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace("\0", NUL) if "\0" in obj else obj)
