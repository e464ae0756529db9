"""What a disk must have done before we call something durable: files and the directories that name them, fsynced.

Here are the steps; `ballast` is the room that we hold for ourselves, `watch` looks whether a disk still works.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a disk without room says."""

_PIECE_BYTES = 256 * 1024


class LostWrite(OSError):
    """An fsync failed. What was written may be gone, and a second fsync of the same file would succeed all the same."""


def fsync(descriptor: int) -> None:
    """Make what was written durable. Raises LostWrite: then only another file, written anew, can be trusted."""
    try:
        os.fsync(descriptor)
    except OSError as exc:
        raise LostWrite(*exc.args) from exc


def fsync_directory(path: str | os.PathLike[str]) -> None:
    """Make a directory's entries durable: without it a power cut forgets the name of a file that was fsynced."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, where one `write` may take only a part."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write everything at a place in a file: whoever meets an error may do it again."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)


def write_durably(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a new file and fsync it; the directory is the caller's to fsync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_checked(source: str, target: str, size_bytes: int, sha256: str) -> int:
    """Copy the first bytes of a file into a new one, durably, and return its descriptor.

    Raises OSError (EIO) if they are not what they were: after a failed fsync a file may have lost what it was given.
    """
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    writing = -1
    try:
        writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        digest, at = hashlib.sha256(), 0
        while piece := os.pread(reading, min(_PIECE_BYTES, size_bytes - at), at):
            digest.update(piece)
            write_at(writing, piece, at)
            at += len(piece)
        fsync(writing)
        if digest.hexdigest() != sha256:
            raise OSError(errno.EIO, "a file does not read as it was written", source)
    except BaseException:
        if writing >= 0:
            os.close(writing)
        raise
    finally:
        os.close(reading)
    return writing


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
                raise LostWrite(errno.EIO, "an fsync of this directory failed", path)
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
