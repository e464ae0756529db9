"""The create page in a real browser: as a person makes images, by mouse, keyboard and touch, and paints masks.

What the upstream was asked for is looked at where it arrives.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import Browser as Chromium
from playwright.async_api import FilePayload, expect

from pixie_proxy.upstream.demo import demo_upstream
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream, body, head, image_sse_events
from tests.support.waiting import eventually
from tests.web.browsing import make
from tests.web.creating import EVENTS, ask, images_are, job, opened, person
from tests.web.test_browser import shoot, signed_in, touch, watched

pytestmark = pytest.mark.xdist_group("browser")


async def test_four_images_appear_as_they_are_made(chromium: Chromium, tmp_path: Path) -> None:
    """Price, four tiles, partial images, what it did cost; then one is opened, deleted and brought back."""
    async with (
        demo_upstream(pace=0.15) as drawing,
        run_proxy(tmp_path / "data", drawing) as proxy,
        watched(chromium, proxy) as page,
    ):
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


async def test_a_mask_is_sent_as_it_was_painted(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Of the picture's own size as it is seen, alpha 0 where something was painted, and 255 everywhere else."""
    upstream.default([head(200, EVENTS, "chunked"), *map(body, image_sse_events(1, kind="edit"))])
    async with watched(chromium, proxy) as page:
        await signed_in(page)
        await opened(page)
        files: list[FilePayload] = [
            {"name": "turned.jpg", "mimeType": "image/jpeg", "buffer": _turned(1600, 1200)},
            {"name": "second.png", "mimeType": "image/png", "buffer": png(64, 64)},
            {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"},
        ]
        await page.locator('input[type="file"]').set_input_files(files)
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


async def test_by_keyboard_alone(chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """From an image of the gallery to an edit with a painted mask; what has the focus never gets lost."""
    upstream.script([head(200, EVENTS, "chunked"), *map(body, image_sse_events([png(256, 256)]))])
    await proxy.request("POST", "/v1/images/generations", json={"model": "gpt-image-2", "prompt": "a cat"})
    await eventually(lambda: images_are(proxy, 1))
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
    async with (
        demo_upstream(pace=0.1) as drawing,
        run_proxy(tmp_path / "data", drawing) as proxy,
        person(chromium, proxy.url, "phone", has_touch=True, is_mobile=True) as (_, page),
    ):
        await opened(page)
        await page.get_by_role("button", name="A red fox in the snow").tap()
        await page.get_by_role("radio", name="Wide").tap()
        await expect(page.get_by_role("button", name="Make", exact=True)).to_be_in_viewport()
        await shoot(page, tmp_path, "create-phone")
        await page.get_by_role("button", name="Make", exact=True).tap()
        await job(page, "done").locator("a").first.wait_for()
        await page.get_by_role("button", name="Start from this image").tap()
        await page.get_by_role("button", name="Paint a mask").tap()
        stage = page.locator(".mask-stage")
        whole = await stage.bounding_box()
        assert whole is not None
        await touch(page, [(160, 300)], [(160, 300), (200, 300)], [(140, 300), (220, 300)], [(140, 300)])
        pulled = await stage.bounding_box()
        assert pulled is not None
        assert 1.9 < pulled["width"] / whole["width"] < 2.1
        await expect(page.get_by_role("button", name="Undo")).to_be_disabled()  # two fingers paint nothing
        await stage.tap()
        await shoot(page, tmp_path, "create-phone-mask")
        await page.get_by_role("button", name="Use mask").tap()
        await page.get_by_alt_text("Its mask").wait_for()
        await ask(page, "a blue fox")
        await expect(page.locator('.job[data-state="done"]')).to_have_count(2)
        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert [each["kind"] for each in (await proxy.get("/v1/images"))["data"]] == [
            "edit",
            "generation",
        ]
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

        await page.evaluate(SHARE, f"/v1/images/{image_id}/content")
        await opened(page, "?incoming=1")
        await expect(page.locator(".reference")).to_have_count(1)
        await expect(page.get_by_label("Prompt", exact=True)).to_have_value("from a phone")
        assert page.url.endswith("/create")
    plain = await chromium.new_context(base_url=proxy.url, java_script_enabled=False)
    page = await plain.new_page()
    await page.goto("/login?next=/create")
    await page.get_by_label("API key").fill(MEMBER_KEY)
    await page.keyboard.press("Enter")
    await page.locator("main noscript code").wait_for()
    assert "/v1/images/generations" in await page.locator("main noscript").inner_text()
    assert not await page.locator("#order").is_visible()
    await plain.close()


SHARE = """async (address) => {
    const from = document.querySelector('script[src*="create.js"]').src;
    const { put } = await import(from.replace("create.js", "store.js"));
    const file = new File([await (await fetch(address)).blob()], "shared.png");
    await put("incoming", { id: "1", files: [file], text: "from a phone" });
}"""
"""Leaves in the browser what a phone's share menu does."""

MODULES = """async () => {
    const from = document.querySelector('script[src*="create.js"]').src;
    const load = (name) => import(from.replace("create.js", name));
    const [{ EventParser }, { Placing }, { fraction, typicalS, remember }, { secondsToWait }] = await Promise.all(
        ["events.js", "sending.js", "progress.js", "jobs.js"].map(load));
    const stream = ': hello\\r\\nevent: a\\r\\ndata: {"x":1}\\r\\n\\r\\ndata:one\\ndata: two\\n\\n:\\r\\r'
        + "data: [DONE]\\r\\revent: empty\\n\\ndata: never ended";
    const cuts = new Set();
    for (let at = 0; at <= stream.length; at += 1) {
        const parser = new EventParser();
        cuts.add(JSON.stringify([...parser.feed(stream.slice(0, at)), ...parser.feed(stream.slice(at))]));
    }
    const single = new EventParser();
    cuts.add(JSON.stringify([...stream].flatMap((character) => single.feed(character))));
    for (const seconds of [3, 5]) remember({ model: "m", quality: "low" }, seconds);
    const said = (status, headers = {}) => secondsToWait({ status, code: null, headers: new Headers(headers) }, 3);
    const order = (placing, steps) => steps.map((stage) => stage < 0 ? placing.completed() : placing.partial(stage));
    return {
        events: [...cuts].map(JSON.parse),
        inOrder: order(new Placing(), [0, 1, -1, 0, -1]),
        mixed: order(new Placing(), [0, 0, 1, -1, 1, -1]),
        typical: [typicalS({ model: "m", quality: "low" }), typicalS({ model: "other", quality: "low" })],
        fractions: [0, 5, 10, 20, 1e6].map((elapsed) => fraction(elapsed, 10)),
        seen: [fraction(0, 10, 0.5), fraction(0, 10, 1)],
        waits: [said(0), said(429, { "retry-after": "12" }), said(429, { "x-should-retry": "false" }),
            said(503), said(400), said(200)],
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


def _turned(width: int, height: int) -> bytes:
    """A photo of a camera that was held upright: its pixels lie, and EXIF says so."""
    photo = Image.new("RGB", (width, height), (90, 120, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    photo.save(out, "JPEG", exif=exif)
    return out.getvalue()
