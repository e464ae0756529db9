"""Packages of npm that tests need, installed once for each user of this machine."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import require


def node_modules(*packages: str) -> Path:
    """Give a folder `node_modules` that holds these packages; where npm can't fetch them, the test is skipped."""
    require("npm")
    cache = Path(tempfile.gettempdir()) / f"pixie-test-node-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    assert cache.stat().st_uid == os.getuid(), f"{cache} is somebody else's"
    modules = cache / "-".join(packages) / "node_modules"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not modules.is_dir():
            _install(packages, modules.parent)
    return modules


def _install(packages: Sequence[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, ignore_cleanup_errors=True) as made:
        (Path(made) / "package.json").write_text("{}")
        try:
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *packages],
                cwd=made,
                capture_output=True,
                timeout=120,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
            if os.environ.get("PIXIE_TEST_REQUIRE") == "all":
                pytest.fail(f"npm can't install {packages}: {exc.stderr!r}")
            pytest.skip(f"npm can't install {packages}")
        Path(made).rename(target)
