"""Copy an index row by row into an empty one, and hold the two against each other: whatever each is kept in.

Both sides are one transaction each: what is read is of one moment, and what is written is there as a whole or not at
all, after it was compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from pixie_proxy.errors import ConfigError
from pixie_proxy.index import Row, Tx
from pixie_proxy.index.tables import NUL, TABLES

_PAGE = 200
_ALL: Mapping[str, str] = MappingProxyType({})

Progress = Callable[[int, int], None]
"""Is told of rows that are done, and of their bytes."""


class Moved(NamedTuple):
    """A table, as it is in both."""

    table: str
    rows: int
    sha256: str


def count(tx: Tx) -> int:
    """Count all rows."""
    found = (tx.one(f"SELECT count(*) AS n FROM {table}") for table in TABLES)
    return sum(int(row["n"]) for row in found if row is not None)


def is_empty(tx: Tx) -> bool:
    """Tell whether nobody has used an index yet. The team's account may be there from the start."""
    return all(
        tx.one(f"SELECT 1 AS one FROM {table} LIMIT 1") is None for table in TABLES if table != "accounts"
    )


def transfer(
    source: Tx,
    target: Tx,
    progress: Progress = lambda _rows, _bytes: None,
    columns: Mapping[str, str] = _ALL,
) -> list[Moved]:
    """Copy all rows, then read both and compare them one by one. `progress` hears of each row twice.

    `columns` of a table are those to copy, else all.
    Raises ConfigError when the target is not what the source is; then do not commit it.
    """
    target.run("DELETE FROM accounts")
    for table, key in TABLES.items():
        for page in _pages(source, table, key, columns):
            _insert(target, table, page)
            progress(len(page), len(_written(page)))
    target.search.fill(target)
    return [
        _compared(table, key, _pages(source, table, key, columns), _pages(target, table, key), progress)
        for table, key in TABLES.items()
    ]


def _compared(
    table: str,
    key: tuple[str, ...],
    here: Iterator[list[Row]],
    there: Iterator[list[Row]],
    progress: Progress,
) -> Moved:
    digest, rows = hashlib.sha256(), 0
    for page in here:
        wanted, found = _written(page), _written(next(there, []))
        if wanted != found:
            raise ConfigError(_difference(table, page[0], key))
        digest.update(wanted)
        rows += len(page)
        progress(len(page), len(wanted))
    if extra := next(there, []):
        raise ConfigError(_difference(table, extra[0], key))
    return Moved(table, rows, digest.hexdigest())


def _difference(table: str, row: Row, key: tuple[str, ...]) -> str:
    where = ", ".join(str(row[name]) for name in key)
    return f"index: the copy is not what it was made of, in {table} from {where} on. Nothing was changed"


def _pages(
    tx: Tx, table: str, key: tuple[str, ...], columns: Mapping[str, str] = _ALL
) -> Iterator[list[Row]]:
    """Give all rows in the order of their keys, which is that of their bytes in both databases."""
    names, marks = ", ".join(key), ", ".join(f":{name}" for name in key)
    wanted, behind = columns.get(table, "*"), ""
    after: dict[str, Any] = {}
    while page := tx.all(
        f"SELECT {wanted} FROM {table}{behind} ORDER BY {names} LIMIT :most", most=_PAGE, **after
    ):
        yield page
        behind, after = f" WHERE ({names}) > ({marks})", {name: page[-1][name] for name in key}


def _insert(tx: Tx, table: str, page: list[Row]) -> None:
    columns = list(dict(page[0]))
    rows = ", ".join("(" + ", ".join(f":{name}_{at}" for name in columns) + ")" for at, _ in enumerate(page))
    values = {f"{name}_{at}": row[name] for at, row in enumerate(page) for name in columns}
    tx.run(f"INSERT INTO {table} ({', '.join(columns)}) VALUES {rows}", **values)


def _written(page: list[Row]) -> bytes:
    """Write rows so that equal ones are equal bytes."""
    return b"".join(
        orjson.dumps({name: _value(row[name]) for name in sorted(dict(row))}) + b"\n" for row in page
    )


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", NUL)
    return value.hex() if isinstance(value, bytes | memoryview) else value
