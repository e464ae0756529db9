"""Bring a PostgreSQL database to the schema that this code knows. Processes that start at once take turns.

Its steps have the numbers of SQLite's, and after each of them both have the same tables and columns; what came before
PostgreSQL was there is one step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from pixie_proxy.errors import ConfigError
from pixie_proxy.index import Tx
from pixie_proxy.index.migrate import migrations
from pixie_proxy.index.postgres import search
from pixie_proxy.index.postgres.target import Link
from pixie_proxy.index.postgres.tx import PostgresTx

MIGRATIONS = Path(__file__).with_name("migrations")

_FILLED: dict[str, Callable[[Tx], None]] = {"0012_search": search.fill}
"""What SQL alone can't do for the rows that there are: done with the step, in its transaction."""

_TURN = 0x7069786965
"""The number of the advisory lock."""


def migrate(link: Link, folder: Path = MIGRATIONS, *, must_exist: bool = False) -> int:
    """Apply what is missing and return the version; each step comes whole or not at all.

    Raises ConfigError when the database is of a newer version of the program, may not be changed by its user, or where
    there `must_exist` one; psycopg.Error.
    """
    steps = migrations(folder)
    found = version_of(link)
    if found == 0 and must_exist:
        raise ConfigError(
            "index.url: the database holds no index, and server.require_existing is on: "
            "name the right one, or turn the setting off for the very first start"
        )
    if found > max(steps):
        raise ConfigError(
            f"index: the database has schema {found}, this pixie_proxy knows {max(steps)}: run the newer version, "
            "or go back to the dump from before its upgrade: docs/operations.md, Upgrade"
        )
    for number, path in steps.items():
        if found < number:
            try:
                _apply(link, number, path)
            except psycopg.errors.InsufficientPrivilege as exc:
                said = str(exc).partition("\n")[0]
                raise ConfigError(
                    f"index.url: its user may not make tables ({said}): make it the owner of the database "
                    "(ALTER DATABASE … OWNER TO …)"
                ) from exc
    return max(steps)


def version_of(link: Link) -> int:
    """Read how far a database is; 0 is one that holds no index."""
    if _value(link, "SELECT to_regclass('schema_version') IS NULL AS value"):
        return 0
    return int(_value(link, "SELECT version AS value FROM schema_version"))


def _apply(link: Link, number: int, path: Path) -> None:
    with link.transaction():
        link.execute("SELECT pg_advisory_xact_lock(%s)", [_TURN])
        if version_of(link) >= number:  # another process may have been here while we waited
            return
        link.execute(path.read_bytes())
        if path.stem in _FILLED:
            _FILLED[path.stem](PostgresTx(link))
        link.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        link.execute("DELETE FROM schema_version")
        link.execute("INSERT INTO schema_version VALUES (%s)", [number])


def _value(link: Link, sql: str) -> Any:
    return (link.execute(sql.encode()).fetchone() or {})["value"]
