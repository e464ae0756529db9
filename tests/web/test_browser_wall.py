"""The wall in a real browser: people scroll, search, walk by keyboard, and change many images at once."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import Locator, Page, expect

from pixie_proxy.web.pages import wall
from tests.support.pictures import gif, png
from tests.support.proxy import OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.support.waiting import eventually
from tests.web.browsing import make
from tests.web.conftest import ProxyWith
from tests.web.test_browser import AT_EVERY_SIZE, all_load, shoot, signed_in, watched

pytestmark = pytest.mark.xdist_group("browser")  # one Chromium at a time is enough for a small machine

_UNEVEN_ROWS = """all => {
  const box = (tile) => tile.getBoundingClientRect();
  const isEven = (row) => row.every((tile) => Math.abs(box(tile).height - box(row[0]).height) < 2);
  const isFull = (row) => box(row.at(-1)).right > box(row[0].parentElement).right - 3;
  const rows = [...Map.groupBy(all, (tile) => tile.offsetTop).values()];
  return rows.filter((row, n) => !isEven(row) || (n < rows.length - 1 && !isFull(row))).length;
}"""
"""Count the rows whose tiles differ in height, or that end before the wall does, but for the last."""

_SHAPES = ((1024, 1024), (1536, 1024), (1024, 1536), (900, 300))


async def hang(
    proxy: RunningProxy, upstream: ScriptedUpstream, count: int, prompt: str = "a cat", **options: Any
) -> list[str]:
    """Make images of all shapes, and give their ids, newest first."""
    made: list[str] = []
    while (left := count - len(made)) > 0:
        n = min(left, 10)
        upstream.script(image_json([png(*_SHAPES[i % 4], seed=len(made) + i) for i in range(n)]))
        made = [*await make(proxy, prompt, n=n, **options), *made]
    return made


def tiles(page: Page) -> Locator:
    return page.locator(".tile")


def tile(page: Page, image_id: str) -> Locator:
    return page.locator(f'.tile[data-id="{image_id}"]')


async def ids(page: Page) -> list[str]:
    shown: list[str] = await tiles(page).evaluate_all("all => all.map(tile => tile.dataset.id)")
    return shown


async def focused(page: Page) -> str | None:
    """Give the image whose tile has the focus."""
    found: str | None = await page.evaluate("document.activeElement.closest('.tile')?.dataset.id ?? null")
    return found


@AT_EVERY_SIZE
async def test_rows_endless_and_the_way_back(
    chromium: Chromium,
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    size: str,
) -> None:
    """A row is of one height, nothing moves while pictures load, pages follow, and back is the same image and place."""
    monkeypatch.setattr(wall, "_PER_PAGE", 16)
    made = await hang(proxy, upstream, 52)
    async with watched(chromium, proxy, size) as page:
        await signed_in(page)
        await all_load(page)
        moved = await page.evaluate(
            """() => new Promise(done => { let sum = 0; new PerformanceObserver(list => {
            for (const e of list.getEntries()) if (!e.hadRecentInput) sum += e.value;
            }).observe({ type: 'layout-shift', buffered: true }); setTimeout(() => done(sum), 100); })"""
        )
        assert moved < 0.01
        await shoot(page, tmp_path, f"{size}-wall")  # of the whole page: what follows comes for it
        uneven = await tiles(page).evaluate_all(_UNEVEN_ROWS)
        assert uneven == 0
        last = await tiles(page).last.bounding_box()
        assert last is not None
        assert last["height"] < 400
        for at in (16, 32, 48):
            await eventually(lambda at=at: _reaches(page, at))  # type: ignore[misc]
        assert (await ids(page)) == made[: len(await ids(page))]
        wanted = tile(page, made[45])
        await wanted.scroll_into_view_if_needed()
        before = await wanted.bounding_box()
        await wanted.locator("a").click()
        await page.wait_for_url(f"**/images/{made[45]}")
        await page.go_back()
        await wanted.wait_for()
        await eventually(lambda: _is_at(wanted, before))
        assert await focused(page) == made[45]
        await page.evaluate("scrollTo(0, 1e6)")
        await expect(tiles(page)).to_have_count(52)
        assert await ids(page) == made
        assert await page.locator('a[rel="next"]').count() == 0


async def _reaches(page: Page, at: int) -> bool:
    await page.evaluate("scrollTo(0, 1e6)")
    return len(await ids(page)) > at


async def _is_at(wanted: Locator, before: Any) -> bool:
    now = await wanted.bounding_box()
    return now is not None and abs(now["y"] - before["y"]) <= 2


async def test_search_filters_and_chips(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """What is typed is found at once and stands in the address; each filter is a chip that takes it away."""
    cats = await hang(proxy, upstream, 3)
    foxes = await hang(proxy, upstream, 2, "A red fox")
    (other,) = await hang(proxy, upstream, 1, "A red boat", key=OTHER_KEY, model="gpt-image-1")
    async with watched(chromium, proxy) as page:
        await signed_in(page)
        await page.keyboard.press("/")
        await page.keyboard.type("red f*", delay=20)
        await expect(tiles(page)).to_have_count(2)
        assert await ids(page) == foxes
        assert page.url.endswith("/?q=red+f*")
        await expect(page.locator("#told")).to_have_text("2 images found")
        await page.keyboard.press("Backspace")
        await page.keyboard.press("Backspace")
        await expect(tiles(page)).to_have_count(3)
        await page.get_by_label("Filters").click()
        await page.get_by_role("combobox", name="Owner").select_option("carol")
        await expect(tiles(page)).to_have_count(1)
        await page.get_by_role("combobox", name="Model").select_option("gpt-image-1")
        await page.wait_for_url("**model=gpt-image-1**")
        await shoot(page, tmp_path, "desk-filters")
        await page.keyboard.press("Escape")
        assert not await page.get_by_role("combobox", name="Model").is_visible()
        assert await ids(page) == [other]
        await page.reload()
        assert await ids(page) == [other]
        await page.locator(".chip", has_text="carol").click()
        await page.wait_for_url("**/?q=red&model=gpt-image-1")
        await page.get_by_placeholder("Search prompts").fill('"')
        await page.get_by_role("heading", name="No image fits").wait_for()
        await shoot(page, tmp_path, "desk-none")
        await page.get_by_role("link", name="Show all images").click()
        await expect(tiles(page)).to_have_count(6)
        assert page.url.endswith("/")
        assert await page.get_by_placeholder("Search prompts").input_value() == ""
        await page.get_by_role("link", name="Mine").click()
        await page.wait_for_url("**/?owner=me")
        assert await ids(page) == [*foxes, *cats]
        await page.goto("/?until=2026-01-01")
        await page.get_by_role("heading", name="No image fits").wait_for()


async def test_the_wall_by_keyboard(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Arrows go as one sees, letters act on what has the focus; what is deleted comes back where it was."""
    made = await hang(proxy, upstream, 12)
    async with watched(chromium, proxy, dark=True) as page:
        await signed_in(page)
        await page.keyboard.press("ArrowRight")
        assert await focused(page) == made[0]
        await page.keyboard.press("ArrowRight")
        assert await focused(page) == made[1]
        first = await tile(page, made[1]).bounding_box()
        await page.keyboard.press("ArrowDown")
        under = await tile(page, await focused(page) or "").bounding_box()
        assert first is not None
        assert under is not None
        assert under["y"] > first["y"]
        assert under["x"] < first["x"] + first["width"]
        assert under["x"] + under["width"] > first["x"]
        await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Home")
        assert await focused(page) == made[0]
        await page.keyboard.press("f")
        await eventually(lambda: _is_favorite(proxy, made[0]))
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("x")
        await page.keyboard.press("End")
        await page.keyboard.press("Shift+X")
        await expect(page.locator("#picked")).to_have_text("11 selected")
        await page.keyboard.press("Escape")
        await expect(page.locator("#acts")).to_be_hidden()
        await page.keyboard.press("Delete")
        await page.get_by_text("1 image is in the trash.").wait_for()
        assert await focused(page) == made[10]
        assert await ids(page) == made[:11]
        await page.get_by_role("button", name="Undo").click()
        await expect(tiles(page)).to_have_count(12)
        assert await ids(page) == made
        await page.locator("body").press("?")
        await page.get_by_role("heading", name="Keys").wait_for()
        await shoot(page, tmp_path, "desk-keys")
        await page.keyboard.press("Escape")
        await tile(page, made[3]).locator("a").focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/images/{made[3]}")


async def _is_favorite(proxy: RunningProxy, image_id: str) -> bool:
    told = await proxy.get(f"/v1/images/{image_id}")
    return bool(told["favorite"])


async def test_many_at_once(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Favourites, tags, a new collection, a download, the trash and back; what is not theirs is told and left alone."""
    made = await hang(proxy, upstream, 5)
    (theirs,) = await hang(proxy, upstream, 1, "not mine", key=OTHER_KEY)
    async with watched(chromium, proxy) as page:
        await signed_in(page)
        await tile(page, made[0]).hover()
        await tile(page, made[0]).get_by_role("checkbox").check()
        await tile(page, made[1]).locator("a").click(modifiers=["Shift"])
        await page.get_by_role("button", name="Add to favourites").click()
        await page.get_by_text("2 images are favourites now.").wait_for()
        await shoot(page, tmp_path, "desk-selected")
        await page.get_by_role("button", name="Undo").click()
        await eventually(lambda: _favorites_are(proxy, 0))
        await page.get_by_role("button", name="Change tags").click()
        await page.get_by_label("Add, with commas between").fill("Draft, harbour")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("2 images have other tags.").wait_for()
        assert (await proxy.get(f"/v1/images/{made[1]}"))["tags"] == ["draft", "harbour"]
        async with page.expect_download() as awaited:
            await page.get_by_role("button", name="Download as one file").click()
        archive = zipfile.ZipFile(io.BytesIO(Path(await (await awaited.value).path()).read_bytes()))
        assert sorted(archive.namelist())[0:2] == [f"images/{image_id}.png" for image_id in made[1::-1]]
        await page.get_by_role("button", name="Add to a collection").click()
        await page.get_by_label("Name of the new one").fill("Cats")
        await page.get_by_role("button", name="Add", exact=True).click()
        await page.get_by_text("2 images are in “Cats”.").wait_for()
        await page.get_by_role("button", name="Select", exact=True).click()
        await page.get_by_role("button", name="All shown").click()
        await page.get_by_role("button", name="Move to the trash").click()
        await (
            page.get_by_text("5 of 6 done. 1 not: Only an image’s owner")
            .or_(page.get_by_text("5 of 6 done. 1 not: Only an image's owner"))
            .wait_for()
        )
        assert await ids(page) == [theirs]
        await page.get_by_role("link", name="Trash").click()
        await page.wait_for_url("**deleted=true")
        await all_load(page)
        await shoot(page, tmp_path, "desk-trash")
        assert await ids(page) == made
        await tile(page, made[4]).get_by_role("button", name="Restore").click()
        await page.get_by_text("1 image is back.").wait_for()
        assert await ids(page) == made[:4]
    assert [image["id"] for image in (await proxy.get("/v1/images"))["data"]] == [theirs, made[4]]


async def _favorites_are(proxy: RunningProxy, count: int) -> bool:
    return len((await proxy.get("/v1/images?favorite=true"))["data"]) == count


async def test_on_a_phone_by_touch(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A long touch selects and opens nothing; short ones then select; filters are a sheet. Viewers change nothing."""
    made = await hang(proxy, upstream, 6)
    context = await chromium.new_context(
        viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, base_url=proxy.url
    )
    page = await context.new_page()
    await signed_in(page)
    await expect(page.locator("#help")).to_be_hidden()
    touches = await context.new_cdp_session(page)
    box = await tile(page, made[0]).bounding_box()
    assert box is not None
    at = {"x": box["x"] + 40, "y": box["y"] + 60}
    await touches.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    await expect(page.locator("#picked")).to_have_text("1 selected")
    await touches.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    await tile(page, made[1]).tap()
    await expect(page.locator("#picked")).to_have_text("2 selected")
    await shoot(page, tmp_path, "phone-selected")
    await page.get_by_role("button", name="Leave the selection").tap()
    await page.get_by_label("Filters").tap()
    await page.get_by_label("Only favourites").wait_for()
    await shoot(page, tmp_path, "phone-sheet")
    await page.get_by_label("Only favourites").tap()
    await page.get_by_role("heading", name="No favourites yet").wait_for()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await context.close()
    async with watched(chromium, proxy) as page:
        await signed_in(page, VIEWER_KEY)
        await page.get_by_role("button", name="Select", exact=True).click()
        assert await page.locator("#acts [data-act]:visible").count() == 4
        await tile(page, made[0]).click()
        await tile(page, made[2]).click()
        await page.get_by_role("button", name="Add to favourites").click()
        await page.get_by_text("2 images are favourites now.").wait_for()
        assert await page.locator('.like[aria-pressed="true"]').count() == 2
        await page.get_by_role("button", name="Undo").click()
        await expect(page.locator('.like[aria-pressed="true"]')).to_have_count(0)
        await page.keyboard.press("Delete")
        await page.get_by_role("link", name="Favourites").click()
        await page.get_by_role("heading", name="No favourites yet").wait_for()
    assert [image["id"] for image in (await proxy.get("/v1/images"))["data"]] == made


async def test_an_animation_plays_while_it_is_pointed_at(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Its bytes are asked for no sooner, it stops when the mouse leaves, and stands for who wants no motion."""
    upstream.script(image_json([gif(64, 64)]))
    await make(proxy)
    async with watched(chromium, proxy) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await signed_in(page)
        await all_load(page)
        picture = page.locator(".picture")
        still = await picture.get_attribute("src")
        assert not [url for url in asked if url.endswith("/content")]
        await picture.hover()
        await expect(picture).to_have_attribute("src", re.compile("/content$"))
        await page.mouse.move(600, 700)
        await expect(picture).to_have_attribute("src", still or "")
        await page.emulate_media(reduced_motion="reduce")
        await picture.hover()
        await expect(picture).to_have_attribute("src", still or "")


async def test_without_scripts(
    chromium: Chromium, proxy_with: ProxyWith, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Search, pages and the way out of the trash are plain forms and links; nothing is shown that needs more."""
    monkeypatch.setattr(wall, "_PER_PAGE", 4)
    proxy = await proxy_with()
    made = await hang(proxy, upstream, 6)
    context = await chromium.new_context(java_script_enabled=False, base_url=proxy.url)
    page = await context.new_page()
    await signed_in(page)
    assert await ids_without_scripts(page) == made[:4]
    await page.get_by_role("link", name="Older").click()
    assert await ids_without_scripts(page) == made[4:]
    for hidden in ("Select", "Favourite"):
        assert not await page.get_by_role("button", name=hidden).first.is_visible()
    await page.get_by_placeholder("Search prompts").fill("dog")
    await page.get_by_role("button", name="Show").first.click()
    await page.get_by_role("heading", name="No image fits").wait_for()
    status, _, _ = await proxy.request("DELETE", f"/v1/images/{made[0]}")
    assert status == 200
    await page.goto("/?deleted=true")
    await page.get_by_role("button", name="Restore").click()
    await page.wait_for_url(f"**/images/{made[0]}")
    await context.close()


async def ids_without_scripts(page: Page) -> list[str | None]:
    return [await each.get_attribute("data-id") for each in await tiles(page).all()]
