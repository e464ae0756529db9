"""What every test may ask for: a scripted upstream, and a real proxy in front of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.proxy import RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream

ProxyFactory = Callable[..., AbstractAsyncContextManager[RunningProxy]]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """Serve a scripted upstream on a port of its own."""
    async with ScriptedUpstream() as server:
        yield server


@pytest.fixture
async def proxy(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[RunningProxy]:
    """Serve a proxy in this process, in front of the scripted upstream, with its data in `tmp_path`."""
    async with run_proxy(tmp_path / "data", upstream.base_url) as running:
        yield running


class RecordFigure(Protocol):
    """Record what a test found out about a statement."""

    def __call__(self, statement: str, **figures: float | str) -> None:
        """Give `statement` as its id (R12)."""


@pytest.fixture
def record_figure() -> RecordFigure:
    """Record nothing yet."""

    def record(statement: str, **figures: float | str) -> None:
        pass

    return record


def require(program: str) -> str:
    """Find a program that a test needs; without it the test is skipped, or fails where PIXIE_TEST_REQUIRE=all."""
    found = shutil.which(program)
    if found is None:
        if os.environ.get("PIXIE_TEST_REQUIRE") == "all":
            pytest.fail(f"{program} is needed (PIXIE_TEST_REQUIRE=all)")
        pytest.skip(f"{program} is not installed")
    return found
