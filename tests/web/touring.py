"""A walk through every page of the gallery, in every state that looks different: for what must hold on all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser as Chromium
from playwright.async_api import Page

from tests.support.pictures import gif, png
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, error_json, image_json
from tests.web.browsing import make
from tests.web.calling import GENERATIONS
from tests.web.creating import ask, job, opened, staged
from tests.web.test_browser import SIZES, signed_in

OPEN_GALLERY = {"allow_public": True}
"""The settings that a furnished proxy needs."""
PASSWORD = "correct horse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Furnished:
    """A proxy with something on every page. Ids of images, and paths of links."""

    proxy: RunningProxy
    upstream: ScriptedUpstream
    own: str
    other: str
    trashed: str
    share: str
    locked: str


async def furnish(proxy: RunningProxy, upstream: ScriptedUpstream) -> Furnished:
    """Make images of all shapes, tags, a collection, shares with and without a password, a failure, people."""
    shapes = ((1024, 1024), (1536, 1024), (1024, 1536), (900, 300))
    upstream.script(image_json([*[png(*shape, seed=n) for n, shape in enumerate(shapes)], gif(64, 64)]))
    trashed, own, *_ = await make(proxy, "A lighthouse above the sea at dusk, its lamp just lit", n=5)
    upstream.script(image_json([png(1024, 1024, seed=9)]))
    (other,) = await make(proxy, "A fox", OTHER_KEY)
    upstream.script(error_json(400, code="moderation_blocked"))
    await proxy.request("POST", GENERATIONS, json={"model": "gpt-image-2", "prompt": "no"})
    path = f"/v1/images/{own}"
    await _post(proxy, path, visibility="public", tags=["sea", "light house"])
    await _post(proxy, f"{path}/favorite")
    await _post(proxy, f"/v1/images/{other}/favorite")
    collection = await _post(proxy, "/v1/collections", name="Coast")
    await _post(proxy, f"/v1/collections/{collection['id']}/images", add=[own])
    share = await _post(proxy, f"{path}/shares", show_prompt=True)
    locked = await _post(proxy, f"{path}/shares", password=PASSWORD)
    await proxy.request("DELETE", f"/v1/images/{trashed}")
    await _post(proxy, "/v1/admin/users", ADMIN_KEY, name="eve", limits={"usd_per_month": 12.5})
    await _post(proxy, "/v1/admin/keys", ADMIN_KEY, user="eve", name="laptop", models=["gpt-image-2"])
    return Furnished(
        proxy=proxy,
        upstream=upstream,
        own=own,
        other=other,
        trashed=trashed,
        share=urlsplit(share["url"]).path,
        locked=urlsplit(locked["url"]).path,
    )


async def _post(proxy: RunningProxy, path: str, key: str = MEMBER_KEY, **fields: Any) -> Any:
    answer = await proxy.session.post(
        proxy.url + path, json=fields, headers={"Authorization": f"Bearer {key}"}
    )
    assert answer.status == 200, await answer.text()
    return await answer.json()


Stop = tuple[str, Page]
"""Where the walk stands: the name of the page's state, and the page."""


async def tour(chromium: Chromium, at: Furnished, size: str, **options: Any) -> AsyncIterator[Stop]:
    """Go through all pages as a guest, as a member and as an admin; `options` are those of a browser's context."""
    width, height = SIZES[size]
    options |= {"viewport": {"width": width, "height": height}, "base_url": at.proxy.url}
    for key, rooms in (
        (None, _guest),
        (MEMBER_KEY, _wall),
        (MEMBER_KEY, _image),
        (MEMBER_KEY, _create),
        (ADMIN_KEY, _dash),
    ):
        async with _visitor(chromium, key, options) as page:
            async for name in rooms(page, at):
                yield name, page


@asynccontextmanager
async def _visitor(chromium: Chromium, key: str | None, options: dict[str, Any]) -> AsyncIterator[Page]:
    context = await chromium.new_context(service_workers="block", **options)
    page = await context.new_page()
    if key:
        await signed_in(page, key)
    yield page
    await context.close()


async def _guest(page: Page, at: Furnished) -> AsyncIterator[str]:
    await page.goto("/login")
    yield "login"
    await page.get_by_label("API key").fill("px-wrong")
    await page.keyboard.press("Enter")
    await page.get_by_role("alert").wait_for()
    yield "login, wrong"
    for name, path in {
        "share": at.share,
        "share, locked": at.locked,
        "share, gone": "/s/" + "x" * 32,
        "public wall": "/public",
        "public image": f"/public/{at.own}",
        "offline": "/offline",
    }.items():
        await page.goto(path)
        yield name


async def _wall(page: Page, at: Furnished) -> AsyncIterator[str]:
    yield "wall"
    await page.get_by_label("Filters").click()
    await page.get_by_label("Only favourites").wait_for()
    yield "wall, filters"
    for name, path in {
        "wall, narrowed": "/?q=fox&owner=carol",
        "wall, nothing fits": "/?q=nothing",
        "wall, trash": "/?deleted=true",
        "nothing there": "/nowhere",
    }.items():
        await page.goto(path)
        yield name
    await page.goto("/")
    await page.locator("body").press("?")
    await page.get_by_role("dialog", name="Keys").wait_for()
    yield "wall, keys"
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Select", exact=True).click()
    await page.get_by_role("button", name="All shown").click()
    yield "wall, selected"
    for act in ("Add to a collection", "Change tags", "Who may see"):
        await page.get_by_role("button", name=act).click()
        await page.get_by_role("dialog").wait_for()
        yield f"wall, {act}"
        await page.keyboard.press("Escape")


async def _image(page: Page, at: Furnished) -> AsyncIterator[str]:
    for name, image_id in {"other's": at.other, "trashed": at.trashed, "own": at.own}.items():
        await page.goto(f"/images/{image_id}")
        yield f"image, {name}"
    await page.get_by_role("button", name="Make a link").click()
    await page.locator("#new-link:visible").wait_for()
    await page.locator("details.code summary").first.click()
    yield "image, shared"
    await page.get_by_role("button", name="Keys").click()
    yield "image, keys"
    await page.keyboard.press("Escape")
    await page.locator(".frame").click()
    await page.get_by_role("dialog", name="The picture, large").wait_for()
    yield "image, zoom"


async def _create(page: Page, at: Furnished) -> AsyncIterator[str]:
    await opened(page)
    yield "create"
    await page.locator("details.more > summary").click()
    await page.get_by_role("radio", name="Free").check()
    yield "create, settings"
    await opened(page, f"?from={at.own}")
    await page.locator(".reference").wait_for()
    yield "create, references"
    await page.get_by_role("button", name="From the gallery").click()
    await page.get_by_role("dialog").locator("img").first.wait_for()
    yield "create, picker"
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Paint a mask").click()
    await page.locator(".mask-stage").click()
    yield "create, mask"
    await page.get_by_role("button", name="Use mask").click()
    await page.get_by_alt_text("Its mask").wait_for()
    gate = asyncio.Event()
    await opened(page)
    at.upstream.script(staged(gate))
    await ask(page, "a red fox")
    await page.locator('.frame img[src^="blob:"]').first.wait_for()
    yield "create, running"
    gate.set()
    await job(page, "done").wait_for()
    yield "create, done"
    at.upstream.script(error_json(400, code="moderation_blocked"))
    await ask(page, "something refused")
    await job(page, "failed").wait_for()
    yield "create, refused"


async def _dash(page: Page, at: Furnished) -> AsyncIterator[str]:
    for name, path in {
        "usage": "/usage",
        "usage, dates": "/usage?from=2024-01-01&to=2026-01-01",
        "admin": "/admin",
        "acts": "/admin/acts",
        "people": "/admin/people",
    }.items():
        await page.goto(path)
        if name == "usage":
            await page.get_by_text("As a table").first.click()
        yield name
    await page.get_by_role("button", name="Add a person").click()
    await page.get_by_role("dialog").get_by_text("Limits of its own").click()
    yield "people, add"
    await page.keyboard.press("Escape")
    await page.get_by_role("link", name="eve").click()
    yield "person"
    for act in ("Change", "Rotate", "Revoke", "Disable", "Delete…", "Add a key"):
        await page.get_by_role("button", name=act).last.click()
        await page.get_by_role("dialog").wait_for()
        yield f"person, {act}"
        if act != "Add a key":
            await page.keyboard.press("Escape")
    await page.get_by_role("dialog").get_by_role("button", name="Add a key").click()
    await page.locator("#secret-text:visible").wait_for()
    yield "person, new key"
