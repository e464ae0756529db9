"""The create page in a real browser: as a person makes images, closes tabs, loses the network and paints masks.

What the upstream was asked for is looked at where it arrives: at the scripted upstream, which also counts what it bills.
"""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, Page, expect

from pixie_proxy.upstream.demo import demo_upstream
from tests.support.faulty import FaultRelay
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, OTHER_KEY, RunningProxy, run_proxy
from tests.support.upstream import Script, ScriptedUpstream, body, head, image_sse_events, pause
from tests.support.waiting import eventually
from tests.web.browsing import make
from tests.web.conftest import ProxyWith
from tests.web.test_browser import SIZES, shoot, signed_in, watched

pytestmark = pytest.mark.xdist_group("browser")

EVENTS = (("Content-Type", "text/event-stream"),)


def staged(gate: asyncio.Event, *, kind: Any = "generation", seed: int = 7) -> list[Script]:
    """Give the script of one image: a partial image at once, the image itself once `gate` is open."""
    partial, completed = image_sse_events([png(64, 64, seed=seed)], partials=1, kind=kind)
    return [head(200, EVENTS, "chunked"), body(partial), pause(gate), body(completed)]


@asynccontextmanager
async def person(
    chromium: Chromium, url: str, size: str = "desk", **options: Any
) -> AsyncIterator[tuple[BrowserContext, Page]]:
    """Sign in with a browser in which requests may be refused and broken; what no script expects fails the test."""
    width, height = SIZES[size]
    context = await chromium.new_context(
        viewport={"width": width, "height": height}, base_url=url, **options
    )
    context.set_default_timeout(8_000)
    faults: list[str] = []
    context.on("weberror", lambda error: faults.append(str(error.error)))
    page = await context.new_page()
    await signed_in(page)
    yield context, page
    assert faults == []
    await context.close()


async def opened(page: Page, query: str = "") -> None:
    """Open the create page, and return once it can be used."""
    await page.goto(f"/create{query}")
    await page.locator("#controls:enabled").wait_for()


async def ask(page: Page, prompt: str) -> None:
    """Write a prompt, and press Make."""
    await page.get_by_label("Prompt", exact=True).fill(prompt)
    await page.get_by_role("button", name="Make", exact=True).click()


def job(page: Page, state: str) -> Any:
    """Give the newest job that stands so."""
    return page.locator(f'.job[data-state="{state}"]').first


async def test_four_images_appear_as_they_are_made(chromium: Chromium, tmp_path: Path) -> None:
    """Price, four tiles, partial images, what it did cost; then one is opened, deleted and brought back."""
    async with demo_upstream(pace=0.15) as drawing, run_proxy(tmp_path / "data", drawing) as proxy:
        async with watched(chromium, proxy) as page:
            await signed_in(page)
            await opened(page)
            await page.get_by_label("Prompt", exact=True).fill("A lighthouse above the sea")
            await page.get_by_role("radio", name="Low").check()
            await page.get_by_label("Images", exact=True).fill("4")
            await page.get_by_text("About $0.048").wait_for()
            await page.keyboard.press("Control+Enter")
            await page.locator('.frame img[src^="blob:"]').first.wait_for()
            bar = page.get_by_role("progressbar")
            assert 0 < int(await bar.get_attribute("aria-valuenow") or 0) <= 95
            await shoot(page, tmp_path, "create-running")
            await job(page, "done").wait_for()
            await expect(page.locator("#told")).to_have_text("Done: 4 images.")
            await expect(page.locator(".job-state")).to_contain_text("$0.048")
            links = page.locator('.frame a[href^="/images/img_"]')
            await expect(links).to_have_count(4)
            await eventually(lambda: page.evaluate("[...document.images].every((each) => each.naturalWidth > 0)"))
            await shoot(page, tmp_path, "create-done")
            listed = [image["id"] for image in (await proxy.get("/v1/images"))["data"]]
            shown = [await link.get_attribute("href") for link in await links.all()]
            assert shown == [f"/images/{each}" for each in reversed(listed)]
            await page.get_by_role("button", name="Delete").first.click()
            await expect(page.locator(".tile:visible")).to_have_count(3)
            assert len((await proxy.get("/v1/images"))["data"]) == 3
            await page.get_by_role("button", name="Undo").click()
            await expect(page.locator(".tile:visible")).to_have_count(4)
            await links.first.click()
            await page.wait_for_url(f"**{shown[0]}")
            await page.goto("/create")
            await expect(job(page, "done").locator(".frame a")).to_have_count(4)


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
        page = await context.new_page()
        await opened(page)
        await job(page, "running").wait_for()
        gate.set()
        await job(page, "done").locator('a[href^="/images/img_"]').wait_for()
        assert (upstream.charged, len(upstream.requests)) == (1, 1)

        await ask(page, "a dog")
        await job(page, "running").locator('img[src^="blob:"]').wait_for()
        await page.close()
        late.set()
        await eventually(lambda: _images(proxy, 2))
        page = await context.new_page()
        await opened(page)
        await expect(page.locator('.job[data-state="done"] a[href^="/images/img_"]')).to_have_count(2)
        assert (upstream.charged, len(upstream.requests)) == (2, 2)

        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/login")
        assert await page.evaluate("indexedDB.databases().then(all => all.length)") == 1
        await page.get_by_label("API key").fill(OTHER_KEY)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/")
        await opened(page)
        assert await page.locator(".job").count() == 0


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
        await eventually(lambda: _images(proxy, 2))
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


async def test_a_mask_is_sent_as_it_was_painted(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Of the picture's own size as it is seen, alpha 0 where something was painted, and 255 everywhere else."""
    upstream.default([head(200, EVENTS, "chunked"), *map(body, image_sse_events(1, kind="edit"))])
    async with watched(chromium, proxy) as page:
        await signed_in(page)
        await opened(page)
        await page.locator('input[type="file"]').set_input_files(
            [
                {"name": "turned.jpg", "mimeType": "image/jpeg", "buffer": _turned(1600, 1200)},
                {"name": "second.png", "mimeType": "image/png", "buffer": png(64, 64)},
                {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"},
            ]
        )
        await page.get_by_text("“notes.txt” can’t be used").wait_for()
        await page.get_by_role("button", name="Paint a mask").click()
        stage = page.locator(".mask-stage")
        box = await stage.bounding_box()
        assert box is not None
        scale = box["width"] / 1200  # the picture stands upright: 1200 × 1600
        assert abs(box["height"] - 1600 * scale) < 1
        for _ in range(3):
            await page.keyboard.press("]")
        radius = int(await page.get_by_label("Size of the brush").input_value())
        await page.mouse.move(box["x"] + 300 * scale, box["y"] + 400 * scale)
        await page.mouse.down()
        await page.mouse.move(box["x"] + 900 * scale, box["y"] + 400 * scale, steps=5)
        await page.mouse.up()
        await page.mouse.click(box["x"] + 600 * scale, box["y"] + 1200 * scale)
        await page.keyboard.press("Control+z")
        await page.get_by_role("button", name="Invert").click()
        await page.keyboard.press("Control+z")
        await shoot(page, tmp_path, "create-mask")
        await page.get_by_role("button", name="Use mask").click()
        await page.get_by_alt_text("Its mask").wait_for()
        await ask(page, "a hat")
        await job(page, "done").wait_for()
    sent = upstream.requests[0]
    assert [part.name for part in sent.parts if part.filename] == ["image[]", "image[]", "mask"]
    assert sent.part("image[]").data == _turned(1600, 1200)
    mask = Image.open(io.BytesIO(sent.part("mask").data or b""))
    assert (mask.format, mask.mode, mask.size) == ("PNG", "RGBA", (1200, 1600))
    alpha = mask.getchannel("A")
    assert {value for _, value in alpha.getcolors() or []} == {0, 255}
    painted = alpha.load()
    assert painted is not None
    slack = 1 / scale + 1  # the mouse stands on whole pixels of the screen
    for y in range(0, 1600, 7):
        for x in range(0, 1200, 7):
            away = math.hypot(x - min(900, max(300, x)), y - 400)
            if abs(away - radius) > slack:
                assert painted[x, y] == (0 if away < radius else 255), (x, y)


async def test_by_keyboard_alone(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """From an image of the gallery to an edit with a painted mask; what has the focus never gets lost."""
    upstream.script([head(200, EVENTS, "chunked"), *map(body, image_sse_events([png(256, 256)]))])
    await proxy.request("POST", "/v1/images/generations", json={"model": "gpt-image-2", "prompt": "a cat"})
    await eventually(lambda: _images(proxy, 1))
    image_id = (await proxy.get("/v1/images"))["data"][0]["id"]
    upstream.script([head(200, EVENTS, "chunked"), *map(body, image_sse_events(1, kind="edit"))])
    async with watched(chromium, proxy) as page:
        await signed_in(page)
        await opened(page, f"?from={image_id}")
        await page.locator(".reference").wait_for()
        await page.get_by_label("Prompt", exact=True).focus()
        await page.keyboard.type("a hat")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Paint a mask")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator(".mask-stage")).to_be_focused()
        for _ in range(4):
            await page.keyboard.press("ArrowLeft")
        await page.keyboard.down("Space")
        await page.keyboard.press("ArrowUp")
        await page.keyboard.up("Space")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Use mask")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.get_by_alt_text("Its mask").wait_for()
        await expect(page.get_by_role("button", name="Paint a mask")).to_be_focused()
        await page.keyboard.press("Control+Enter")
        await job(page, "done").wait_for()
    mask = Image.open(io.BytesIO(upstream.requests[1].part("mask").data or b"")).getchannel("A")
    assert [mask.getpixel(at) for at in ((96, 128), (96, 120), (96, 160), (160, 128))] == [0, 0, 255, 255]
    (made, _) = (await proxy.get("/v1/images"))["data"]
    assert made["parents"] == [image_id]


async def test_on_a_phone_by_touch(chromium: Chromium, tmp_path: Path) -> None:
    """An idea, Make, a mask by finger; the price and the button are always at hand, and what was chosen is kept."""
    async with demo_upstream(pace=0.1) as drawing, run_proxy(tmp_path / "data", drawing) as proxy:
        async with person(chromium, proxy.url, "phone", has_touch=True, is_mobile=True) as (_, page):
            await opened(page)
            await page.get_by_role("button", name="A red fox in the snow").tap()
            await page.get_by_role("radio", name="Wide").tap()
            await expect(page.get_by_role("button", name="Make", exact=True)).to_be_in_viewport()
            await shoot(page, tmp_path, "create-phone")
            await page.get_by_role("button", name="Make", exact=True).tap()
            await job(page, "done").locator("a").first.wait_for()
            await page.get_by_role("button", name="Start from this image").tap()
            await page.get_by_role("button", name="Paint a mask").tap()
            await page.locator(".mask-stage").tap()
            await shoot(page, tmp_path, "create-phone-mask")
            await page.get_by_role("button", name="Use mask").tap()
            await page.get_by_alt_text("Its mask").wait_for()
            await ask(page, "a blue fox")
            await expect(page.locator('.job[data-state="done"]')).to_have_count(2)
            assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            assert [each["kind"] for each in (await proxy.get("/v1/images"))["data"]] == ["edit", "generation"]
            await opened(page)
            assert await page.locator('input[value="1536x1024"]').is_checked()
            assert await page.get_by_label("Prompt", exact=True).input_value() == ""


async def test_only_what_a_model_can_do_is_offered(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Sizes, qualities, files and the rest follow the model; an address may bring a prompt, an image, or files."""
    upstream.script([head(200, EVENTS, "chunked"), *map(body, image_sse_events([png(1536, 1024)]))])
    (image_id,) = await make(proxy, "a harbour at dawn", size="1536x1024", quality="high")
    async with watched(chromium, proxy) as page:
        await signed_in(page)
        await opened(page, "?prompt=two+cats")
        await expect(page.get_by_label("Prompt", exact=True)).to_have_value("two cats")
        await page.get_by_role("radio", name="Free").check()
        await page.get_by_label("Width in pixels").fill("1000")
        await page.get_by_text("1008 × 1024 would fit").wait_for()
        await page.get_by_label("Model", exact=True).select_option("gpt-image-1-mini")
        await page.get_by_text("shuts this model down on").wait_for()
        assert not await page.get_by_role("radio", name="Free").is_visible()
        await page.get_by_label("Model", exact=True).select_option("gpt-image-2.6-flare")
        assert await page.get_by_role("radio", name="Extra").is_visible()
        await page.get_by_text("More settings").click()
        await page.get_by_label("File", exact=True).select_option("svg")
        assert not await page.get_by_label("Images", exact=True).is_visible()
        await page.get_by_role("button", name="Make", exact=True).click()
        await page.get_by_label("Prompt", exact=True).fill("")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("#order-fault")).to_have_text("Say first what the image should show.")

        await opened(page, f"?vary={image_id}")
        await expect(page.get_by_label("Prompt", exact=True)).to_have_value("a harbour at dawn")
        assert await page.locator('input[value="1536x1024"]').is_checked()
        assert await page.locator('input[value="high"]').is_checked()
        assert await page.locator(".reference").count() == 0
        await page.get_by_role("button", name="From the gallery").click()
        await page.get_by_label("Search prompts").fill("nothing like it")
        await page.get_by_text("No image fits.").wait_for()
        await page.get_by_label("Search prompts").fill("harb")
        await page.get_by_role("button", name="a harbour at dawn").click()
        await page.get_by_role("button", name="Use 1 image").click()
        await expect(page.locator(".reference")).to_have_count(1)

        await page.evaluate(
            """async () => { const { put } = await import(document.querySelector('script[src*="create.js"]').src
            .replace('create.js', 'store.js'));
            const bytes = await (await fetch('%s')).blob();
            await put('incoming', { id: '1', files: [new File([bytes], 'shared.png')], text: 'from a phone' }); }"""
            % f"/v1/images/{image_id}/content"
        )
        await opened(page, "?incoming=1")
        await expect(page.locator(".reference")).to_have_count(1)
        await expect(page.get_by_label("Prompt", exact=True)).to_have_value("from a phone")
        assert page.url.endswith("/create")
    plain = await chromium.new_context(base_url=proxy.url, java_script_enabled=False)
    page = await plain.new_page()
    await page.goto("/login?next=/create")
    await page.get_by_label("API key").fill(MEMBER_KEY)
    await page.keyboard.press("Enter")
    await page.locator("noscript code").wait_for()
    assert "/v1/images/generations" in await page.locator("noscript").inner_text()
    assert not await page.locator("#order").is_visible()
    await plain.close()


MODULES = """async () => {
    const from = document.querySelector('script[src*="create.js"]').src;
    const load = (name) => import(from.replace("create.js", name));
    const [{ EventParser }, { Placing }, { fraction, typicalS, remember }, { secondsToWait }] = await Promise.all(
        ["events.js", "sending.js", "progress.js", "jobs.js"].map(load));
    const stream = ": hello\\r\\nevent: a\\r\\ndata: {\\"x\\":1}\\r\\n\\r\\ndata:one\\ndata: two\\n\\n:\\r\\rdata: [DONE]\\r\\r"
        + "event: empty\\n\\ndata: never ended";
    const cuts = new Set();
    for (let at = 0; at <= stream.length; at += 1) {
        const parser = new EventParser();
        cuts.add(JSON.stringify([...parser.feed(stream.slice(0, at)), ...parser.feed(stream.slice(at))]));
    }
    const single = new EventParser();
    cuts.add(JSON.stringify([...stream].flatMap((character) => single.feed(character))));
    const inOrder = new Placing(), mixed = new Placing();
    remember({ model: "m", quality: "low" }, 3); remember({ model: "m", quality: "low" }, 5);
    const said = (status, headers = {}, code = null) => secondsToWait({ status, code, headers: new Headers(headers) }, 3);
    return {
        events: [...cuts].map(JSON.parse),
        inOrder: [inOrder.partial(0), inOrder.partial(1), inOrder.completed(), inOrder.partial(0), inOrder.completed()],
        mixed: [mixed.partial(0), mixed.partial(0), mixed.partial(1), mixed.completed(), mixed.partial(1), mixed.completed()],
        typical: [typicalS({ model: "m", quality: "low" }), typicalS({ model: "other", quality: "low" })],
        fractions: [0, 5, 10, 20, 1e6].map((elapsed) => fraction(elapsed, 10)),
        seen: [fraction(0, 10, 0.5), fraction(0, 10, 1)],
        waits: [said(0), said(429, { "retry-after": "12" }), said(429, { "x-should-retry": "false" }), said(503), said(400), said(200)],
    };
}"""


async def test_the_modules_that_know_no_page(chromium: Chromium, proxy: RunningProxy) -> None:
    """Events wherever a piece ends; which image a partial belongs to; a bar that never says that it is done."""
    async with watched(chromium, proxy) as page:
        await signed_in(page)
        await opened(page)
        found = await page.evaluate(MODULES)
    assert found["events"] == [
        [
            {"name": "a", "data": '{"x":1}'},
            {"name": "message", "data": "one\ntwo"},
            {"name": "message", "data": "[DONE]"},
        ]
    ]
    assert found["inOrder"] == [0, 0, 0, 1, 1]
    assert found["mixed"] == [0, 1, 0, 0, 1, 1]
    assert found["typical"] == [5, 12]
    assert found["fractions"] == sorted(found["fractions"])
    assert found["fractions"][0] == 0
    assert found["fractions"][2] == pytest.approx(0.8)
    assert found["fractions"][-1] <= 0.95
    assert found["seen"] == [pytest.approx(0.475), pytest.approx(0.95)]
    assert found["waits"] == [8, 12, None, 15, None, None]


async def _images(proxy: RunningProxy, count: int) -> bool:
    return len((await proxy.get("/v1/images"))["data"]) == count


def _turned(width: int, height: int) -> bytes:
    """A photo of a camera that was held upright: its pixels lie, and EXIF says so."""
    photo = Image.new("RGB", (width, height), (90, 120, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    photo.save(out, "JPEG", exif=exif)
    return out.getvalue()
