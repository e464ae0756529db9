"""How much each page weighs, whether it holds still while it loads, and what it is on a slow line."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, Response, StorageState

from tests.support.proxy import ADMIN_KEY, MEMBER_KEY
from tests.support.upstream import ScriptedUpstream
from tests.web.conftest import ProxyWith
from tests.web.test_browser import AT_EVERY_SIZE, SIZES, signed_in
from tests.web.touring import OPEN_GALLERY, Furnished, furnish

pytestmark = pytest.mark.xdist_group("browser")
PAGE_BYTES = 100_000
SHIFT = 0.02
SLOW = {"latency": 400, "downloadThroughput": 400_000 / 8, "uploadThroughput": 400_000 / 8, "offline": False}
"""What browsers call slow 3G: 400 kbit/s, and 400 ms to and fro."""
USABLE_S = 6.0

_SHIFTED = """() => new Promise((done) => { let sum = 0;
  new PerformanceObserver((list) => {
    for (const each of list.getEntries()) if (!each.hadRecentInput) sum += each.value;
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(sum), 300); })"""
"""How far what was seen has moved (CLS), until everything is there."""


PAGES = {
    "sign-in": ("/login", None, "#key"),
    "wall": ("/", MEMBER_KEY, "#picking"),
    "image": ("/images/{own}", MEMBER_KEY, "#like"),
    "create": ("/create", MEMBER_KEY, "#controls:enabled .make"),
    "usage": ("/usage", MEMBER_KEY, ".chip"),
    "admin": ("/admin", ADMIN_KEY, ".lamp"),
    "people": ("/admin/people", ADMIN_KEY, "#add-person:enabled"),
    "shared": ("{share}", None, ".button"),
    "public": ("/public", None, ".tile"),
}
"""Where each page is, who may see it, and a control that tells that it can be used."""


@AT_EVERY_SIZE
async def test_pages_are_light_and_hold_still(
    chromium: Chromium, proxy_with: ProxyWith, upstream: ScriptedUpstream, size: str
) -> None:
    """With nothing in the browser's cache: bytes before images, and how far anything moves while it comes."""
    at = await furnish(await proxy_with(gallery=OPEN_GALLERY), upstream)
    too_much: list[str] = []
    async for name, page, path, control in _opened(chromium, at, size):
        weight = await _weigh(page, path, control)
        shift = await page.evaluate(_SHIFTED)
        print(f"{name}: {weight} bytes, moves {shift:.3f}")
        if weight > PAGE_BYTES or shift >= SHIFT:
            too_much.append(f"{name}: {weight} bytes, moves {shift:.3f}")
    assert not too_much


@pytest.mark.torture
async def test_pages_can_be_used_on_a_slow_line(
    chromium: Chromium, proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """Scripts have run and controls are ready, on a phone with 400 kbit/s that comes for the first time."""
    at = await furnish(await proxy_with(gallery=OPEN_GALLERY), upstream)
    too_slow: list[str] = []
    async for name, page, path, control in _opened(chromium, at, "phone"):
        wire = await page.context.new_cdp_session(page)
        await wire.send("Network.enable")
        await wire.send("Network.emulateNetworkConditions", SLOW)
        begun = time.monotonic()
        await page.goto(path, wait_until="domcontentloaded")
        await page.locator(control).first.wait_for()
        took_s = time.monotonic() - begun
        print(f"{name}: {took_s:.1f} s")
        if took_s > USABLE_S:
            too_slow.append(f"{name}: {took_s:.1f} s")
    assert not too_slow


async def _opened(chromium: Chromium, at: Furnished, size: str) -> AsyncIterator[tuple[str, Page, str, str]]:
    """Give each page's name, a new browser of somebody who may see it, its path and its control."""
    width, height = SIZES[size]
    cookies: dict[str | None, StorageState] = {None: {}}
    for name, (path, key, control) in PAGES.items():
        if key not in cookies:
            async with _browser(chromium, at, width, height, {}) as page:
                await signed_in(page, key or "")
                cookies[key] = await page.context.storage_state()
        async with _browser(chromium, at, width, height, cookies[key]) as page:
            yield name, page, path.format(own=at.own, share=at.share), control


@asynccontextmanager
async def _browser(
    chromium: Chromium, at: Furnished, width: int, height: int, state: StorageState
) -> AsyncIterator[Page]:
    context = await chromium.new_context(
        viewport={"width": width, "height": height},
        base_url=at.proxy.url,
        service_workers="block",
        storage_state=state,
    )
    page = await context.new_page()
    yield page
    await context.close()


async def _weigh(page: Page, path: str, control: str) -> int:
    """Load a page, and give the bytes of everything but images as they went over the wire."""
    answers: list[Response] = []

    def keep(answer: Response) -> None:
        answers.append(answer)

    page.on("response", keep)
    await page.goto(path)
    await page.locator(control).first.wait_for()
    await page.wait_for_load_state("networkidle")
    total = 0
    for answer in answers:
        if answer.request.resource_type != "image":
            sizes = await answer.request.sizes()
            total += sizes["responseBodySize"] + sizes["responseHeadersSize"]
    return total
