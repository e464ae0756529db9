"""Disks of their own for tests: small ones that fill up, that are taken away, or that become read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import require

MEGABYTE = 1024 * 1024
_CAP_SYS_ADMIN = 21


def may_mount() -> bool:
    """Tell whether this process has the right to mount; in most containers root has not."""
    status = Path("/proc/self/status")
    if not status.exists():
        return False
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("CapEff:")]
    return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    """Mount a disk of this size at `path`. Without the right to, the test is skipped, and says so."""
    if not may_mount():
        pytest.skip("needs the right to mount (CAP_SYS_ADMIN)")
    path.mkdir(parents=True, exist_ok=True)
    mount = require("mount")
    subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "pixie-test", path], check=True
    )
    try:
        yield path
    finally:
        subprocess.run([require("umount"), "--lazy", path], check=False, capture_output=True)


def remount(path: Path, options: str) -> None:
    """Change how a disk is mounted: `ro`, `rw`, or another size."""
    subprocess.run([require("mount"), "-o", f"remount,{options}", path], check=True)


def fill(path: Path, *, leave_bytes: int = 0) -> None:
    """Use up a disk's room by a file of somebody else's, down to the last block; `unfill` gives it back."""
    with (path / "others").open("ab", buffering=0) as file:
        while (free := _free_bytes(path) - leave_bytes) > 0:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), min(free, 64 * MEGABYTE))
            except OSError:  # somebody took it first
                break


def unfill(path: Path) -> None:
    """Give the room back that `fill` took."""
    (path / "others").unlink()


def _free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
