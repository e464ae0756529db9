"""The gallery as an app, in a real browser: installed, without a network, shared to, replaced by another version.

These tests let our service worker come; all others in Chromium do without it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, expect

from pixie_proxy.web import static
from tests.support.pictures import png
from tests.support.proxy import OTHER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.support.waiting import eventually
from tests.web.browsing import make
from tests.web.test_browser import SIZES, shoot, signed_in

pytestmark = pytest.mark.xdist_group("browser")

KEPT = """async () => {
  const kept = {};
  for (const name of await caches.keys()) {
    const requests = await (await caches.open(name)).keys();
    kept[name.split("-")[1]] = requests.map((request) => new URL(request.url).pathname + new URL(request.url).search);
  }
  return kept;
}"""
STORED = """async () => {
  const found = [];
  for (const { name } of await indexedDB.databases()) {
    const opening = indexedDB.open(name);
    const database = await new Promise((done) => { opening.onsuccess = () => done(opening.result); });
    for (const store of database.objectStoreNames) {
      const all = database.transaction(store).objectStore(store).getAll();
      await new Promise((done) => { all.onsuccess = done; });
      found.push(...all.result);
    }
    database.close();
  }
  return found;
}"""
"""What lies in IndexedDB, whatever put it there."""

CALL = """async ([module, name, ...given]) => {
  const shell = document.querySelector('script[src$="shell.js"]').src;
  return (await import(shell.replace("shell.js", module)))[name](...given);
}"""
"""Call what a module of our pages exports."""

SHARE = """([picture, ...names]) => {
  const form = Object.assign(document.createElement("form"), {
    method: "post", action: "/create/incoming", enctype: "multipart/form-data" });
  const files = Object.assign(document.createElement("input"), { type: "file", name: "files", multiple: true });
  const data = new DataTransfer();
  const bytes = Uint8Array.from(atob(picture), (character) => character.charCodeAt(0));
  for (const name of names) data.items.add(new File([bytes], name, { type: "image/png" }));
  files.files = data.files;
  form.append(files, Object.assign(document.createElement("input"), { name: "text", value: "A fox" }));
  document.body.append(form);
  form.submit();
}"""
"""Send what a phone sends when somebody shares files to the app: the same picture under each name."""

FILL = """async ([kind, count, bytes]) => {
  const shell = document.querySelector('script[src$="shell.js"]').src;
  const { keep, keepFor, eraNow, forget, cacheName } = await import(shell.replace("shell", "kept"));
  keepFor("test");
  await forget();
  const body = new Blob([new Uint8Array(bytes)]);
  const begun = eraNow();
  for (let n = 0; n < count; n++) await keep(kind, `/${n}`, new Response(body), begun);
  const requests = await (await caches.open(cacheName(kind))).keys();
  const held = requests.map((each) => Number(new URL(each.url).pathname.slice(1)));
  await forget();
  await keep(kind, "/late", new Response(body), begun);
  return [held.length, Math.min(...held), Math.max(...held), await caches.has(cacheName(kind))];
}"""
"""Keep so many answers, and one late; tell how many are held, which first and last, and whether the late one is."""


@asynccontextmanager
async def phone(chromium: Chromium, proxy: RunningProxy, *, dark: bool = False) -> AsyncIterator[Page]:
    """Open a page on a phone, whose browser may have our worker; nothing may break in it."""
    width, height = SIZES["phone"]
    context = await chromium.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        base_url=proxy.url,
        has_touch=True,
        is_mobile=True,
    )
    faults: list[str] = []
    page = await context.new_page()
    page.on("pageerror", lambda error: faults.append(f"{error}"))
    context.on("serviceworker", lambda worker: worker.on("console", lambda said: faults.append(said.text)))
    yield page
    assert faults == []
    await context.close()


async def with_worker(page: Page, *kept: str) -> None:
    """Wait until the worker serves the page, and keeps some addresses."""
    await eventually(lambda: page.evaluate("navigator.serviceWorker.controller?.state === 'activated'"))

    async def are_kept() -> bool:
        return set(kept) <= {address for each in (await page.evaluate(KEPT)).values() for address in each}

    await eventually(are_kept)


async def pictures_there(page: Page) -> None:
    """Every picture of the page is drawn."""
    # not by wait_for_function: to look twice it needs `eval`, which our policy forbids
    drawn = (
        "[...document.querySelectorAll('main img')].every((each) => each.complete && each.naturalWidth > 0)"
    )
    await eventually(lambda: page.evaluate(drawn))


async def call(page: Page, *given: Any) -> Any:
    return await page.evaluate(CALL, list(given))


async def test_a_browser_would_install_it(chromium: Chromium, proxy: RunningProxy) -> None:
    """The manifest has no fault, its icons are what they say, and only those who sign in are offered it."""
    async with phone(chromium, proxy) as page:
        await page.goto("/")
        browser = await page.context.new_cdp_session(page)
        found = await browser.send("Page.getAppManifest")
        assert (found["url"], found["errors"]) == (f"{proxy.url}/manifest.webmanifest", [])
        assert (await browser.send("Page.getInstallabilityErrors"))["installabilityErrors"] in (
            [],
            [{"errorId": "in-incognito", "errorArguments": []}],  # as every context of a test is
        )
        manifest = json.loads(found["data"])
        for icon in manifest["icons"]:
            size = await page.evaluate(
                """async (src) => {
                  const image = Object.assign(new Image(), { src });
                  await image.decode();
                  return `${image.width}x${image.height}`;
                }""",
                icon["src"],
            )
            assert size == icon["sizes"]
        await page.goto("/offline")
        assert await page.locator("link[rel=manifest]").count() == 0


async def test_what_was_seen_is_there_offline(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """The wall, its thumbnails and a page that was opened; another is said not to be; changes wait and are made."""
    upstream.script(image_json([png(1024, 1024, seed=n) for n in range(3)]))
    newest, middle, oldest = await make(proxy, "Three boats in a harbour", n=3)
    async with phone(chromium, proxy, dark=True) as page:
        await signed_in(page)
        await pictures_there(page)
        seen = await page.locator("main img").evaluate_all(
            "all => all.map((each) => each.currentSrc.slice(location.origin.length))"
        )
        await with_worker(page, "/", *seen)
        await page.goto(f"/images/{newest}")
        await with_worker(page, f"/images/{newest}")
        await page.context.set_offline(True)
        await expect(page.locator("#away")).to_contain_text("You are offline")
        await page.goto("/")
        await pictures_there(page)
        await expect(page.locator("#away")).to_contain_text("This is how it was on")
        await shoot(page, tmp_path, "offline-wall")
        await page.goto(f"/images/{newest}")
        await pictures_there(page)
        await _change_offline(page, newest)
        await expect(page.locator("#away")).to_contain_text("3 changes wait")
        await shoot(page, tmp_path, "offline-image")
        await page.goto("/")
        await _trash_and_undo(page, middle)
        visibility = {"json": {"visibility": "private"}}
        path = f"/v1/images/{oldest}"
        assert await call(page, "api.js", "callOrQueue", "POST", path, visibility, "Private") is None
        await expect(page.locator("#away")).to_contain_text("6 changes wait")
        bulk = {"json": {"ids": [oldest, newest], "action": "tag", "tags": ["sea"]}}
        await call(page, "api.js", "callOrQueue", "POST", "/v1/images/bulk", bulk, "Two tags")
        await page.goto(f"/images/{oldest}")
        await expect(page.get_by_role("heading", name="You are offline")).to_be_visible()
        await shoot(page, tmp_path, "offline-unseen")
        await page.goto("/")
        await proxy.request("DELETE", f"/v1/images/{oldest}")
        await page.context.set_offline(False)
        await expect(page.get_by_text("5 changes that you made offline are done.")).to_be_visible()
        for label in ("Private", "Two tags"):  # of the two one could be tagged
            await expect(page.get_by_text(f"{label}, which you did offline, did not work")).to_be_visible()
        await expect(page.locator("#away")).to_be_empty()
        await shoot(page, tmp_path, "offline-back")
        there = await proxy.get(f"/v1/images/{newest}")
        assert (there["favorite"], there["tags"], there["visibility"]) == (
            True,
            ["harbour", "sea"],
            "private",
        )
        assert (await proxy.get(f"/v1/images/{middle}"))["id"] == middle
        await page.get_by_role("button", name="Reload").click()
        await expect(page.locator("main img")).to_have_count(2)
        (hers,) = await make(proxy, "A ship of carol", OTHER_KEY)
        await page.goto(f"/images/{hers}")
        await with_worker(page, f"/images/{hers}")
        await proxy.request(
            "DELETE", f"/v1/images/{hers}", key=OTHER_KEY
        )  # what is gone is not kept, once that was seen
        await page.goto(f"/images/{hers}")
        await page.evaluate("address => fetch(address)", f"/v1/images/{hers}/thumbnail?size=512")

        async def is_dropped() -> bool:
            kept = await page.evaluate(KEPT)
            return not [
                address for each in ("pages", "thumbnails") for address in kept[each] if hers in address
            ]

        await eventually(is_dropped)


async def _change_offline(page: Page, image: str) -> None:
    """Change an image on its page: it looks changed at once. What needs the proxy is out of reach."""
    favorite = page.get_by_role("button", name="Favourite")
    await favorite.click()
    await expect(page.get_by_text("Favourite: Three boats in a harbour: done as soon as")).to_be_visible()
    await expect(favorite).to_have_attribute("aria-pressed", "true")
    await page.get_by_label("Add a tag").fill("harbour")
    await page.keyboard.press("Enter")
    await expect(page.locator(".chip", has_text="harbour")).to_be_visible()
    await page.get_by_label("Who may see it").select_option("private")
    for online in ("#edit", "#download", "#shares", '[data-add="collection"]'):
        await expect(page.locator(online)).to_have_attribute("inert", "")
    assert page.url.endswith(image)


async def _trash_and_undo(page: Page, image: str) -> None:
    """Throw an image away on the wall, and take it back, before the proxy knows."""
    tile = page.locator(f'.tile[data-id="{image}"]')
    await tile.locator("a").focus()
    await page.keyboard.press("Delete")
    await expect(tile).to_have_count(0)
    await expect(page.get_by_text("It is not sent yet.")).to_be_visible()
    await page.get_by_role("button", name="Undo").click()
    await expect(tile).to_be_visible()
    await page.locator("#away", has_text="5 changes wait").wait_for()


async def test_nothing_stays_for_the_next_person(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """A sign-out, the end of a session and another's sign-in leave no page, picture or queued change behind."""
    (image,) = await make(proxy, "Secret of bob")
    async with phone(chromium, proxy) as page:
        await signed_in(page)
        await with_worker(page, "/")
        await page.context.set_offline(True)
        await call(page, "api.js", "callOrQueue", "POST", f"/v1/images/{image}/favorite", {}, "Favourite")
        await page.context.set_offline(False)
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/login")
        assert await page.evaluate(KEPT) == {}
        assert await page.evaluate(STORED) == []
        # The session ends elsewhere: a key is revoked, a day has passed.
        await signed_in(page)
        await page.goto(f"/images/{image}")
        await with_worker(page, f"/images/{image}")
        await page.context.set_offline(True)
        await call(page, "api.js", "callOrQueue", "DELETE", f"/v1/images/{image}", {}, "Delete")
        await page.evaluate("localStorage.setItem('chosen', 'by bob')")
        await page.context.clear_cookies()
        await page.context.set_offline(False)
        await page.goto("/login")
        await eventually(lambda: _has_only_the_shell(page))
        await signed_in(page, OTHER_KEY)
        await with_worker(page, "/")
        assert [each for each in await page.evaluate(STORED) if each["id"] != "owner"] == []
        assert await page.evaluate("localStorage.length") == 0
        await page.context.set_offline(True)
        await page.goto(f"/images/{image}")
        await expect(page.get_by_role("heading", name="You are offline")).to_be_visible()
        await page.goto("/")
        await page.context.set_offline(False)
        await page.evaluate("document.forms[0].submit()")  # past our script
        await page.wait_for_url("**/login")
        assert (await page.evaluate(KEPT), await page.evaluate(STORED)) == ({}, [])
    assert (await proxy.get(f"/v1/images/{image}"))["id"] == image  # what bob did was not done as carol


async def test_a_new_version_replaces_the_old_one(
    chromium: Chromium, proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says so; the old worker's caches are gone, and what is on the screen is kept by the new one."""
    async with phone(chromium, proxy) as page:
        await signed_in(page)
        await with_worker(page, "/")
        old = set(await page.evaluate("caches.keys()"))
        known = static._set()
        newer = static._Set(files=known.files, version="f" * 16)
        monkeypatch.setattr(static, "_set", lambda: newer)
        await page.goto("/create")
        await page.evaluate("navigator.serviceWorker.ready.then((known) => known.update())")
        await expect(page.get_by_text("There is a new version")).to_be_visible()
        await with_worker(page, "/create")
        assert old.isdisjoint(await page.evaluate("caches.keys()"))


async def test_a_phone_shares_a_picture_to_it(chromium: Chromium, proxy: RunningProxy) -> None:
    """The worker takes the files, and none of them goes to the proxy; without a worker one is led on, told why."""
    async with phone(chromium, proxy) as page:
        await page.goto("/login")
        picture = base64.b64encode(png(64, 64)).decode()
        await page.evaluate(SHARE, [picture, "fox.png"])
        await page.wait_for_url("**/login?next=%2Fcreate%3Fincoming%3Dmissed")
        await page.goto("/")
        await signed_in(page)
        await with_worker(page, "/")
        await page.evaluate(SHARE, [picture, "fox.png", "hare.png"])
        await expect(page.get_by_label("Prompt")).to_have_value("A fox")
        for name in ("fox.png", "hare.png"):
            await expect(page.get_by_role("img", name=name)).to_be_visible()
        await pictures_there(page)
        assert [each for each in await page.evaluate(STORED) if each["id"] != "owner"] == []


async def test_what_is_kept_has_bounds(chromium: Chromium, proxy: RunningProxy) -> None:
    """100 pages, 10 MB: the oldest go first. And what was asked for before a sign-out is not kept after it."""
    async with phone(chromium, proxy) as page:
        await signed_in(page)
        await with_worker(page)  # which throws away what other versions kept, and this test is one
        for count, size_bytes, most in ((130, 10, 100), (26, 700_000, 14)):
            held, first, last, is_back = await page.evaluate(FILL, ["pages", count, size_bytes])
            assert 0.9 * most <= held <= most
            assert (first, last, is_back) == (count - held, count - 1, False)


async def _has_only_the_shell(page: Page) -> bool:
    return set(await page.evaluate(KEPT)) == {"shell"}
