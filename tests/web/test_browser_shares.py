"""Shares and the public gallery in a real browser, as the one who shares and as the one who is given a link."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from pixie_proxy.gallery import shares
from pixie_proxy.upstream.demo import demo_upstream
from tests.support.proxy import RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import make
from tests.web.test_browser import (
    AT_EVERY_SIZE,
    HOSTILE_PROMPT,
    HOSTILE_SVG,
    all_load,
    shoot,
    signed_in,
    watched,
)

pytestmark = pytest.mark.xdist_group("browser")
PASSWORD = "correct horse"
PROMPT = "A lighthouse above the sea at dusk, its lamp just lit"


@AT_EVERY_SIZE
async def test_share_and_be_shown(
    chromium: Chromium, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: str
) -> None:
    """A guest gives the password of a link, and sees the image until it is revoked; another link ends in its time."""
    async with demo_upstream(pace=0) as drawing, run_proxy(tmp_path / "data", drawing) as proxy:
        await proxy.sdk().images.generate(model="gpt-image-2", prompt=PROMPT, size="1536x1024")
        (image_id,) = [image["id"] for image in (await proxy.get("/v1/images"))["data"]]
        async with (
            watched(chromium, proxy, size) as owner,
            watched(chromium, proxy, size, dark=size == "phone") as guest,
        ):
            await signed_in(owner)
            await owner.goto(f"/images/{image_id}")
            await owner.get_by_label("Good for").select_option("A day")
            await owner.get_by_label("Password, if any").fill(PASSWORD)
            await owner.get_by_label("Show the prompt").check()
            await owner.get_by_role("button", name="Make a link").click()
            link = await owner.locator("#new-link:visible").get_by_role("link").inner_text()
            await all_load(owner)
            await shoot(owner, tmp_path, f"{size}-share-made")
            await guest.goto(urlsplit(link).path)
            assert await guest.locator("img").count() == 1  # the sign at the top
            await shoot(guest, tmp_path, f"{size}-share-locked")
            await guest.get_by_label("Password").fill("wrong wrong")
            await guest.get_by_role("button", name="Show the image").click()
            await guest.get_by_role("alert").wait_for()
            await shoot(guest, tmp_path, f"{size}-share-wrong")
            await guest.get_by_label("Password").fill(PASSWORD)
            await guest.keyboard.press("Enter")
            await guest.get_by_role("heading", name=PROMPT).wait_for()
            assert PASSWORD not in guest.url
            await all_load(guest)
            await shoot(guest, tmp_path, f"{size}-share")
            async with guest.expect_download() as download:
                await guest.get_by_role("link", name="Download").click()
            assert (await download.value).suggested_filename == f"{image_id}.png"
            await owner.get_by_role("button", name="Revoke").click()
            await expect(owner.get_by_role("button", name="Revoke")).to_have_count(0)
            await guest.reload()
            await guest.get_by_role("heading", name="There is nothing here").wait_for()
            await owner.get_by_label("Good for").select_option("A day")
            await owner.get_by_role("button", name="Make a link").click()
            path = urlsplit(await owner.locator("#new-link:visible").get_by_role("link").inner_text()).path
            await guest.goto(path)
            await guest.get_by_role("heading", name="A shared image").wait_for()
            await all_load(guest)
            in_a_day_us = time.time_ns() // 1000 + 86_400_000_000
            monkeypatch.setattr(shares, "_now_us", lambda: in_a_day_us)
            for ended in (path, f"{path}/content"):
                answer = await guest.goto(ended)
                assert answer is not None
                assert answer.status == 404


async def test_the_public_gallery(chromium: Chromium, tmp_path: Path) -> None:
    """The wall, and an image of it, in the dark on a phone."""
    gallery = {"allow_public": True, "visibility": "public"}
    async with (
        demo_upstream(pace=0) as drawing,
        run_proxy(tmp_path / "data", drawing, gallery=gallery) as proxy,
    ):
        sdk = proxy.sdk()
        await sdk.images.generate(model="gpt-image-2", prompt=PROMPT, n=3, size="1024x1024")
        await sdk.images.generate(model="gpt-image-2", prompt="A tall tower", size="1024x1536")
        async with watched(chromium, proxy, "phone", dark=True) as page:
            await page.goto("/public")
            await all_load(page)
            await shoot(page, tmp_path, "phone-public")
            await page.get_by_role("link", name="A tall tower").first.click()
            await page.get_by_role("heading", name="A tall tower").wait_for()
            await all_load(page)
            await shoot(page, tmp_path, "phone-public-image")


async def test_hostile_pictures_and_prompts_run_nothing_on_a_share(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """On the page of a link, in its preview, and opened by itself."""
    upstream.default(image_json([HOSTILE_SVG]))
    (image_id,) = await make(proxy, HOSTILE_PROMPT)
    status, _, _ = await proxy.request("POST", f"/v1/images/{image_id}", json={"visibility": "public"})
    assert status == 200
    made = await proxy.session.post(
        f"{proxy.url}/v1/images/{image_id}/shares",
        json={"show_prompt": True},
        headers={"Authorization": f"Bearer {proxy.clients[0].api_key}"},
    )
    path = urlsplit((await made.json())["url"]).path
    async with watched(chromium, proxy) as page:
        await page.goto(path)
        assert await page.locator("h1").inner_text() == HOSTILE_PROMPT
        assert await page.locator('meta[property="og:title"]').get_attribute("content") == HOSTILE_PROMPT
        assert await page.locator("script, svg, iframe, object, embed, base").count() == 0
        await page.wait_for_timeout(300)
        await shoot(page, tmp_path, "hostile-share")
    async with watched(chromium, proxy) as page:
        for below in ("content", "thumbnail"):
            await page.goto(f"{path}/{below}")
            await page.wait_for_timeout(300)
