"""The page of one image in a real browser: looked at closely, kept in order, shared, and walked through."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, expect

from pixie_proxy.upstream.demo import demo_upstream
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import make
from tests.web.test_browser import SIZES, all_load, shoot, signed_in, touch, watched

pytestmark = pytest.mark.xdist_group("browser")
PROMPT = "A lighthouse above the sea at dusk, its lamp just lit"


@asynccontextmanager
async def visiting(
    chromium: Chromium, proxy: RunningProxy, key: str = MEMBER_KEY, size: str = "desk", **options: Any
) -> AsyncIterator[Page]:
    """Sign in with a browser that is set up in some way; what it meets may be an error.

    Our service worker may not come: what it fetches passes by `page.route`.
    """
    width, height = SIZES[size]
    context = await chromium.new_context(
        base_url=proxy.url, viewport={"width": width, "height": height}, service_workers="block", **options
    )
    page = await context.new_page()
    await signed_in(page, key)
    yield page
    await context.close()


async def stays(page: Page) -> None:
    """Mark the document, so that a reload would be seen."""
    await page.evaluate("window.isSame = true")


async def assert_stayed(page: Page) -> None:
    assert await page.evaluate("window.isSame")


async def test_look_closely_and_walk(chromium: Chromium, tmp_path: Path) -> None:
    """From the wall to a picture that grows sharp, into it by mouse and keys, on to the next, and back to the wall."""
    async with demo_upstream(pace=0) as drawing, run_proxy(tmp_path / "data", drawing) as proxy:
        older, image_id, newer = sorted(
            [*await make(proxy, PROMPT, n=2, size="1536x1024"), *await make(proxy, "A fox")]
        )
        async with watched(chromium, proxy) as page:
            await signed_in(page)
            await page.locator(f'a[href^="/images/{image_id}"]').first.click()
            picture = page.locator("#picture")
            await expect(picture).to_have_attribute("src", f"/v1/images/{image_id}/content")
            await all_load(page)
            box = await picture.bounding_box()
            assert box is not None
            assert box["width"] / box["height"] == pytest.approx(1.5, rel=0.01)
            await shoot(page, tmp_path, "image-desk")
            await _zoom(page, tmp_path)
            await expect(page.locator(".frame")).to_be_focused()
            await page.keyboard.press("?")
            keys = page.get_by_role("dialog", name="Keys")
            await expect(keys).to_contain_text("Copy the prompt")
            await shoot(page, tmp_path, "image-keys")
            await page.keyboard.press("ArrowRight")  # which is no step while the dialog is open
            await page.keyboard.press("Escape")
            await page.keyboard.press("ArrowRight")
            await page.wait_for_url(f"**/images/{older}*")
            await page.get_by_role("link", name="Newer image").click()
            await page.wait_for_url(f"**/images/{image_id}*")
            async with page.expect_download() as download:
                await page.keyboard.press("d")
            name = "a-lighthouse-above-the-sea-at-dusk-its-lamp-just-lit"
            assert (await download.value).suggested_filename == f"{name}-2.png"
            await page.keyboard.press("ArrowLeft")
            await page.wait_for_url(f"**/images/{newer}*")
            await expect(page.get_by_role("link", name="Newer image")).to_have_count(0)
            await page.keyboard.press("Escape")
            await page.wait_for_url("**/")
            assert (
                await page.evaluate("history.length") <= 4
            )  # sign-in, wall, image: steps leave nothing behind
            await page.goto(f"/images/{newer}?model=gpt-image-2&owner=me")
            await page.get_by_role("link", name="Older image").click()
            await page.wait_for_url(f"**/images/{image_id}?model=gpt-image-2&owner=me")
            await page.keyboard.press("e")
            await page.wait_for_url(f"**/create?from={image_id}")


async def _zoom(page: Page, tmp_path: Path) -> None:
    await page.locator(".frame").click()
    zoom = page.get_by_role("dialog", name="The picture, large")
    shown = zoom.locator("output")
    whole = int((await shown.inner_text()).split()[0])
    await shoot(page, tmp_path, "image-zoom")
    await page.keyboard.press("+")
    assert int((await shown.inner_text()).split()[0]) > whole
    await page.mouse.move(640, 400)
    await page.mouse.wheel(0, -900)
    await expect(shown).not_to_have_text(f"{whole} %")
    before = await zoom.locator("img").bounding_box()
    await page.keyboard.press("ArrowLeft")
    await page.mouse.down()
    await page.mouse.move(700, 450, steps=3)
    await page.mouse.up()
    after = await zoom.locator("img").bounding_box()
    assert before is not None
    assert after is not None
    assert (after["x"] - before["x"], after["y"] - before["y"]) == (80 + 60, 50)
    await page.keyboard.press("0")
    await expect(shown).to_have_text(f"{whole} %")
    await page.mouse.click(640, 400)
    await expect(shown).to_have_text(re.compile(rf"{2 * whole}|{2 * whole + 1}"))
    await page.keyboard.press("Escape")
    await expect(zoom).to_have_count(0)


async def test_an_owner_keeps_order_and_shares_without_a_reload(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Tags, collections, favourite, visibility with undo, links made, copied and revoked: on one page that stays."""
    upstream.default(image_json([png(1024, 1024)]))
    (image_id,) = await make(proxy, PROMPT)
    path = f"/v1/images/{image_id}"
    async with watched(chromium, proxy) as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await signed_in(page)
        await page.goto(f"/images/{image_id}")
        await stays(page)
        for tag in ("Sea", "light house"):
            await page.get_by_label("Add a tag").fill(tag)
            await page.keyboard.press("Enter")
        await page.get_by_role("link", name="sea", exact=True).wait_for()
        await page.get_by_role("link", name="light house", exact=True).wait_for()
        await expect(page.get_by_label("Add a tag")).to_be_focused()
        await page.get_by_role("button", name="Remove the tag sea").click()
        await expect(page.get_by_role("link", name="sea", exact=True)).to_have_count(0)
        await page.get_by_label("Add to a collection").fill("Coast")
        await page.get_by_role("button", name="Put it into this collection").click()
        await page.get_by_role("link", name="Coast").wait_for()
        (collection,) = (await proxy.get(f"/v1/collections?image={image_id}"))["data"]
        await page.get_by_role("button", name="Take out of Coast").click()
        await expect(page.get_by_role("link", name="Coast")).to_have_count(0)
        await page.get_by_label("Add to a collection").fill("Coast")
        await page.keyboard.press("Enter")
        await page.get_by_role("link", name="Coast").wait_for()
        assert [each["id"] for each in (await proxy.get("/v1/collections"))["data"]] == [collection["id"]]
        await page.get_by_role("button", name="Favourite").click()
        await expect(page.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")
        await page.get_by_label("Who may see it").select_option("private")
        await page.get_by_text("Seen by: Owner and admins.").wait_for()
        image = await proxy.get(path)
        assert (image["visibility"], image["tags"], image["favorite"]) == ("private", ["light house"], True)
        await expect(page.locator("#link")).to_have_text(image["url"])
        await page.get_by_role("button", name="Undo").click()
        await page.get_by_text("Seen by: The team.").wait_for()
        assert (await proxy.get(path))["visibility"] == "team"
        await page.get_by_role("button", name="Copy the prompt").click()
        assert await page.evaluate("navigator.clipboard.readText()") == PROMPT
        await _share(page, proxy, path)
        await shoot(page, tmp_path, "image-in-order")
        await assert_stayed(page)


async def _share(page: Page, proxy: RunningProxy, path: str) -> None:
    await page.get_by_label("Good for").select_option("A day")
    await page.get_by_label("Show the prompt").check()
    await page.get_by_role("button", name="Make a link").click()
    new = page.locator("#new-link")
    await expect(new.get_by_role("button", name="Copy the link")).to_be_focused()
    await page.keyboard.press("Enter")
    link = await new.get_by_role("link").inner_text()
    assert await page.evaluate("navigator.clipboard.readText()") == link
    status, _, body = await proxy.request("GET", urlsplit(link).path, key=None)
    assert status == 200
    assert PROMPT in body.decode()
    (share,) = (await proxy.get(f"{path}/shares"))["data"]
    assert share["expires_at"] - share["created"] in {86_400, 86_401}
    await page.get_by_role("button", name="Revoke the link").click()
    await page.get_by_text("The link opens nothing any more.").wait_for()
    await expect(page.locator("#shares")).to_be_focused()
    assert (await proxy.request("GET", urlsplit(link).path, key=None))[0] == 404


async def test_colleagues_viewers_and_what_vanishes(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A colleague collects it and can't change it, a viewer looks; what was deleted meanwhile is told, and restored."""
    upstream.default(image_json([png(1024, 1024)]))
    (image_id,) = await make(proxy)
    async with visiting(chromium, proxy, VIEWER_KEY) as viewer:
        await viewer.goto(f"/images/{image_id}")
        assert await viewer.locator("#edit, #vary, #shares, #visibility, [data-add]").count() == 0
        await viewer.get_by_role("button", name="Favourite").click()
        await expect(viewer.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")
    async with visiting(chromium, proxy, OTHER_KEY) as other, visiting(chromium, proxy) as owner:
        await other.goto(f"/images/{image_id}")
        assert await other.locator('#shares, #visibility, [data-add="tag"], .danger').count() == 0
        await other.get_by_label("Add to a collection").fill("Cats of others")
        await other.keyboard.press("Enter")
        await other.get_by_role("link", name="Cats of others").wait_for()
        await owner.goto(f"/images/{image_id}")
        assert await owner.get_by_role("link", name="Cats of others").count() == 0
        await owner.get_by_role("button", name="Delete").click()
        await owner.wait_for_url("**/?trashed=*")
        await other.get_by_role("button", name="Favourite").click()
        await other.get_by_text("This image is not there any more").wait_for()
        await expect(other.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "false")
        await shoot(other, tmp_path, "image-vanished")
        await owner.goto(f"/images/{image_id}")
        await owner.get_by_role("heading", name="In the trash").wait_for()
        await shoot(owner, tmp_path, "image-trashed")
        await owner.route("**/content", lambda route: route.abort())
        await owner.route("**/thumbnail?*", lambda route: route.abort())
        await owner.get_by_role("button", name="Restore it").click()
        await owner.get_by_text("The picture can’t be read right now.").wait_for()
        await owner.unroute("**/thumbnail?*")
        await owner.get_by_role("button", name="Try again").click()
        await expect(owner.locator("#broken")).to_be_hidden()


async def test_on_a_phone_by_touch(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A swipe leads on; a moving picture stands still for whoever wants that, until it is asked to play."""
    upstream.script(image_json([moving_gif()]))
    (older,) = await make(proxy, "A fox that runs")
    upstream.script(image_json([png(1024, 1536)]))
    (newer,) = await make(proxy, PROMPT)
    touching: dict[str, Any] = {"has_touch": True, "is_mobile": True, "reduced_motion": "reduce"}
    async with visiting(chromium, proxy, size="phone", color_scheme="dark", **touching) as page:
        await page.goto(f"/images/{newer}")
        await all_load(page)
        await shoot(page, tmp_path, "image-phone-dark")
        await expect(page.locator("#keys")).to_be_hidden()
        figure, acts = [await page.locator(name).bounding_box() for name in ("#figure", ".acts")]
        assert figure is not None
        assert acts is not None
        assert figure["y"] + figure["height"] <= acts["y"]
        await _pinch(page)
        await _swipe(page, 300, 60)
        await page.wait_for_url(f"**/images/{older}")
        picture, play = page.locator("#picture"), page.locator("#play")
        await expect(picture).to_have_attribute("src", f"/v1/images/{older}/thumbnail?size=512")
        await play.tap()
        await expect(picture).to_have_attribute("src", f"/v1/images/{older}/content")
        await expect(play).to_have_text("Stop")
        await play.tap()
        await expect(picture).to_have_attribute("src", f"/v1/images/{older}/thumbnail?size=512")
        await _swipe(page, 60, 300)
        await page.wait_for_url(f"**/images/{newer}")
        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def _pinch(page: Page) -> None:
    """Open the picture, and pull it to twice its size with two fingers."""
    await page.locator(".frame").tap()
    zoom = page.get_by_role("dialog", name="The picture, large")
    shown = zoom.locator("output")
    whole = int((await shown.inner_text()).split()[0])
    fingers = [[(160, 300)], [(160, 300), (200, 300)], [(140, 300), (220, 300)], [(140, 300)]]
    await touch(page, *fingers)
    await expect(shown).to_have_text(re.compile(rf"^({2 * whole - 1}|{2 * whole}|{2 * whole + 1}) %"))
    await zoom.get_by_role("button", name="Close").tap()
    await expect(zoom).to_have_count(0)


async def _swipe(page: Page, start: int, end: int) -> None:
    """Move a finger over the picture."""
    await touch(page, [(start, 300)], [((start + end) // 2, 304)], [(end, 306)])


def moving_gif() -> bytes:
    """Two frames, one after the other for ever."""
    out = io.BytesIO()
    frames = [Image.new("RGB", (320, 240), colour) for colour in ("#24655a", "#f7f6f3")]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=200, loop=0)
    return out.getvalue()


async def test_without_a_script_everything_is_a_form(chromium: Chromium, proxy: RunningProxy) -> None:
    """What was a form works as one; what needs a script is not there to be pressed."""
    (image_id,) = await make(proxy, PROMPT)
    async with visiting(chromium, proxy, java_script_enabled=False) as page:
        await page.goto(f"/images/{image_id}")
        assert await page.locator(".scripted:visible").count() == 0
        await page.get_by_label("Who may see it").select_option("private")
        await page.get_by_role("button", name="Save").click()
        await page.wait_for_url(f"**/images/{image_id}")
        assert (await proxy.get(f"/v1/images/{image_id}"))["visibility"] == "private"
        await page.get_by_role("button", name="Make a link").click()
        link = page.locator("#new-link").get_by_role("link")
        await expect(link).to_have_attribute("href", f"{proxy.url}/s/{(await link.inner_text())[-32:]}")
        await page.get_by_role("button", name="Revoke the link").click()
        await expect(page.get_by_role("button", name="Revoke the link")).to_have_count(0)
        await page.get_by_role("button", name="Delete").click()
        await page.wait_for_url("**/?trashed=*")
