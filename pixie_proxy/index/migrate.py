"""Bring a SQLite file to the schema that this code knows, one numbered file of `migrations/` after the other.

The version is SQLite's `user_version`, which lies in the file's header and so changes with its migration or not at
all: a killed process leaves the file at a whole version, and the next start goes on from there.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pixie_proxy.errors import ConfigError

MIGRATIONS = Path(__file__).with_name("migrations")


def migrations(folder: Path = MIGRATIONS) -> dict[int, Path]:
    """Give the migration files by number, in order."""
    return {
        int(path.name[:4]): path
        for path in sorted(folder.iterdir())
        if re.fullmatch(r"[0-9]{4}_\w+\.sql", path.name)
    }


def migrate(connection: sqlite3.Connection, folder: Path = MIGRATIONS) -> int:
    """Apply what is missing and return the version. Needs `isolation_level=None`; racing processes take turns.

    Raises ConfigError when the file comes from a newer version of the program.
    """
    files = migrations(folder)
    newest = max(files)
    for number, path in files.items():
        if schema_version(connection) < number:
            _apply(connection, number, path.read_text(encoding="utf-8"))
    version = schema_version(connection)
    if version > newest:
        problem = f"index: the database has schema {version}, this pixie_proxy knows {newest}"
        raise ConfigError(f"{problem}: run the newer version, or restore a backup from before the upgrade")
    return version


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


def _apply(connection: sqlite3.Connection, number: int, script: str) -> None:
    connection.execute("BEGIN EXCLUSIVE")
    try:
        if schema_version(connection) < number:  # another process may have been here while we waited
            for statement in statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number:d}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
