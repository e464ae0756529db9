"""What keeps the index within bounds: reads that end in time, and a write-ahead log that starts anew.

SQLite starts its log anew when nobody reads from it. Two reading connections that are always busy leave no such moment,
so the log would grow for as long as they are; and one read without an end would be enough.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from pixie_proxy.index.lock import LockTimeout

log = logging.getLogger(__name__)

LARGE_LOG_BYTES = 64 * 1024 * 1024
"""From this size on the log is to start anew. SQLite copies it into the database all the while."""

_HUGE_LOGS = 3
"""When it is so many times that size, writers wait for it, too: one read may last for seconds, and writers are fast."""
_LOOK_EVERY_S = 1.0
_AGAIN_AFTER_S = 10.0
_FOREIGN_WAIT_MS = 200
"""How long writers stand still for the readers of other processes, which we can't ask to wait."""

_STEPS = 20_000
"""Steps of SQLite's machine between two looks at the clock: about a millisecond, and the looks cost nothing."""


class ReadLimit:
    """Ends what a connection reads for too long, with SQLITE_INTERRUPT. Enter it around each transaction."""

    def __init__(self, limit_s: float) -> None:
        """Give each transaction so long."""
        self._limit_s = limit_s
        self._ends_at = float("inf")

    def install(self, connection: sqlite3.Connection) -> None:
        """Watch over this connection."""
        connection.set_progress_handler(self._is_over, _STEPS)

    def __enter__(self) -> None:
        """Begin to count."""
        self._ends_at = time.monotonic() + self._limit_s

    def __exit__(self, *_: object) -> None:
        """Let SQLite close and roll back in peace."""
        self._ends_at = float("inf")

    def _is_over(self) -> bool:
        return time.monotonic() > self._ends_at


class WriteAheadLog:
    """The log beside a database file."""

    def __init__(self, path: Path) -> None:
        """Know the log of the database at `path`."""
        self._path = f"{path}-wal"
        self._look_at = float("-inf")
        self._is_told = False

    @property
    def is_due(self) -> bool:
        """Whether it should start anew now; a look at the file, once a second."""
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_EVERY_S
        return self.size_bytes > LARGE_LOG_BYTES

    @property
    def is_huge(self) -> bool:
        """Whether it grows faster than our readers come to their ends."""
        return self.size_bytes > _HUGE_LOGS * LARGE_LOG_BYTES

    @property
    def size_bytes(self) -> int:
        """Ask the file system."""
        with suppress(FileNotFoundError):
            return os.stat(self._path).st_size  # noqa: PTH116 - of every commit
        return 0

    def start_anew(
        self, connection: sqlite3.Connection, guard: Callable[[], AbstractContextManager[None]]
    ) -> bool:
        """Bring all of it into the database and empty it. Blocks, on the thread of the writing connection.

        Another process that reads can prevent it: then this is False, and it is tried again a little later.
        """
        (patience_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {_FOREIGN_WAIT_MS}")
        try:
            with guard():
                is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except (sqlite3.Error, LockTimeout):
            is_busy = True
        finally:
            connection.execute(f"PRAGMA busy_timeout = {patience_ms:d}")
        if not is_busy:
            self._is_told = False
            return True
        self._look_at = time.monotonic() + _AGAIN_AFTER_S
        if self.is_huge and not self._is_told:
            self._is_told = True
            log.warning("the log of the index grows: another program reads the index and does not end")
        return False
