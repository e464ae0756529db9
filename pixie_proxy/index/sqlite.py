"""Keep the index in one SQLite file: one connection that writes, a few that read and never wait for it.

`synchronous` is FULL because NORMAL lost 547 of 3,000 acknowledged commits in a power cut (`guarantees.md`, M1), FULL
none; `batch` makes up for its price.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TypeVar

from pixie_proxy.disk.watch import Disk
from pixie_proxy.errors import ConfigError, IndexUnavailable
from pixie_proxy.index import Tx, search
from pixie_proxy.index.batch import BatchConnection
from pixie_proxy.index.bounds import ReadLimit, WriteAheadLog
from pixie_proxy.index.lane import Lane
from pixie_proxy.index.lock import FileLock, LockTimeout
from pixie_proxy.index.migrate import schema_version, upgrade
from pixie_proxy.index.rewriting import rewrite
from pixie_proxy.index.trouble import translate, unavailable

T = TypeVar("T")

WAL_RESET_FIXED = (3, 51, 3)
"""Older versions may corrupt the file when two connections write or checkpoint at once; see `lock`."""

LARGEST_BATCH = 256
JOURNAL_SIZE_LIMIT_BYTES = 64 * 1024 * 1024

PRAGMAS: dict[str, tuple[str, object]] = {
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    "mmap_size": ("0", 0),
    "foreign_keys": ("ON", 1),
    "temp_store": ("MEMORY", 2),
    "journal_size_limit": (str(JOURNAL_SIZE_LIMIT_BYTES), JOURNAL_SIZE_LIMIT_BYTES),
}
"""What the writing connection must run with: the setting, and what SQLite answers when it holds."""

Guard = Callable[[], AbstractContextManager[None]]

READER_PRAGMAS: dict[str, tuple[str, object]] = {
    "query_only": ("ON", 1),
    "mmap_size": ("0", 0),
    "temp_store": ("MEMORY", 2),
}


class SqliteIndex:
    """The index in a SQLite file: one connection that writes, a few that read."""

    def __init__(
        self,
        writer: BatchConnection,
        readers: Sequence[BatchConnection],
        lock: FileLock,
        guard: Guard,
        log: WriteAheadLog,
        path: Path,
    ) -> None:
        """Take over open connections, the lock, and `guard`, which holds it where this SQLite needs that."""
        self._path = path
        self._writer = writer
        self._readers = readers
        self._lock = lock
        self._guard = guard
        self._log = log
        self._log_keeper: asyncio.Task[bool] | None = None
        self._writes = Lane([writer], LARGEST_BATCH)
        self._reads = Lane(readers, 1)

    @property
    def spans_hosts(self) -> bool:
        """No: a file is this host's alone."""
        return False

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` as one transaction; return its result once that is durable."""
        if self._log_keeper is not None and self._log.is_huge:
            await asyncio.wait({self._log_keeper})
        result: T = await self._writes.submit(work)
        if self._log_keeper is None and self._log.is_due:
            _ = self._keep_log()
        return result

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on a free reading connection, in one snapshot."""
        result: T = await self._reads.submit(work)
        return result

    async def scrub(self) -> None:
        """Forget words of removed images, write the database anew, then empty the log: for that our readers pause."""
        is_first = True
        while await self.write(partial(search.scrub, is_first=is_first)):
            is_first = False
        while self._log_keeper is not None:
            await asyncio.wait({self._log_keeper})
        if not await asyncio.shield(self._keep_log(rewrites=True)):
            raise unavailable("another program reads the index, so that its log can't be emptied.")

    @property
    def log_bytes(self) -> int:
        """Ask the file system."""
        return self._log.size_bytes

    def _keep_log(self, *, rewrites: bool = False) -> asyncio.Task[bool]:
        self._log_keeper = asyncio.create_task(self._start_log_anew(rewrites=rewrites), name="index log")
        return self._log_keeper

    async def _start_log_anew(self, *, rewrites: bool) -> bool:
        """Let our own readers pause for it: writers go on until the last one has ended, or the log is huge."""
        try:
            if rewrites:
                await self._writer.hop(self._writer.with_connection, rewrite, self._path, self._guard)
            async with self._reads.paused():
                return await self._writer.hop(self._writer.with_connection, self._log.start_anew, self._guard)
        finally:
            self._log_keeper = None

    async def close(self) -> None:
        """Finish what was accepted, then close. Who closes last checkpoints, so that happens under the lock.

        If the lock can't be had, the readers stay until the writer is gone: then nobody checkpoints (they can't write),
        and the next start finds everything in the write-ahead log.
        """
        await self._writes.close()
        if self._log_keeper is not None:
            await asyncio.wait({self._log_keeper})
        await self._reads.close()
        if not self._writer.is_open:
            return
        try:
            await self._writer.hop(self._lock.acquire)
            in_order = [*self._readers, self._writer]
        except LockTimeout:
            in_order = [self._writer, *self._readers]
        for connection in in_order:
            await connection.close()
        self._lock.close()


async def open_sqlite(
    path: Path,
    *,
    lock_path: Path,
    readers: int = 2,
    busy_timeout_ms: int = 5000,
    disk: Disk | None = None,
    read_limit_s: float | None = None,
) -> SqliteIndex:
    """Open the index, made or migrated if need be. `disk` is where it lies: it is told of faults, and asked for room.

    A read that takes longer than `read_limit_s` is ended with IndexUnavailable.
    Raises ConfigError for a setting that does not hold or a file from a newer version, else `IndexUnavailable`.
    """
    try:
        lock = FileLock(lock_path, busy_timeout_ms / 1000)
    except OSError as exc:
        raise unavailable(f"{lock_path}: {exc.strerror}", exc) from exc
    guard: Guard = lock.hold if sqlite3.sqlite_version_info < WAL_RESET_FIXED else nullcontext

    def connect_writer() -> sqlite3.Connection:
        with lock.hold():
            _create_private(path)
            return _connect(
                path, "rw", PRAGMAS, busy_timeout_ms, lambda connection: upgrade(connection, path)
            )

    def reader() -> BatchConnection:
        limit = nullcontext() if read_limit_s is None else ReadLimit(read_limit_s)

        def connect() -> sqlite3.Connection:
            connection = _connect(path, "ro", READER_PRAGMAS, busy_timeout_ms, schema_version)
            if isinstance(limit, ReadLimit):
                limit.install(connection)
            return connection

        return BatchConnection(connect, "BEGIN", lambda: limit)

    writer = BatchConnection(connect_writer, "BEGIN IMMEDIATE", guard, disk)
    reading = [reader() for _ in range(readers)]
    index = SqliteIndex(writer, reading, lock, guard, WriteAheadLog(path), path)
    try:
        for connection in (writer, *reading):
            await connection.open()
    except BaseException as exc:
        if writer.is_open:
            await index.close()
        else:
            lock.close()
        error = translate(exc)
        if isinstance(error, IndexUnavailable):
            raise unavailable(f"{path}: {error.message} ({exc})", exc) from exc
        raise
    return index


def integrity_fault(path: Path) -> str | None:
    """Read a whole index, and give the first thing that is wrong with it. Raises `IndexUnavailable`."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as exc:
        if getattr(exc, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return str(exc)
        raise unavailable(f"{path}: {exc}", exc) from exc
    return None if found == "ok" else str(found)


def _create_private(path: Path) -> None:
    """Make the file readable by its owner only; SQLite gives the log beside it the same mode.

    An existing file must not be opened here: closing it again would drop the locks that SQLite holds on it.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as exc:
        raise unavailable(f"{exc.strerror}", exc) from exc


def _connect(
    path: Path,
    mode: str,
    pragmas: dict[str, tuple[str, object]],
    busy_timeout_ms: int,
    prepare: Callable[[sqlite3.Connection], object],
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        cached_statements=256,
        timeout=busy_timeout_ms / 1000,
    )
    try:
        connection.row_factory = sqlite3.Row
        for name, (setting, _) in pragmas.items():
            connection.execute(f"PRAGMA {name} = {setting}")
        _check(connection, pragmas | {"busy_timeout": ("", busy_timeout_ms)})
        prepare(
            connection
        )  # a first read: only from then on does SQLite count the connection among its users
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, pragmas: dict[str, tuple[str, object]]) -> None:
    """Ask SQLite what it really runs with: a setting that it can't keep is ignored without a word."""
    for name, (_, expected) in pragmas.items():
        row = connection.execute(f"PRAGMA {name}").fetchone()
        found = row[0] if row is not None else 0  # mmap_size has no answer where it was compiled out
        if found != expected:
            problem = f"index: SQLite runs with {name} = {found}, it must be {expected}"
            raise ConfigError(f"{problem}: put the data directory on a local disk")
