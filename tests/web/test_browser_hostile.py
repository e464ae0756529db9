"""What others wrote is never markup and never code: sixty payloads on every page that shows them, in Chromium (R80)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import Dialog, Error, FilePayload, Page, Request, Route

from tests.support.figures import RecordFigure
from tests.support.hostile import PICTURES, TEXTS
from tests.support.pictures import png
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.calling import GENERATIONS, ended
from tests.web.conftest import ProxyWith
from tests.web.creating import opened as create_opened
from tests.web.test_browser import signed_in

pytestmark = pytest.mark.xdist_group("browser")
BELIEVER = "http://believer.test"
_BELIEVING = (
    "<!doctype html><title>TEXT</title><textarea></textarea>TEXT<input value=\"TEXT\"><input value='TEXT'>"
    '<a href="TEXT">a</a><script>x = ["TEXT"]</script><script>x = `TEXT`</script>'
)


@dataclass
class Seen:
    """What ran, what was asked of others, and how many pages were looked at."""

    own: str
    ran: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    visits: int = 0

    async def dialog(self, dialog: Dialog) -> None:
        self.ran.add(dialog.message)
        await dialog.dismiss()

    def request(self, request: Request) -> None:
        if not request.url.startswith((self.own, "data:", "blob:")):
            self.asked.add(request.url)


@pytest.mark.parametrize("step", [20, pytest.param(1, marks=pytest.mark.torture)])
async def test_nothing_that_others_wrote_runs(
    chromium: Chromium,
    proxy_with: ProxyWith,
    upstream: ScriptedUpstream,
    step: int,
    record_figure: RecordFigure,
) -> None:
    """As picture, prompt, revised prompt, tag, name of a file, a model, a key, a person, a collection, and as a search.

    Pages are looked at without their Content-Security-Policy: escaping holds by itself. Files are opened with it. The
    same payloads do run where a page believes them; else this would prove nothing.
    """
    pictures, texts = PICTURES[::step], TEXTS[::step]
    models = {text: {"usd_per_image": 0.01} for text in texts}
    gallery = {"allow_public": True, "visibility": "public"}
    proxy = await proxy_with(gallery=gallery, models={"prices": models})
    images = await _keep(proxy, upstream, pictures, texts)
    seen = Seen(proxy.url)
    async with _watched(chromium, seen, bypass_csp=True) as page:
        await signed_in(page)
        await _look_at_pages(page, seen, images, texts)
        await _name_files(page, seen, texts)
    async with _watched(chromium, seen, bypass_csp=True) as page:
        await signed_in(page, ADMIN_KEY)
        await _look_at_rooms(page, seen, texts)
    async with _watched(chromium, seen) as page:
        await signed_in(page)
        for image in images:
            below = [image["share"], f"/public/{image['id']}"]
            for path in (image["content_url"], image["thumbnail_url"], urlsplit(image["url"]).path):
                await _visit(page, seen, path)
            for path in below:
                await _visit(page, seen, f"{path}/content")
                await _visit(page, seen, f"{path}/thumbnail")
    assert seen.ran == set()
    assert seen.asked == set()
    believed = await _believed(chromium, pictures, texts)
    assert len(believed.ran) >= (len(pictures) + len(texts)) / 2
    assert step > 1 or believed.asked
    record_figure(
        "R80",
        payloads=len(pictures) + len(texts),
        visits=seen.visits,
        scripts=len(seen.ran),
        outside_requests=len(seen.asked),
        ran_where_a_page_believes_them=len(believed.ran),
    )


async def _keep(
    proxy: RunningProxy, upstream: ScriptedUpstream, pictures: Sequence[bytes], texts: Sequence[str]
) -> list[dict[str, Any]]:
    """Have an image for each payload, with hostile texts in every field that takes them, shared by a link."""
    images: list[dict[str, Any]] = []
    for number in range(max(len(pictures), len(texts))):
        text = texts[number % len(texts)]
        picture = pictures[number] if number < len(pictures) else png(64, 64, seed=number)
        await _may(proxy, "/v1/admin/users", ADMIN_KEY, name=text, role="member")
        await _may(proxy, "/v1/admin/keys", ADMIN_KEY, user="bob", name=text)
        data = [{"b64_json": _base64(picture), "revised_prompt": f"revised {text}"}]
        upstream.script(image_json([picture], data=data))
        await _must(proxy, GENERATIONS, model=text, prompt=text)
        await ended(proxy)
        (image,) = (await proxy.get("/v1/images?limit=1"))["data"]
        path = f"/v1/images/{image['id']}"
        await _may(proxy, path, tags=[text])
        collection = await _may(proxy, "/v1/collections", name=text)
        if collection:
            await _must(proxy, f"/v1/collections/{collection['id']}/images", add=[image["id"]])
        share = await _must(proxy, f"{path}/shares", show_prompt=True)
        images.append({**image, "share": urlsplit(share["url"]).path})
    return images


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def _must(proxy: RunningProxy, path: str, key: str = MEMBER_KEY, **fields: Any) -> dict[str, Any]:
    answer = await _may(proxy, path, key, **fields)
    assert answer is not None, path
    return answer


async def _may(proxy: RunningProxy, path: str, key: str = MEMBER_KEY, **fields: Any) -> dict[str, Any] | None:
    """Ask for a change that may be refused, as a name that no name can be."""
    headers = {"Authorization": f"Bearer {key}"}
    async with proxy.session.post(proxy.url + path, json=fields, headers=headers) as answer:
        assert answer.status in {200, 400}, await answer.text()
        told: dict[str, Any] = await answer.json()
        return told if answer.status == 200 else None


@asynccontextmanager
async def _watched(chromium: Chromium, seen: Seen, **options: Any) -> AsyncIterator[Page]:
    context = await chromium.new_context(base_url=seen.own, service_workers="block", **options)
    context.on("dialog", seen.dialog)
    context.on("requestfinished", seen.request)
    page = await context.new_page()
    yield page
    await page.wait_for_timeout(300)
    await context.close()


async def _visit(page: Page, seen: Seen, path: str) -> None:
    """Open an address, and give it a moment; what is sent as a file to keep opens nothing."""
    seen.visits += 1
    with suppress(Error):
        await page.goto(path, wait_until="load")
    await page.wait_for_timeout(30)


async def _look_at_pages(
    page: Page, seen: Seen, images: Sequence[dict[str, Any]], texts: Sequence[str]
) -> None:
    for path in ("/", "/?deleted=true", "/usage", "/public"):
        await _visit(page, seen, path)
        await page.wait_for_timeout(300)
    for image in images:
        for path in (f"/images/{image['id']}", image["share"], f"/public/{image['id']}"):
            await _visit(page, seen, path)
        for how in ("vary", "from"):
            await _visit(page, seen, f"/create?{how}={image['id']}")
    for text in texts:
        asked = {"q": text, "owner": text, "model": text, "tag": text, "collection": text}
        for path in (
            f"/create?{urlencode({'prompt': text})}",
            *[f"/?{urlencode({name: value})}" for name, value in asked.items()],
            f"/usage?{urlencode({'owner': text, 'period': text})}",
            f"/login?{urlencode({'next': text})}",
            f"/{quote(text, safe='')}",
        ):
            await _visit(page, seen, path)
    await _visit(page, seen, "/")
    for text in texts:
        await page.get_by_placeholder("Search prompts").fill(text)
        await page.wait_for_timeout(50)


async def _name_files(page: Page, seen: Seen, texts: Sequence[str]) -> None:
    """Choose files with such names: as pictures to start from, and as what can't be one."""
    for text in texts:
        await create_opened(page)
        seen.visits += 1
        name = text.replace("\0", "").replace("/", "\u2215")  # what a file can be called
        files: list[FilePayload] = [
            {"name": name + ".png", "mimeType": "image/png", "buffer": png(64, 64)},
            {"name": name + ".txt", "mimeType": "text/plain", "buffer": b"no picture"},
        ]
        await page.locator('input[type="file"]').set_input_files(files)
        await page.locator(".reference").wait_for()


async def _look_at_rooms(page: Page, seen: Seen, texts: Sequence[str]) -> None:
    for path in ("/admin", "/admin/people", "/admin/people/bob", "/admin/acts", "/usage?period=7"):
        await _visit(page, seen, path)
        await page.wait_for_timeout(300)
    for text in texts:
        for path in (
            f"/admin/people?{urlencode({'q': text})}",
            f"/admin/people/{quote(text, safe='')}",
            f"/admin/acts?{urlencode({'user': text, 'action': text})}",
        ):
            await _visit(page, seen, path)


async def _believed(chromium: Chromium, pictures: Sequence[bytes], texts: Sequence[str]) -> Seen:
    """Open the payloads where they are believed: as documents, in text, in attributes, in a script, as an address."""
    seen = Seen(BELIEVER)

    async def believe(route: Route) -> None:
        kind, number = route.request.url.removeprefix(f"{BELIEVER}/").split("/")
        if not number.isdecimal():
            await route.abort()  # what a payload asks for beside itself
        elif kind == "picture":
            data = pictures[int(number)]
            is_svg = data.startswith((b"<svg", b"<?xml"))
            await route.fulfill(content_type="image/svg+xml" if is_svg else "text/html", body=data)
        else:
            believing = _BELIEVING.replace("TEXT", texts[int(number)])
            await route.fulfill(content_type="text/html; charset=utf-8", body=believing)

    async def nowhere(route: Route) -> None:
        seen.asked.add(route.request.url)
        await route.abort()

    async with _watched(chromium, seen) as page:
        await page.context.route("**/*", nowhere)
        await page.context.route(f"{BELIEVER}/*/*", believe)
        for kind, count in (("picture", len(pictures)), ("text", len(texts))):
            for number in range(count):
                await _visit(page, seen, f"{BELIEVER}/{kind}/{number}")
    return seen
