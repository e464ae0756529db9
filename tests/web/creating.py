"""What a person does on the create page, and an upstream that makes images in stages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, Locator, Page

from tests.support.pictures import png
from tests.support.proxy import RunningProxy
from tests.support.upstream import Step, body, head, image_sse_events, pause
from tests.web.test_browser import SIZES, signed_in

EVENTS = (("Content-Type", "text/event-stream"),)


def staged(gate: asyncio.Event) -> list[Step]:
    """Give the script of one image: a partial image at once, the image itself once `gate` is open."""
    partial, completed = image_sse_events([png(64, 64, seed=7)], partials=1)
    return [head(200, EVENTS, "chunked"), body(partial), pause(gate), body(completed)]


@asynccontextmanager
async def person(
    chromium: Chromium, url: str, size: str = "desk", **options: Any
) -> AsyncIterator[tuple[BrowserContext, Page]]:
    """Sign in with a browser in which requests may be refused and broken; what no script expects fails the test."""
    width, height = SIZES[size]
    context = await chromium.new_context(viewport={"width": width, "height": height}, base_url=url, **options)
    faults: list[str] = []
    context.on("weberror", lambda error: faults.append(str(error.error)))
    page = await context.new_page()
    await signed_in(page)
    yield context, page
    assert faults == []
    await context.close()


async def opened(page: Page, query: str = "") -> None:
    """Open the create page, and return once it can be used."""
    await page.goto(f"/create{query}")
    await page.locator("#controls:enabled").wait_for()


async def ask(page: Page, prompt: str) -> None:
    """Write a prompt, and press Make."""
    await page.get_by_label("Prompt", exact=True).fill(prompt)
    await page.get_by_role("button", name="Make", exact=True).click()


def job(page: Page, state: str) -> Locator:
    """Give the newest job that stands so."""
    return page.locator(f'.job[data-state="{state}"]').first


async def images_are(proxy: RunningProxy, count: int) -> bool:
    """Tell whether so many images are in the gallery."""
    return len((await proxy.get("/v1/images"))["data"]) == count
