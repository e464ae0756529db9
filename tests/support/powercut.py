"""A file system of its own, whose power a test can cut: what was not flushed to it is gone."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from tests.conftest import require

FileSystem = Literal["ext4", "xfs"]

_SHUT_DOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are the same number."""
_WITHOUT_LOG_FLUSH = struct.pack("I", 2)
_IMAGE_BYTES = 4 * 1024**3  # sparse; a proxy refuses calls where there is little room


class Disk:
    """A loop-mounted file system at `path`."""

    def __init__(self, folder: Path, kind: FileSystem) -> None:
        """Make and mount one; the test is skipped where that is not permitted."""
        self.path = folder / "mounted"
        self.path.mkdir()
        self._image = folder / "image"
        with self._image.open("wb") as image:
            image.truncate(_IMAGE_BYTES)
        subprocess.run([require(f"mkfs.{kind}"), "-q", str(self._image)], check=True)
        problem = self._try_mount()
        if problem:
            pytest.skip(f"power cuts need loop mounts, and they are not permitted here: {problem}")

    def cut_power(self) -> None:
        """Stop the file system at once: nothing that waits in memory reaches it any more, the journal's end neither."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUT_DOWN, _WITHOUT_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def remount(self) -> None:
        """Turn the power on again; the journal is replayed. Nobody may have a file open."""
        self.unmount()
        problem = self._try_mount()
        assert not problem, problem

    def unmount(self) -> None:
        deadline = time.monotonic() + 10
        while subprocess.run(["umount", str(self.path)], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.02)  # the kernel closes a killed process's files after its parent has heard of it

    def _try_mount(self) -> str:
        mounted = subprocess.run(
            ["mount", "-o", "loop", str(self._image), str(self.path)],
            capture_output=True,
            text=True,
            check=False,
        )
        return mounted.stderr.strip() if mounted.returncode else ""


@contextmanager
def disk(folder: Path, kind: FileSystem) -> Iterator[Disk]:
    """Mount a file system for a test."""
    made = Disk(folder, kind)
    try:
        yield made
    finally:
        made.unmount()
