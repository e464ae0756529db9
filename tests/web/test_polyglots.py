"""Files that are two things at once are what their first bytes say, and nothing in them runs in any browser (R63)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser as Chromium
from playwright.async_api import Error, Page

from pixie_proxy.media import sniff
from tests.gallery.polyglots import polyglots
from tests.support.figures import RecordFigure
from tests.support.proxy import RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import sign_in
from tests.web.calling import CAT, GENERATIONS, ended, listed

pytestmark = pytest.mark.xdist_group("browser")

ALLOWED = {
    *("image/png", "image/jpeg", "image/webp", "image/gif", "image/svg+xml", "application/octet-stream"),
}
EMBEDDED = (
    '<script src="{0}"></script><link rel="stylesheet" href="{0}"><iframe src="{0}"></iframe><img src="{0}">'
    '<object data="{0}"></object><embed src="{0}"><video src="{0}"></video><script type="module" src="{0}"></script>'
)


class Careless:
    """Another site: it serves each file as whatever it could be, embeds ours, and sees what runs."""

    def __init__(self) -> None:
        self.ran: set[int] = set()
        self.files: list[bytes] = []
        self.page = ""
        app = web.Application()
        app.add_routes(
            [
                web.get("/ran/{number}", self._run),
                web.get(r"/{number:\d+}.{type}", self._file),
                web.get("/", self._page),
                web.post("/ran/{number}", self._run),
            ]
        )
        self.server = TestServer(app)

    def url(self, number: int) -> str:
        return str(self.server.make_url(f"/ran/{number}"))

    async def _run(self, request: web.Request) -> web.Response:
        self.ran.add(int(request.match_info["number"]))
        return web.Response()

    async def _file(self, request: web.Request) -> web.Response:
        types = {"html": "text/html", "svg": "image/svg+xml", "js": "text/javascript"}
        body = self.files[int(request.match_info["number"])]
        return web.Response(body=body, content_type=types[request.match_info["type"]])

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=self.page, content_type="text/html")


@pytest.fixture
async def careless() -> AsyncIterator[Careless]:
    site = Careless()
    async with site.server:
        yield site


@asynccontextmanager
async def opened(chromium: Chromium, proxy: RunningProxy) -> AsyncIterator[Page]:
    """Open a page in the browser of somebody who is signed in; no question that a page asks stops it."""
    context = await chromium.new_context(base_url=proxy.url)
    name, _, value = (await sign_in(proxy)).cookie.partition("=")
    await context.add_cookies([{"name": name, "value": value, "url": proxy.url}])
    page = await context.new_page()
    yield page
    await page.wait_for_timeout(500)  # what runs late
    await context.close()


async def visit(page: Page, address: str) -> None:
    """Open an address; one that the browser only saves is no error."""
    with suppress(Error):
        await page.goto(address, wait_until="load")


async def kept(proxy: RunningProxy, upstream: ScriptedUpstream, files: list[bytes]) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = []
    for at in range(0, len(files), 10):
        some = files[at : at + 10]
        upstream.script(image_json(some))
        status, _, body = await proxy.request("POST", GENERATIONS, json={**CAT, "n": len(some)})
        assert status == 200, body
        await ended(proxy)
        images += sorted(await listed(proxy, f"?limit={len(some)}"), key=lambda image: image["index"])
    return images


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.torture)])
async def test_polyglots_are_typed_by_their_first_bytes_and_inert(
    chromium: Chromium,
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    careless: Careless,
    step: int,
    record_figure: RecordFigure,
) -> None:
    """GIF/JS, PNG/HTML, SVG/HTML, PDF/JPEG, ZIP/PNG and more: opened by key and by link, and embedded by another site.

    The same files do run where a server believes them; else this would prove nothing.
    """
    everything = polyglots(careless.url)
    assert len({data for _, data in everything}) == len(everything) == 200
    names, files = zip(*everything[::step], strict=True)
    careless.files = [data for _, data in everything]
    images = await kept(proxy, upstream, list(files))
    for name, data, image in zip(names, files, images, strict=True):
        status, headers, body = await proxy.request("GET", image["content_url"])
        assert (status, headers["Content-Type"], body) == (200, sniff(data), data), name
        assert headers["Content-Type"] in ALLOWED
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    visits = 0
    async with opened(chromium, proxy) as page:
        for image in images:
            for address in (image["content_url"], image["thumbnail_url"], urlsplit(image["url"]).path):
                await visit(page, address)
                visits += 1
        for address in ("/", *[f"/images/{image['id']}" for image in images[:: max(1, len(images) // 10)]]):
            await visit(page, address)
    assert careless.ran == set()
    async with opened(chromium, proxy) as page:
        for at in range(0, len(images), 20):
            some = images[at : at + 20]
            careless.page = "<!doctype html>" + "".join(EMBEDDED.format(image["url"]) for image in some)
            await visit(page, str(careless.server.make_url("/")))
    assert careless.ran == set()
    async with opened(chromium, proxy) as page:
        for number in range(0, len(everything), step):
            for kind in ("html", "svg"):
                await visit(page, str(careless.server.make_url(f"/{number}.{kind}")))
            careless.page = f'<!doctype html><script src="/{number}.js"></script>'
            await visit(page, str(careless.server.make_url("/")))
    assert len(careless.ran) > len(images) / 2
    types = {image["format"] for image in images}
    record_figure(
        "R63",
        polyglots=len(images),
        types=len(types),
        visits=visits,
        ran_where_a_server_believes_them=len(careless.ran),
        scripts=0,
    )
