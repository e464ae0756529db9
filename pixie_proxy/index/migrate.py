"""Bring a SQLite file to the schema that this code knows, one numbered file of `migrations/` after the other.

The version is SQLite's `user_version`, which lies in the file's header and so changes with its migration or not at
all: a killed process leaves the file at a whole version, and the next start goes on from there. What was there before
the first step stays beside it as `pixie.db.before-<version>`.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pixie_proxy.disk.watch import room
from pixie_proxy.errors import ConfigError
from pixie_proxy.index import Tx, search
from pixie_proxy.index.batch import SqliteTx
from pixie_proxy.index.copying import copy_index, open_beside, open_copy, schema

MIGRATIONS = Path(__file__).with_name("migrations")

_FILLED: dict[str, Callable[[Tx], None]] = {"0012_search": search.fill}
"""What SQL alone can't do for the rows that there are: done with the step, in its transaction."""

_SPARE_BYTES = 16 * 1024 * 1024


def migrations(folder: Path = MIGRATIONS) -> dict[int, Path]:
    """Give the migration files by number, in order."""
    return {
        int(path.name[:4]): path
        for path in sorted(folder.iterdir())
        if re.fullmatch(r"[0-9]{4}_\w+\.sql", path.name)
    }


def newest_schema(folder: Path = MIGRATIONS) -> int:
    """Give the version of the index that this program works with; both databases count alike."""
    return max(migrations(folder))


def upgrade(connection: sqlite3.Connection, path: Path, folder: Path = MIGRATIONS) -> int:
    """Migrate the database at `path`. One that holds something is copied first, for whoever wants to go back.

    Raises ConfigError, also where there is no room for the copy.
    """
    version, newest = schema_version(connection), newest_schema(folder)
    if 0 < version < newest:
        kept = path.with_name(f"{path.name}.before-{newest}")
        # A copy of an older schema is from before the first step of this upgrade, which was killed on its way.
        if not kept.exists() or _version_of(kept) >= version:
            _check_room(path)
            copy_index(path, kept)
    return migrate(connection, folder)


@contextmanager
def open_new(path: Path) -> Iterator[Tx]:
    """Fill a file, made if it is not there, which nobody else uses: one transaction. Raises ConfigError, OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection)
    with open_copy(path) as tx:
        yield tx


def migrate(connection: sqlite3.Connection, folder: Path = MIGRATIONS) -> int:
    """Apply what is missing and return the version. Needs `isolation_level=None`; racing processes take turns.

    Raises ConfigError when the file comes from a newer version of the program.
    """
    for number, path in migrations(folder).items():
        if schema_version(connection) < number:
            _apply(connection, number, path)
    version = schema_version(connection)
    check_schema(version, folder)
    return version


def check_schema(version: int, folder: Path = MIGRATIONS) -> None:
    """See that a database is of no newer version of the program. Raises ConfigError with the way out."""
    newest = newest_schema(folder)
    if version > newest:
        raise ConfigError(
            f"index: the database has schema {version}, this pixie_proxy knows {newest}: run the newer version, "
            "or go back to the copy from before its upgrade (pixie.db.before-…): docs/operations.md, Upgrade"
        )


def schema_version(connection: sqlite3.Connection) -> int:
    """Read how far a database is; 0 is an empty one."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def statements(script: str) -> Iterator[str]:
    """Split a script into statements; semicolons in strings, comments and triggers don't end one."""
    *pieces, rest = script.split(";")
    statement = ""
    for piece in pieces:
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
    if (statement + rest).strip():  # comments, or a statement that lacks its end: SQLite tells which
        yield (statement + rest).strip()


def _version_of(path: Path) -> int:
    with open_beside(path) as tx:
        return schema(tx)


def _check_room(path: Path) -> None:
    """See that a copy has room, and the migration too: it may write more than is there into its log."""
    needed_bytes = 4 * path.stat().st_size + _SPARE_BYTES
    free_bytes = room(path.parent).free_bytes
    if free_bytes < needed_bytes:
        raise ConfigError(
            f"index: no room to upgrade {path}, and to keep a copy of it: {free_bytes // 10**6:,} MB are free, "
            f"{needed_bytes // 10**6:,} MB are needed. Nothing was changed"
        )


def _apply(connection: sqlite3.Connection, number: int, path: Path) -> None:
    connection.execute("BEGIN EXCLUSIVE")
    try:
        if schema_version(connection) < number:  # another process may have been here while we waited
            for statement in statements(path.read_text(encoding="utf-8")):
                connection.execute(statement)
            if path.stem in _FILLED:
                connection.row_factory, usual = sqlite3.Row, connection.row_factory
                _FILLED[path.stem](SqliteTx(connection))
                connection.row_factory = usual
            connection.execute(f"PRAGMA user_version = {number:d}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
