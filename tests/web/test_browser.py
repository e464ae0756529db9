"""The gallery in a real browser: Chromium, at desk and at phone size, with the mouse and by keyboard.

A watched page fails its test when anything runs, is asked of a foreign host, or does not load. PIXIE_SCREENSHOTS names
a folder to keep the pictures in; else they are in pytest's.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, Request, Response, Route, expect

from pixie_proxy.upstream.demo import demo_upstream
from pixie_proxy.web.pages import wall
from tests.support.pictures import png
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import make, sign_in

pytestmark = pytest.mark.xdist_group("browser")  # one Chromium at a time is enough for a small machine

SIZES = {"desk": (1280, 800), "phone": (360, 740)}
AT_EVERY_SIZE = pytest.mark.parametrize("size", SIZES)
REFUSALS = re.compile(
    r"status of 4|^Blocked script execution|violates the following Content Security Policy"
    r"|^Service Worker registration blocked|^Clear-Site-Data header on .* Cleared"
)
"""What a browser says when it does not run or load something: our 4xx pages, what our headers or a test forbid; and of
what a sign-out cleared."""

HOSTILE_SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="64"
 height="64" onload="alert(1)"><script>alert(2);fetch("http://evil.example/")</script>
<script xlink:href="http://evil.example/x.js"/><image href="http://evil.example/x.png" width="9" height="9"/>
<foreignObject width="9" height="9"><body xmlns="http://www.w3.org/1999/xhtml"><script>alert(3)</script>
<img src="x" onerror="alert(4)"/></body></foreignObject><a href="javascript:alert(5)"><rect width="64" height="64">
<animate attributeName="x" onbegin="alert(6)" dur="1s"/></rect></a><style>@import "http://evil.example/x.css";</style>
</svg>"""
HOSTILE_PROMPT = (
    "</h1></title></textarea></style><script>alert(1)</script><img src=x onerror=alert(2)>"
    "\"'><svg onload=alert(3)><base href=http://evil.example/><meta http-equiv=refresh content=0;url=//evil.example>"
    "<link rel=stylesheet href=http://evil.example/x.css>{{ 7*7 }}"
)


@asynccontextmanager
async def watched(
    chromium: Chromium,
    proxy: RunningProxy,
    size: str = "desk",
    *,
    dark: bool = False,
    workers: Literal["allow", "block"] = "block",
) -> AsyncIterator[Page]:
    """Open a page on which nothing may run, nothing foreign may be asked for, and no element be out of sight.

    `workers`: whether our service worker may come. It would keep the whole shell, in each test anew.
    """
    faults: list[str] = []
    width, height = SIZES[size]
    context = await chromium.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        base_url=proxy.url,
        service_workers=workers,
    )
    page = await context.new_page()

    def asked(request: Request) -> None:
        if request.failure == "csp" or request.url.startswith("blob:"):
            return  # our policy stopped it before it left; a page's own memory is asked of nobody
        if urlsplit(request.url).netloc != urlsplit(proxy.url).netloc:
            faults.append(f"asked {request.url}")
        if request.resource_type == "script" and not urlsplit(request.url).path.startswith("/static/"):
            faults.append(f"ran {request.url}")

    def answered(response: Response) -> None:
        worst = (
            400 if response.request.method == "GET" else 500
        )  # a change may be refused, and the page tells why
        if response.status >= worst and not response.request.is_navigation_request():
            faults.append(f"{response.status} for {response.url}")

    context.on("requestfinished", asked)
    context.on("requestfailed", asked)
    context.on("response", answered)
    context.on("dialog", lambda dialog: faults.append(f"dialog {dialog.message}"))
    page.on("pageerror", lambda error: faults.append(f"error {error}"))
    page.on(
        "console",
        lambda message: None if REFUSALS.search(message.text) else faults.append(f"console {message.text}"),
    )
    yield page
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "scrolls sideways"
    )
    assert faults == []
    await context.close()


async def signed_in(page: Page, key: str = MEMBER_KEY) -> None:
    """Sign in as a person does, from the page that was wanted."""
    await page.goto("/")
    assert urlsplit(page.url).path == "/login"
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/")


async def shoot(page: Page, tmp_path: Path, name: str) -> None:
    """Keep a picture of the page, to be looked at."""
    folder = Path(os.environ.get("PIXIE_SCREENSHOTS", tmp_path))
    await page.screenshot(path=folder / f"{name}.png", full_page=True)


async def touch(page: Page, *steps: list[tuple[int, int]]) -> None:
    """Put fingers down and move them, as the browser's own protocol does."""
    wire = await page.context.new_cdp_session(page)
    for number, fingers in enumerate([*steps, []]):
        kind = "touchEnd" if not fingers else "touchMove" if number else "touchStart"
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(fingers)]
        await wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@AT_EVERY_SIZE
async def test_sign_in_and_out(chromium: Chromium, proxy: RunningProxy, tmp_path: Path, size: str) -> None:
    """A wrong key is told, a right one opens the gallery, which tells a newcomer what to do."""
    async with watched(chromium, proxy, size) as page:
        await page.goto("/")
        await shoot(page, tmp_path, f"{size}-login")
        await page.get_by_label("API key").fill("px-wrong")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("alert").wait_for()
        assert "not known here" in await page.get_by_role("alert").inner_text()
        await shoot(page, tmp_path, f"{size}-login-wrong")
        await signed_in(page)
        assert await page.get_by_role("heading", name="No images yet").is_visible()
        await shoot(page, tmp_path, f"{size}-empty")
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/login")
        await page.goto("/")
        assert urlsplit(page.url).path == "/login"


@AT_EVERY_SIZE
async def test_list_filter_and_walk(
    chromium: Chromium,
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    size: str,
) -> None:
    """Newest first, page by page, by owner and by model."""
    monkeypatch.setattr(wall, "_PER_PAGE", 6)
    shapes = [(1024, 1024), (1536, 1024), (1024, 1536), (8, 8)]
    upstream.script(image_json([png(*shapes[n % 4], seed=n) for n in range(9)]))
    made = await make(proxy, "A harbour at dawn, with three boats and a very long pier " * 3, n=9)
    upstream.script(image_json([png(64, 64, seed=20)]))
    (other,) = await make(proxy, "A fox", OTHER_KEY, model="gpt-image-1")
    async with watched(chromium, proxy, size) as page:
        await signed_in(page)
        tiles = page.locator(".grid > li")
        await expect(tiles).to_have_count(10)
        assert await _ids(page) == [other, *made]
        await all_load(page)
        await shoot(page, tmp_path, f"{size}-list")
        await page.goto(f"/?after={made[4]}")
        assert await _ids(page) == made[5:]
        await page.get_by_role("link", name="Newer").click()
        await expect(tiles).to_have_count(10)
        await page.get_by_label("Filters").click()
        await page.get_by_role("combobox", name="Owner").select_option("carol")
        await page.wait_for_url("**owner=carol**")
        await expect(tiles).to_have_count(1)
        assert await _ids(page) == [other]
        await page.get_by_role("combobox", name="Owner").select_option("Me")
        await page.get_by_role("combobox", name="Model").select_option("gpt-image-1")
        await page.get_by_role("button", name="Show").click()
        await page.get_by_role("heading", name="No image fits").wait_for()
        assert await tiles.count() == 0


@AT_EVERY_SIZE
async def test_delete_and_undo_by_keyboard_alone(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path, size: str
) -> None:
    """From the sign-in page to the trash and back, with Tab and Enter; what has the focus is seen to have it."""
    upstream.default(image_json([png(1024, 1024)]))
    (image_id,) = await make(proxy)
    async with watched(chromium, proxy, size, dark=True) as page:
        await page.goto("/")
        await expect(page.get_by_label("API key")).to_be_focused()
        await page.keyboard.type(MEMBER_KEY)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/")
        await page.keyboard.press("Tab")
        assert await _focused(page) == "Skip to the content"
        await page.keyboard.press("Enter")
        await _tab_to(page, "a cat")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/images/{image_id}")
        await all_load(page)
        await shoot(page, tmp_path, f"{size}-image")
        await _tab_to(page, "Delete")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/?trashed=*")
        assert image_id not in await _ids(page)
        await shoot(page, tmp_path, f"{size}-undo")
        await _tab_to(page, "Undo")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/images/{image_id}")
        await page.get_by_label("Who may see it").select_option("private")
        await page.get_by_text("Seen by: Owner and admins.").wait_for()
    assert (await proxy.request("GET", f"/v1/images/{image_id}", key=OTHER_KEY))[0] == 404
    assert (await proxy.request("GET", f"/v1/images/{image_id}", key=ADMIN_KEY))[0] == 200


async def test_hostile_pictures_and_prompts_run_nothing(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """An SVG full of scripts, a prompt full of markup: in the list, on the page of the image, and opened by itself."""
    upstream.default(image_json([HOSTILE_SVG]))
    (image_id,) = await make(proxy, HOSTILE_PROMPT)
    image = await proxy.get(f"/v1/images/{image_id}")
    async with watched(chromium, proxy) as page:
        await signed_in(page)
        await page.wait_for_timeout(300)
        alt = await page.locator(".grid .picture").get_attribute("alt")
        assert alt == HOSTILE_PROMPT
        await page.goto(f"/images/{image_id}")
        assert await page.locator("h1").inner_text() == HOSTILE_PROMPT
        assert (
            await page.locator("main script, main svg:not(.icon), iframe, object, embed, base").count() == 0
        )
        await page.wait_for_timeout(300)
        await shoot(page, tmp_path, "hostile")
        await page.goto("/?" + urlencode({"owner": HOSTILE_PROMPT}))
    async with watched(chromium, proxy) as page:
        await signed_in(page)
        for address in (f"/v1/images/{image_id}/content", urlsplit(image["url"]).path):
            await page.goto(address)
            await page.wait_for_timeout(300)


async def test_a_page_of_another_site_can_do_nothing(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A form that sends itself, a frame, a picture: from another origin, in the browser of somebody signed in."""
    (image_id,) = await make(proxy)
    token = (await sign_in(proxy)).csrf
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(f"{proxy.url}/login")
    await page.get_by_label("API key").fill(MEMBER_KEY)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/")

    async def evil(route: Route) -> None:
        await route.fulfill(
            content_type="text/html",
            body=f'<form method=post action="{proxy.url}/images/{image_id}/delete">'
            f'<input name=csrf value="{token}"></form><iframe src="{proxy.url}/"></iframe>'
            f'<img src="{proxy.url}/v1/images/{image_id}/content"><script>document.forms[0].submit()</script>',
        )

    await context.route("http://evil.example/**", evil)
    async with page.expect_response(lambda response: "/delete" in response.url) as awaited:
        await page.goto("http://evil.example/", wait_until="commit")
    answer = await awaited.value
    assert answer.status in {303, 403}  # without the cookie, or refused with it
    assert (await proxy.get(f"/v1/images/{image_id}"))["id"] == image_id
    await context.close()


@AT_EVERY_SIZE
async def test_pictures_of_the_demo_are_seen(chromium: Chromium, tmp_path: Path, size: str) -> None:
    """The whole way: an SDK has pictures drawn, PNG and SVG, and a person sees them in the browser."""
    async with demo_upstream(pace=0) as drawing, run_proxy(tmp_path / "data", drawing) as proxy:
        sdk = proxy.sdk()
        await sdk.images.generate(
            model="gpt-image-2", prompt="A lighthouse above the sea", n=2, size="1024x1024"
        )
        await sdk.images.generate(model="gpt-image-2.6-flare", prompt="A cat on a roof", output_format="svg")
        async with watched(chromium, proxy, size) as page:
            await signed_in(page)
            await all_load(page)
            assert await page.locator(".grid .picture").count() == 3
            await shoot(page, tmp_path, f"{size}-demo-list")
            await page.get_by_role("link", name="A cat on a roof").first.click()
            await page.wait_for_url("**/images/img_*")
            await all_load(page)
            await shoot(page, tmp_path, f"{size}-demo-image")


async def _ids(page: Page) -> list[str]:
    addresses: list[str] = await page.locator(".grid > li > a").evaluate_all(
        "all => all.map(a => a.pathname)"
    )
    return [address.rsplit("/", 1)[-1] for address in addresses]


async def all_load(page: Page) -> None:
    """Every picture that is asked for is there; those further down wait until they are near."""
    await page.wait_for_function(
        "[...document.images].every(i => i.loading === 'lazy' || (i.complete && i.naturalWidth > 0))"
    )


async def _focused(page: Page) -> str:
    """Say what has the focus, which must be visible."""
    text: str = await page.evaluate(
        """() => { const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();
        if (e === document.body || b.width < 1 || s.outlineStyle === 'none') return '(nothing to see)';
        return (e.innerText || e.value || e.querySelector('img')?.alt || '').trim(); }"""
    )
    return text


async def _tab_to(page: Page, name: str) -> None:
    """Press Tab until something has the focus whose text begins like this."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        found = await _focused(page)
        assert found != "(nothing to see)"
        if found.startswith(name):
            return
    raise AssertionError(name)
