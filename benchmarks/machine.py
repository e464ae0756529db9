"""On what a run was made: without it a figure means nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import ROOT
from benchmarks.result import median

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


def unrest(folder: Path) -> dict[str, float]:
    """Look at what else goes on: how busy the cores are while we rest, and how long an fsync takes just now."""
    return {"busy_percent": psutil.cpu_percent(0.5), "fsync_p50_ms": round(_fsync_p50_ms(folder), 3)}


def filesystem(folder: Path) -> str:
    """Name the kind of file system that a folder is on."""
    mounts = psutil.disk_partitions(all=True)
    ours = [mount for mount in mounts if folder.resolve().is_relative_to(mount.mountpoint)]
    return max(ours, key=lambda mount: len(mount.mountpoint)).fstype if ours else "unknown"


def commit() -> tuple[str, bool]:
    """Tell the commit of the work tree, and whether the package or the benchmarks differ from it."""
    short = _said("git", "-C", str(ROOT), "rev-parse", "--short=10", "HEAD") or "unknown"
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--", "pixie_proxy", "benchmarks/*.py")
    return short, bool(changed)


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
