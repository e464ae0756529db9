"""A look at a SQLite index from outside: beside a server or without one, in bounded time, leaving nothing behind.

Where no write-ahead log lies beside the file, nobody has it open, and it is read as one that can't change: SQLite would
make a log otherwise. Where one does, who closes last would move it into the file; so that is a reader, which can't.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pixie_proxy.errors import IndexUnavailable
from pixie_proxy.index import Tx
from pixie_proxy.index import settings as stored
from pixie_proxy.index.batch import SqliteTx
from pixie_proxy.index.lock import FileLock, LockTimeout
from pixie_proxy.index.migrate import newest_schema, schema_version
from pixie_proxy.index.trouble import translate
from pixie_proxy.records import id_floor

LOCK_WAIT_S = 1.0
"""How long others may keep us from writing: their longest transaction, and not more."""
_CHECK_S = 1.0
"""How long is spent on the integrity of a large file."""
_USED_WITHIN_US = 30 * 86_400_000_000
_LOOKED_AT = 20_000
"""Calls: more would take too long to read."""
_STEPS = 10_000
"""After so many steps of SQLite's, the clock is looked at."""

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "end the other program that has pixie.db open",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_READONLY: "give pixie.db, its -wal and -shm and their folder to the user that serves",
    sqlite3.SQLITE_CANTOPEN: "give pixie.db, its -wal and -shm and their folder to the user that serves",
    sqlite3.SQLITE_PERM: "give pixie.db, its -wal and -shm and their folder to the user that serves",
    sqlite3.SQLITE_IOERR: "look at the disk and at the kernel's log",
    sqlite3.SQLITE_CORRUPT: "stop the server and restore a backup, or rebuild it: pixie reindex --apply",
    sqlite3.SQLITE_NOTADB: "stop the server and restore a backup, or rebuild it: pixie reindex --apply",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleImage:
    """An image whose link can be tried."""

    id: str
    mime: str
    link_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """What was found. `fault`: the first thing that SQLite finds wrong; `is_whole`: it has looked at all of it."""

    version: int
    newest_version: int
    oldest_version: int
    """Programs that know less can't work with it."""
    wal_bytes: int
    fault: str | None
    is_whole: bool
    storage_id: str | None
    link_secret: str | None
    sample: SampleImage | None
    models_used: tuple[str, ...]
    """Of the newest calls, as far as 30 days back."""
    server: str = ""
    """What keeps it, where that is a program of its own."""
    doubts: tuple[tuple[str, str], ...] = ()
    """What works, and is not as it should be; and what mends it."""


def look_at_index(path: Path, lock_path: Path) -> Checkup:
    """Examine a file that exists. Blocks, for some seconds at most. Raises IndexUnavailable, with its remedy."""
    with _translated():
        wal = path.with_name(f"{path.name}-wal")
        wal_bytes = wal.stat().st_size if wal.exists() else None
        options = "mode=ro" if wal_bytes is not None else "immutable=1"
        with closing(_connect(path, options)) as reading:
            if wal_bytes is not None:
                _try_to_write(path, lock_path)
            version = schema_version(reading)
            fault, is_whole = _integrity(reading)
            tx = SqliteTx(reading)
            return Checkup(
                version=version,
                newest_version=newest_schema(),
                oldest_version=version,
                wal_bytes=wal_bytes or 0,
                fault=fault,
                is_whole=is_whole,
                **(contents(tx) if version else NOTHING),
            )


def _connect(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}", uri=True, isolation_level=None, timeout=LOCK_WAIT_S
    )
    connection.row_factory = sqlite3.Row
    return connection


def _try_to_write(path: Path, lock_path: Path) -> None:
    """See that a transaction that writes can begin; it writes nothing. Under the lock that every writer takes."""
    lock = FileLock(lock_path, LOCK_WAIT_S)
    try:
        with lock.hold(), closing(_connect(path, "mode=rw")) as writing:
            writing.execute("BEGIN IMMEDIATE")
            writing.execute("ROLLBACK")
    finally:
        lock.close()


def _integrity(connection: sqlite3.Connection) -> tuple[str | None, bool]:
    """Look for what is wrong for as long as there is time."""
    deadline = time.monotonic() + _CHECK_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return None, False
    finally:
        connection.set_progress_handler(None, 0)
    return (None if found == "ok" else str(found)), True


class Contents(TypedDict):
    """What other checks want to know of an index."""

    storage_id: str | None
    link_secret: str | None
    sample: SampleImage | None
    models_used: tuple[str, ...]


NOTHING: Contents = {"storage_id": None, "link_secret": None, "sample": None, "models_used": ()}


def contents(tx: Tx) -> Contents:
    """Look into an index of any version, and of any database."""
    return {
        "storage_id": stored.get(tx, "storage_id"),
        "link_secret": stored.get(tx, "link_secret"),
        "sample": _sample(tx),
        "models_used": _models_used(tx),
    }


def _sample(tx: Tx) -> SampleImage | None:
    """Give the newest image that has a link."""
    row = tx.one("SELECT id, mime, link_epoch FROM images WHERE deleted_us IS NULL ORDER BY id DESC LIMIT 1")
    return None if row is None else SampleImage(id=row["id"], mime=row["mime"], link_epoch=row["link_epoch"])


def _models_used(tx: Tx) -> tuple[str, ...]:
    since = id_floor("req", time.time_ns() // 1000 - _USED_WITHIN_US)
    rows = tx.all(
        "SELECT DISTINCT model FROM"
        " (SELECT model FROM requests WHERE id >= :since ORDER BY id DESC LIMIT :most) newest",
        since=since,
        most=_LOOKED_AT,
    )
    return tuple(row["model"] for row in rows)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _unreadable(exc.strerror).mended_by(_REMEDIES[sqlite3.SQLITE_CANTOPEN]) from exc
    except (sqlite3.Error, LockTimeout) as exc:
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_BUSY) & 0xFF
        error = translate(exc)
        told = error if isinstance(error, IndexUnavailable) else _unreadable(exc)
        raise told.mended_by(_REMEDIES.get(code, "look at the file, or restore a backup")) from exc


def _unreadable(reason: object) -> IndexUnavailable:
    return IndexUnavailable(f"The index can't be read ({reason}).")
