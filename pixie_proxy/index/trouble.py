"""SQLite's trouble with its disk and its locks: what a client reads of it, and what the disk is told."""

from __future__ import annotations

import errno
import sqlite3

from pixie_proxy.errors import IndexUnavailable
from pixie_proxy.index.lock import LockTimeout

ADVICE = {
    sqlite3.SQLITE_BUSY: "The index is locked by another program. Try again in a few seconds.",
    sqlite3.SQLITE_LOCKED: "The index is locked by another program. Try again in a few seconds.",
    sqlite3.SQLITE_FULL: "The disk of the index is full. Try again when the admin has freed some room.",
    sqlite3.SQLITE_READONLY: "The index is read-only. Try again when the admin has mended its permissions.",
    sqlite3.SQLITE_PERM: "The index may not be opened. Try again when the admin has mended its permissions.",
    sqlite3.SQLITE_CANTOPEN: "The index can't be opened. Try again when the admin has looked at its folder.",
    sqlite3.SQLITE_IOERR: "The disk of the index fails. Try again when the admin has looked at the log.",
    sqlite3.SQLITE_CORRUPT: "The index is damaged. The admin must restore a backup of it.",
    sqlite3.SQLITE_NOTADB: "The index is no SQLite database. The admin must restore a backup of it.",
    sqlite3.SQLITE_NOMEM: "The index has no memory left. Try again in a few seconds.",
    sqlite3.SQLITE_PROTOCOL: "The index is locked by another program. Try again in a few seconds.",
    sqlite3.SQLITE_INTERRUPT: "Reading the index took too long and was given up. Ask for less, or try again later.",
}
"""What a client reads when SQLite can't work; every other error is the work's own, or a fault of ours."""

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_ERRNO = {
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.ENOENT,
}
"""What SQLite's trouble would be called by the disk that it had it with."""


def unavailable(message: str, cause: BaseException | None = None) -> IndexUnavailable:
    """Make the error that a client gets; the cause is for the log only."""
    error = IndexUnavailable(message, headers={"retry-after": "5"})
    error.__cause__ = cause
    return error


def translate(exc: BaseException) -> BaseException:
    """Turn SQLite's trouble with its disk or its locks into `IndexUnavailable`; leave all else as it is."""
    if isinstance(exc, LockTimeout):
        return unavailable(ADVICE[sqlite3.SQLITE_BUSY], exc)
    if isinstance(exc, sqlite3.Error):
        code = getattr(exc, "sqlite_errorcode", 0)
        advice = ADVICE.get(sqlite3.SQLITE_FULL if code in _FULL else code & 0xFF)
        return exc if advice is None else unavailable(advice, exc)
    if isinstance(exc, StopIteration):  # asyncio refuses this one in a future
        return RuntimeError("a work raised StopIteration")
    return exc


def disk_error(error: BaseException | None) -> OSError | None:
    """Say as an error of the disk's what went wrong behind a caller's error; None if that was no disk's fault."""
    cause = error.__cause__ if isinstance(error, IndexUnavailable) else error
    code = getattr(cause, "sqlite_errorcode", 0)
    number = errno.ENOSPC if code in _FULL else _ERRNO.get(code & 0xFF)
    return None if number is None else OSError(number, f"SQLite error {code}")
