"""Fixtures of the web room: the official SDK in both its kinds, and proxies with settings of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import async_playwright, expect

from tests.conftest import require
from tests.support.proxy import RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream
from tests.web.calling import AnySdk

ProxyWith = Callable[..., Awaitable[RunningProxy]]
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
expect.set_options(
    timeout=30_000
)  # as long as Playwright waits for all else: a busy machine is slow, and is no fault


@pytest.fixture(params=["sync", "async"])
def sdk(request: pytest.FixtureRequest, proxy: RunningProxy) -> AnySdk:
    """Give the official SDK, once blocking and once not."""
    return AnySdk(proxy, request.param)


@pytest.fixture
async def proxy_with(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[ProxyWith]:
    """Serve proxies with settings of their own (sections as keywords) until the test ends."""
    async with AsyncExitStack() as running:

        async def start(upstream_url: str | None = None, **sections: Any) -> RunningProxy:
            url = upstream_url or upstream.base_url
            return await running.enter_async_context(run_proxy(tmp_path / "data", url, **sections))

        yield start


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take the waits out of sending again; gives the list of resends that were thought of."""
    thought: list[int] = []

    def backoff_s(resend: int) -> float:
        thought.append(resend)
        return 0.0

    monkeypatch.setattr("pixie_proxy.generation.relaying._backoff_s", backoff_s)
    return thought


@pytest.fixture
async def chromium() -> AsyncIterator[Chromium]:
    executable = require("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        await browser.close()
