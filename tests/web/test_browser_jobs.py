"""Jobs of the create page in a real browser: tabs that close, networks that break, limits that refuse.

What the upstream was asked for is counted where it arrives: at the scripted upstream, which also counts what it bills.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from tests.support.faulty import FaultRelay
from tests.support.pictures import png
from tests.support.proxy import OTHER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, body, head, image_sse_events
from tests.support.waiting import eventually
from tests.web.conftest import ProxyWith
from tests.web.creating import EVENTS, ask, images_are, job, opened, person, staged
from tests.web.test_browser import shoot

pytestmark = pytest.mark.xdist_group("browser")


async def test_a_tab_that_closes_loses_nothing_and_buys_nothing_twice(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Closed in the middle and opened again: the same call goes on here. Ended meanwhile: it is simply there."""
    gate, late = asyncio.Event(), asyncio.Event()
    upstream.script(staged(gate))
    upstream.script(staged(late))
    async with person(chromium, proxy.url) as (context, page):
        await opened(page)
        await ask(page, "a cat")
        await page.locator('.frame img[src^="blob:"]').wait_for()
        other = await context.new_page()
        await opened(other)
        await expect(job(other, "elsewhere")).to_contain_text("Another tab")
        await page.close()
        await job(other, "running").wait_for()  # it was given on
        await other.close()
        third = await context.new_page()
        await opened(third)
        await job(third, "running").wait_for()
        gate.set()
        await job(third, "done").locator('a[href^="/images/img_"]').wait_for()
        assert (upstream.charged, len(upstream.requests)) == (1, 1)

        await ask(third, "a dog")
        await job(third, "running").locator('img[src^="blob:"]').wait_for()
        await third.close()
        late.set()
        await eventually(lambda: images_are(proxy, 2))
        fourth = await context.new_page()
        await opened(fourth)
        await expect(fourth.locator('.job[data-state="done"] a[href^="/images/img_"]')).to_have_count(2)
        assert (upstream.charged, len(upstream.requests)) == (2, 2)

        await fourth.get_by_role("button", name="Sign out").click()
        await fourth.wait_for_url("**/login")
        await fourth.get_by_label("API key").fill(OTHER_KEY)
        await fourth.keyboard.press("Enter")
        await fourth.wait_for_url("**/")
        await opened(fourth)
        assert await fourth.locator(".job").count() == 0


async def test_a_double_click_buys_once(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Nor does a key that is held, on the button or in a field; a click after the other's time is another order."""
    upstream.default([head(200, EVENTS, "chunked"), *map(body, image_sse_events([png(64, 64)]))])
    async with person(chromium, proxy.url) as (_, page):
        await opened(page)
        make = page.get_by_role("button", name="Make", exact=True)
        await page.get_by_label("Prompt", exact=True).fill("a cat")
        await make.dblclick()
        await job(page, "done").wait_for()
        await job(page, "done").get_by_role("button", name="Make again").dblclick()
        await expect(page.locator('.job[data-state="done"]')).to_have_count(2)
        await make.focus()
        for _ in range(3):
            await page.keyboard.down("Enter")  # which comes again as a key that is held does
        await page.keyboard.up("Enter")
        await expect(page.locator('.job[data-state="done"]')).to_have_count(3)
        await page.get_by_label("Prompt", exact=True).focus()
        await page.keyboard.down("Control")
        for _ in range(3):
            await page.keyboard.down("Enter")
        await page.keyboard.up("Enter")
        await page.keyboard.up("Control")
        await expect(page.locator('.job[data-state="done"]')).to_have_count(4)
        assert (upstream.charged, len(upstream.requests)) == (4, 4)


async def test_a_network_that_breaks_and_returns(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """The job waits, says so, and joins its call by itself; stopped watching, it ends in the gallery all the same."""
    gate, second = asyncio.Event(), asyncio.Event()
    upstream.script(staged(gate))
    upstream.script(staged(second))
    async with FaultRelay(proxy.url) as network, person(chromium, network.url) as (_, page):
        await opened(page)
        await ask(page, "a cat")
        await page.locator('.frame img[src^="blob:"]').wait_for()
        async with network.away():
            network.drop()
            await expect(job(page, "waiting")).to_contain_text("Asking again in")
            assert await page.get_by_role("button", name="Cancel").count() == 0  # it may well be running
        await job(page, "running").wait_for()
        gate.set()
        await job(page, "done").locator("a").first.wait_for()
        assert (upstream.charged, len(upstream.requests)) == (1, 1)

        await ask(page, "a dog")
        await job(page, "running").locator('img[src^="blob:"]').wait_for()
        await page.get_by_role("button", name="Stop watching").click()
        await expect(job(page, "left")).to_contain_text("is paid for, and will be in the gallery")
        second.set()
        await eventually(lambda: images_are(proxy, 2))
        await page.get_by_role("button", name="Watch again").click()
        await expect(page.locator('.job[data-state="done"]')).to_have_count(2)
        assert (upstream.charged, len(upstream.requests)) == (2, 2)


async def test_limits_are_waited_for_and_budgets_told(
    chromium: Chromium, proxy_with: ProxyWith, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """One call at a time: the second counts down and can be dropped, the third goes in. Then the budget is used up."""
    proxy = await proxy_with(limits={"concurrent_requests": 1, "usd_per_month": 0.17})
    gate = asyncio.Event()
    upstream.script(staged(gate))
    upstream.default([head(200, EVENTS, "chunked"), *map(body, image_sse_events(1))])
    async with person(chromium, proxy.url) as (_, page):
        await page.clock.install()
        await opened(page)
        await expect(page.locator("#price")).to_contain_text("$0.17")
        await ask(page, "a cat")
        await job(page, "running").locator('img[src^="blob:"]').wait_for()
        await ask(page, "a dog")
        await expect(job(page, "waiting")).to_contain_text("Asking again in")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator(".job")).to_have_count(1)
        await ask(page, "a fox")
        await job(page, "waiting").wait_for()
        gate.set()
        await job(page, "done").wait_for()
        await page.clock.fast_forward(61_000)
        await expect(page.locator('.job[data-state="done"]')).to_have_count(2)
        assert upstream.charged == 2
        await page.get_by_role("radio", name="High").check()
        await page.clock.fast_forward(1_000)
        await expect(page.locator("#budget")).to_contain_text("it would be refused")
        await shoot(page, tmp_path, "create-budget")
        await ask(page, "a bear")
        await expect(job(page, "failed")).to_contain_text("Choose a lower quality")
        assert upstream.charged == 2
