"""What a disk must have done before we call something durable: files and the directories that name them, fsynced."""

from __future__ import annotations

import errno
import os
import threading


def fsync_directory(path: str | os.PathLike[str]) -> None:
    """Make a directory's entries durable: without it a power cut forgets the name of a file that was fsynced."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, where one `write` may take only a part."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def write_durably(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a new file and fsync it; the directory is the caller's to fsync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SharedSync:
    """Fsyncs directories that many threads add entries to: those who wait together share one fsync."""

    def __init__(self) -> None:
        """Know no directory yet."""
        self._directories: dict[str, _Turns] = {}

    def __call__(self, path: str) -> None:
        """Return once an fsync of `path` that began after this call has ended."""
        turns = self._directories.get(path) or self._directories.setdefault(path, _Turns())
        with turns.counting:
            turns.asked += 1
            mine = turns.asked
        with turns.syncing:
            if turns.failed_after < mine <= turns.failed:
                raise OSError(errno.EIO, "an fsync of this directory failed", path)
            if turns.done >= mine:
                return
            covered = turns.asked
            try:
                fsync_directory(path)
            except OSError:
                # The kernel tells a lost write once: a second fsync would succeed for those who wait with us.
                turns.failed_after, turns.failed = turns.done, covered
                raise
            turns.done = covered


class _Turns:
    """How many fsyncs of a directory were asked for, and up to which of them one has been done."""

    __slots__ = ("asked", "counting", "done", "failed", "failed_after", "syncing")

    def __init__(self) -> None:
        self.asked = self.done = self.failed = self.failed_after = 0
        self.counting = threading.Lock()
        self.syncing = threading.Lock()
