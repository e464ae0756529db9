"""The journey of somebody new: signs in, makes four images, finds one, edits it, shares it, and sees what it cost.

`make screenshots` takes docs/screenshots/ on the way: PIXIE_SCREENSHOTS names the folder, and then the gallery is one
that a team has used for a while.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, expect

from pixie_proxy.upstream.demo import demo_upstream
from tests.support.proxy import ADMIN_KEY, OTHER_KEY, RunningProxy, run_proxy
from tests.web.creating import ask, job
from tests.web.test_browser import AT_EVERY_SIZE, SIZES, all_load, signed_in

pytestmark = pytest.mark.xdist_group("browser")
PROMPT = "A lighthouse above the sea at dusk"
SCREENSHOT_BYTES = 60_000
EARLIER = {
    "A red fox in the snow": "1536x1024",
    "A harbour at dawn with three sailing boats": "1024x1024",
    "A tall tower in the mist": "1024x1536",
    "A cat on a roof under the moon": "1024x1024",
    "Mountains behind a lake in autumn": "1536x1024",
    "A bowl of lemons on a blue table": "1024x1024",
    "A sailing boat in a storm": "1536x1024",
    "A forest path in spring": "1024x1536",
    "A robot waters flowers": "1024x1024",
}
"""What the team asked for before, and in which size."""


@AT_EVERY_SIZE
async def test_from_the_first_sign_in_to_what_it_cost(chromium: Chromium, tmp_path: Path, size: str) -> None:
    """Every step by what a person sees and presses; each image is there for those who may see it, and paid for once."""
    async with demo_upstream(pace=0.2) as drawing, run_proxy(tmp_path / "data", drawing) as proxy:
        await _use_for_a_while(proxy)
        async with _person(chromium, proxy, size) as page:
            await page.goto("/")
            await _keep(page, f"sign-in-{size}")
            await signed_in(page)
            await _make_four(page, size)
            await _find_one(page, size)
            await _edit_it(page, size)
            link = await _share_it(page, size)
            await _see_what_it_cost(page, proxy, size)
        async with _person(chromium, proxy, size) as stranger:
            await stranger.goto(link)
            await stranger.get_by_role("heading", name="A shared image").wait_for()
            await all_load(stranger)
            await _keep(stranger, f"shared-{size}")
            assert await stranger.get_by_role("navigation").count() == 0
        await _keep_admin(chromium, proxy, size)


@asynccontextmanager
async def _person(chromium: Chromium, proxy: RunningProxy, size: str) -> AsyncIterator[Page]:
    width, height = SIZES[size]
    context = await chromium.new_context(
        viewport={"width": width, "height": height},
        base_url=proxy.url,
        has_touch=size == "phone",
        device_scale_factor=2 if size == "phone" else 1,
        reduced_motion="reduce",
    )
    faults: list[str] = []
    context.on("weberror", lambda error: faults.append(str(error.error)))
    yield await context.new_page()
    assert faults == []
    await context.close()


async def _make_four(page: Page, size: str) -> None:
    await page.get_by_role("link", name="Create", exact=True).click()
    await page.locator("#controls:enabled").wait_for()
    await page.get_by_role("radio", name="Low").check()
    for _ in range(3):
        await page.get_by_role("button", name="One image more").click()
    await page.get_by_label("Prompt", exact=True).fill(PROMPT)
    await page.get_by_text("About $").wait_for()
    await page.get_by_role("button", name="Make", exact=True).click()
    await page.locator('.frame img[src^="blob:"]').nth(2).wait_for()
    await _keep(page, f"create-{size}")
    await job(page, "done").wait_for()
    await expect(page.locator('.frame a[href^="/images/img_"]')).to_have_count(4)


async def _find_one(page: Page, size: str) -> None:
    await page.get_by_role("link", name="Images", exact=True).click()
    await page.wait_for_url("**/")
    await all_load(page)
    await _keep(page, f"wall-{size}")
    await page.get_by_placeholder("Search prompts").press_sequentially("lighthouse")
    await expect(page.locator(".tile")).to_have_count(4)
    await page.locator(".tile a").first.click()
    await page.get_by_role("heading", name=PROMPT).wait_for()
    await expect(page.locator("#picture")).to_have_attribute(
        "src", "/v1" + urlsplit(page.url).path + "/content"
    )
    await all_load(page)
    await _keep(page, f"image-{size}")


async def _edit_it(page: Page, size: str) -> None:
    await page.get_by_role("link", name="Edit").click()
    await page.get_by_role("button", name="Paint a mask").click()
    stage = page.locator(".mask-stage")
    box = await stage.bounding_box()
    assert box is not None
    for _ in range(4):
        await page.keyboard.press("]")
    for row in (0.25, 0.32, 0.39):
        await page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + row * box["height"])
        await page.mouse.down()
        await page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + row * box["height"], steps=6)
        await page.mouse.up()
    await _keep(page, f"mask-{size}")
    await page.get_by_role("button", name="Use mask").click()
    await page.get_by_alt_text("Its mask").wait_for()
    await ask(page, "The same with a full moon")
    made = job(page, "done").filter(has_text="full moon").locator('a[href^="/images/img_"]')
    await made.first.click()
    await page.get_by_role("heading", name="The same with a full moon").wait_for()
    await page.get_by_role("heading", name="Made from").wait_for()


async def _share_it(page: Page, size: str) -> str:
    await page.get_by_role("button", name="Make a link").click()
    link = page.locator("#new-link").get_by_role("link")
    await expect(link).to_have_attribute(
        "href", f"{page.url.split('/images')[0]}/s/{(await link.inner_text())[-32:]}"
    )
    await page.locator("#shares").scroll_into_view_if_needed()
    await _keep(page, f"share-{size}")
    return urlsplit(await link.inner_text()).path


async def _see_what_it_cost(page: Page, proxy: RunningProxy, size: str) -> None:
    await page.get_by_role("link", name="Usage", exact=True).click()
    tiles = page.locator(".tiles dd")
    used = await proxy.get("/v1/usage")
    assert used["total"]["images"] == 5
    await expect(tiles.first).to_have_text(f"${used['total']['cost_usd']}")
    await _keep(page, f"usage-{size}")


async def _use_for_a_while(proxy: RunningProxy) -> None:
    """Have a colleague make what a team makes, where a gallery is to be shown."""
    if "PIXIE_SCREENSHOTS" not in os.environ:
        return
    for prompt, shape in EARLIER.items():
        await proxy.sdk(OTHER_KEY).images.generate(
            model="gpt-image-2", prompt=prompt, size=shape, quality="low"
        )


async def _keep_admin(chromium: Chromium, proxy: RunningProxy, size: str) -> None:
    if "PIXIE_SCREENSHOTS" not in os.environ:
        return
    async with _person(chromium, proxy, size) as page:
        await signed_in(page, ADMIN_KEY)
        await page.goto("/admin")
        await _keep(page, f"admin-{size}")


async def _keep(page: Page, name: str) -> None:
    """Take what is in the window, small enough for a repository."""
    if not (folder := os.environ.get("PIXIE_SCREENSHOTS")):
        return
    picture = await page.screenshot()
    data = await asyncio.to_thread(_small, picture)
    (Path(folder) / f"{name}.webp").write_bytes(data)


def _small(picture: bytes) -> bytes:
    """Encode as WebP, as well as SCREENSHOT_BYTES allow."""
    image = Image.open(io.BytesIO(picture))
    for quality in range(90, 0, -10):
        out = io.BytesIO()
        image.save(out, "WEBP", quality=quality, method=6)
        if out.tell() <= SCREENSHOT_BYTES:
            return out.getvalue()
    raise AssertionError("no quality is low enough")
