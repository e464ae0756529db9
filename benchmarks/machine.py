"""On what a run was made: without it a figure means nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks.processes import ROOT
from benchmarks.result import median

QUIET_PERCENT = 15
_PACKAGES = ("aiohttp", "uvloop", "aiosqlite", "orjson", "pybase64", "pydantic", "pillow", "pixie_proxy")


def describe(folder: Path) -> dict[str, Any]:
    """Name processor, kernel, versions and the disk that `folder` is on; no paths and no host names."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "nginx": _said("nginx", "-v").rpartition("/")[2],
        "packages": {name: found for name in _PACKAGES if (found := _installed(name))},
        "filesystem": filesystem(folder),
    }


class Unrest:
    """What else went on while a block ran; `seen` tells. The kernel's own work (writing back, softirqs) counts in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seen: dict[str, float] = {}

    def wait(self, timeout_s: float) -> None:
        """Wait until the machine is quiet, but not for ever."""
        deadline = time.monotonic() + timeout_s
        while psutil.cpu_percent(0.5) > QUIET_PERCENT and time.monotonic() < deadline:
            pass

    def __enter__(self) -> Self:
        self.seen["fsync_p50_ms"] = round(_fsync_p50_ms(self._folder), 3)
        self._started = (time.monotonic(), _busy_s(), _own_s())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall, busy, own = self._started
        wall, busy, own = time.monotonic() - wall, _busy_s() - busy, _own_s() - own
        others = (busy - own) / (wall * (os.cpu_count() or 1))
        self.seen["others_percent"] = round(max(0.0, others) * 100, 1)


def _busy_s() -> float:
    """Add up what all cores worked since the machine started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _own_s() -> float:
    """Add up what we and our children worked, those that ended included."""
    ours = os.times()
    total = ours.user + ours.system + ours.children_user + ours.children_system
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def filesystem(folder: Path) -> str:
    """Name the kind of file system that a folder is on."""
    mounts = psutil.disk_partitions(all=True)
    ours = [mount for mount in mounts if folder.resolve().is_relative_to(mount.mountpoint)]
    return max(ours, key=lambda mount: len(mount.mountpoint)).fstype if ours else "unknown"


def commit(*measured: str) -> tuple[str, bool]:
    """Tell the commit of the work tree, and whether the paths that are `measured` differ from it."""
    short = _said("git", "-C", str(ROOT), "rev-parse", "--short=10", "HEAD") or "unknown"
    return short, bool(_said("git", "-C", str(ROOT), "status", "--porcelain", "--", *measured))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _fsync_p50_ms(folder: Path) -> float:
    """Write 20 kB and fsync it, fifty times: what durability costs here at the least."""
    took = []
    path = folder / "fsync"
    for _ in range(50):
        started = time.perf_counter()
        with path.open("wb", buffering=0) as file:
            file.write(b"\0" * 20_000)
            os.fsync(file.fileno())
        took.append((time.perf_counter() - started) * 1000)
    path.unlink()
    return median(took)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _said(*command: str) -> str:
    """Run a command and return what it wrote; nginx gives its version on stderr."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip() if done.returncode == 0 else ""
