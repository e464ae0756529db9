"""The lock file that keeps every process but one from writing or checkpointing the SQLite index.

SQLite 3.7.0 to 3.51.2 can corrupt a database when one connection resets the write-ahead log while another one writes
or checkpoints (sqlite.org/wal.html, "the WAL-reset bug"), so with those versions we never let two do it at once.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_NAP_S = 0.02


class LockTimeout(Exception):
    """Somebody else held the lock all the while."""


class FileLock:
    """An exclusive `flock`. The kernel frees it when its holder dies, so it can't go stale."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        """Open the file, made if it isn't there; waiting for the lock ends after `timeout_s`."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._timeout_s = timeout_s

    def acquire(self) -> None:
        """Take the lock or raise LockTimeout. Blocks: call it on a thread of your own."""
        deadline = time.monotonic() + self._timeout_s
        nap_s = 0.0005
        while not self._try():
            if time.monotonic() >= deadline:
                raise LockTimeout
            time.sleep(nap_s)
            nap_s = min(2 * nap_s, LONGEST_NAP_S)

    def release(self) -> None:
        """Give the lock back."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock inside a `with` block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def close(self) -> None:
        """Close the file, which frees the lock too."""
        os.close(self._descriptor)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
