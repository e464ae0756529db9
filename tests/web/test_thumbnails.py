"""Thumbnails over HTTP: made once, kept, seen by whom the image is seen, and a placeholder where there is none."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixie_proxy.gallery import workers
from pixie_proxy.gallery.thumbnail_worker import Thumbnail
from tests.gallery.hostile import REFUSED, bomb_png, text_bomb
from tests.support.pictures import gif, jpeg, png, svg, webp
from tests.support.proxy import OTHER_KEY, VIEWER_KEY, RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.support.waiting import eventually
from tests.web.calling import CAT, GENERATIONS, context_of, ended, error_of, listed
from tests.web.conftest import ProxyWith


async def keep(proxy: RunningProxy, upstream: ScriptedUpstream, *files: bytes) -> list[dict[str, Any]]:
    """Have the proxy keep some images, and give them in their order."""
    upstream.script(image_json(files))
    status, _, body = await proxy.request("POST", GENERATIONS, json={**CAT, "n": len(files)})
    assert status == 200, body
    await ended(proxy)
    return sorted(await listed(proxy, f"?limit={len(files)}"), key=lambda image: image["index"])


async def get(
    proxy: RunningProxy, image: dict[str, Any], query: str = "", **options: Any
) -> tuple[int, Mapping[str, str], bytes]:
    return await proxy.request("GET", f"/v1/images/{image['id']}/thumbnail{query}", **options)


def cached(proxy: RunningProxy) -> list[Path]:
    return sorted(path for path in (proxy.data_dir / "thumbnails").rglob("*") if path.is_file())


def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the images that workers are given, by their length."""
    lengths: list[int] = []
    make = workers.Worker.make

    async def counting(self: workers.Worker, pieces: Any, length: int, size_px: int) -> Thumbnail:
        lengths.append(length)
        return await make(self, pieces, length, size_px)

    monkeypatch.setattr(workers.Worker, "make", counting)
    return lengths


@pytest.mark.parametrize("data", [png(900, 300), jpeg(900, 300), webp(900, 300), gif(900, 300)])
async def test_both_sizes(proxy: RunningProxy, upstream: ScriptedUpstream, data: bytes) -> None:
    """256 and 512 pixels, the first where nothing is said; as WebP, and inert."""
    (image,) = await keep(proxy, upstream, data)
    assert image["thumbnail_url"] == f"/v1/images/{image['id']}/thumbnail"
    for query, width in (("", 256), ("?size=256", 256), ("?size=512", 512)):
        status, headers, body = await get(proxy, image, query)
        picture = Image.open(io.BytesIO(body))
        assert (status, picture.format, picture.width) == (200, "WEBP", width)
        assert headers["Content-Type"] == "image/webp"
        assert headers["Cache-Control"] == "private, no-cache"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert "x-pixie-placeholder" not in headers
    files = [path.relative_to(proxy.data_dir / "thumbnails") for path in cached(proxy)]
    assert [str(path) for path in files] == [
        f"{image['id'][-2:]}/{image['id']}-{size}.webp" for size in (256, 512)
    ]


@pytest.mark.parametrize("size", ["0", "255", "1024", "256px", "", "0256", "１２"])
async def test_other_sizes_are_refused(proxy: RunningProxy, upstream: ScriptedUpstream, size: str) -> None:
    """Else anyone could fill the disk."""
    (image,) = await keep(proxy, upstream, png())
    status, _, body = await get(proxy, image, f"?size={size}")
    assert (status, error_of(body)["param"]) == (400, "size")
    assert (await get(proxy, image, "?width=256"))[0] == 400
    assert cached(proxy) == []


async def test_the_settings_choose_the_sizes(proxy_with: ProxyWith, upstream: ScriptedUpstream) -> None:
    """The smallest is the default."""
    proxy = await proxy_with(gallery={"thumbnail_px": [100, 64]})
    (image,) = await keep(proxy, upstream, png(900, 300))
    assert Image.open(io.BytesIO((await get(proxy, image))[2])).width == 64
    assert (await get(proxy, image, "?size=100"))[0] == 200
    assert (await get(proxy, image, "?size=256"))[0] == 400


async def test_it_is_made_once(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty that ask together share one making; later it comes from the cache, and a browser that has it gets 304."""
    made = attempts(monkeypatch)
    (image,) = await keep(proxy, upstream, png(600, 600))
    answers = await asyncio.gather(*[get(proxy, image) for _ in range(20)])
    assert len({body for _, _, body in answers}) == 1
    (_, headers, body) = await get(proxy, image)
    assert (body, len(made)) == (answers[0][2], 1)
    status, again, nothing = await get(proxy, image, headers={"If-None-Match": headers["ETag"]})
    assert (status, nothing, again["ETag"]) == (304, b"", headers["ETag"])
    assert (await get(proxy, image, "?size=512"))[1]["ETag"] != headers["ETag"]
    cached(proxy)[0].write_bytes(b"")
    assert (await get(proxy, image))[2] == body


async def test_it_is_seen_by_whom_the_image_is_seen(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Also when it is in the cache already."""
    (image,) = await keep(proxy, upstream, png(300, 300))
    assert [(await get(proxy, image, key=key))[0] for key in (OTHER_KEY, VIEWER_KEY)] == [200, 200]
    await proxy.request("POST", f"/v1/images/{image['id']}", json={"visibility": "private"})
    assert [(await get(proxy, image, key=key))[0] for key in (OTHER_KEY, VIEWER_KEY)] == [404, 404]
    assert (await get(proxy, image))[0] == 200


async def test_an_svg_is_its_own_thumbnail(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """It is not drawn here; its bytes go out as inert as ever."""
    data = svg(4000, 4000, size_bytes=50_000)
    (image,) = await keep(proxy, upstream, data)
    status, headers, body = await get(proxy, image, "?size=512")
    assert (status, headers["Content-Type"], body) == (200, "image/svg+xml", data)
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert cached(proxy) == []


async def test_hostile_images_get_a_placeholder(
    proxy: RunningProxy, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them are kept as they came; what can't be decoded has our picture, and nobody waits for it."""
    files = [data() for name, data in REFUSED.items() if name != "nothing"]
    slowest_s = 0.0
    for at in range(0, len(files), 10):
        some = files[at : at + 10]
        images = await keep(proxy, upstream, *some)
        asking = asyncio.gather(*[get(proxy, image) for image in images])
        while not asking.done():
            start = time.monotonic()
            assert (await proxy.request("GET", "/healthz", key=None))[0] == 200
            slowest_s = max(slowest_s, time.monotonic() - start)
            await asyncio.sleep(0.01)
        for (status, headers, body), image in zip(await asking, images, strict=True):
            assert (status, headers["Content-Type"]) == (200, "image/svg+xml"), image
            assert headers["x-pixie-placeholder"] in {"failed", "unsupported"}
            assert "ETag" not in headers
            assert b"No preview" in body
        for image, data in zip(images, some, strict=True):
            assert (await proxy.request("GET", image["content_url"]))[2] == data
    assert slowest_s < 1.0


async def test_a_broken_image_is_tried_once(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever size, by however many at once, refused or crashed; a restart and an empty cache change nothing."""
    given = attempts(monkeypatch)
    async with run_proxy(tmp_path, upstream.base_url) as proxy:
        images = await keep(proxy, upstream, bomb_png(), text_bomb(), png(300, 300))
        broken = images[:2]
        (tmp_path / "breaks.py").write_text(
            "import os; os.write(1, b'1'); os.read(0, 6); os.kill(os.getpid(), 11)"
        )
        with monkeypatch.context() as patch:
            patch.setattr(workers, "_PROGRAM", tmp_path / "breaks.py")
            for _ in range(2):
                assert (await get(proxy, broken[1]))[1]["x-pixie-placeholder"] == "failed"
        for _ in range(2):
            asked = [get(proxy, broken[0], query) for query in ("", "?size=512", "", "?size=512")]
            for _, headers, _ in await asyncio.gather(*asked):
                assert headers["x-pixie-placeholder"] == "failed"
        assert given == [len(text_bomb()), len(bomb_png())]
    shutil.rmtree(tmp_path / "thumbnails", ignore_errors=True)
    async with run_proxy(tmp_path, upstream.base_url) as proxy:
        for image in broken:
            for query in ("", "?size=512"):
                assert (await get(proxy, image, query))[1]["x-pixie-placeholder"] == "failed"
            told = await proxy.get(f"/v1/images/{image['id']}")
            assert (told["placeholder"], told["animated"]) == (None, False)
        assert len(given) == 2
        assert (await get(proxy, images[2]))[1]["Content-Type"] == "image/webp"


async def test_a_placeholder_comes_by_itself(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it: it is null at first. An SVG is never given one, nor is a file that is no image."""
    monkeypatch.setattr("pixie_proxy.gallery.looking.AFTER_S", 0.5)
    given = attempts(monkeypatch)
    proxy = await proxy_with()
    frames = [Image.new("RGB", (300, 200), color) for color in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    files = [png(300, 200), out.getvalue(), svg(), b"II*\0 is a TIFF", png(64, 64)[:-30]]
    before = await keep(proxy, upstream, *files)
    assert [(image["placeholder"], image["animated"]) for image in before] == [(None, None)] * 5

    async def shown() -> list[dict[str, Any]]:
        return sorted(await listed(proxy), key=lambda image: image["index"])

    async def all_looked_at() -> bool:
        return [image["animated"] for image in await shown()] == [False, True, None, None, False]

    await eventually(all_looked_at)
    found = await shown()
    assert [image["placeholder"] is None for image in found] == [False, False, True, True, True]
    for image in found[:2]:
        head, _, data = image["placeholder"].partition(",")
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (head, picture.format, picture.size) == ("data:image/webp;base64", "WEBP", (16, 11))
        assert len(image["placeholder"]) < 200
    assert len(given) == 3
    assert sorted(path.name for path in cached(proxy)) == sorted(
        f"{image['id']}-256.webp" for image in found[:2]
    )


async def test_a_thumbnail_brings_the_placeholder_along(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there when the thumbnail is; one that is missing, as after an upgrade, comes when it is looked at again."""
    (image,) = await keep(proxy, upstream, png(300, 200))
    await get(proxy, image)
    made = (await proxy.get(f"/v1/images/{image['id']}"))["placeholder"]
    assert made.startswith("data:image/webp;base64,UklGR")
    forget = "UPDATE images SET placeholder = NULL, is_animated = NULL"
    await context_of(proxy).index.write(lambda tx: tx.run(forget))
    assert (await proxy.get(f"/v1/images/{image['id']}"))["placeholder"] is None
    given = attempts(monkeypatch)
    assert (await get(proxy, image))[1]["Content-Type"] == "image/webp"

    async def is_back() -> bool:
        return bool((await proxy.get(f"/v1/images/{image['id']}"))["placeholder"] == made)

    await eventually(is_back)
    await get(proxy, image)
    assert len(given) == 1


async def test_a_worker_that_died_is_not_held_against_the_image(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The next image has its thumbnail at once, this one after a while, and meanwhile nobody tries."""
    first, second = await keep(proxy, upstream, png(300, 300), png(300, 300, seed=1))
    given = attempts(monkeypatch)
    (tmp_path / "dies.py").write_text("import os; os._exit(1)")
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_PROGRAM", tmp_path / "dies.py")
        assert (await get(proxy, first))[1]["x-pixie-placeholder"] == "failed"
    assert (await get(proxy, second))[1]["Content-Type"] == "image/webp"
    for query in ("", "?size=512"):
        assert (await get(proxy, first, query))[1]["x-pixie-placeholder"] == "failed"
    assert len(given) == 2
    (note,) = (path for path in cached(proxy) if path.suffix == ".died")
    assert 500 < note.stat().st_mtime - time.time() <= 600
    os.utime(note, (0, 0))
    assert (await get(proxy, first))[1]["Content-Type"] == "image/webp"


async def test_a_long_queue_is_not_waited_for(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The placeholder comes first; the thumbnail is made all the same."""
    (image,) = await keep(proxy, upstream, png(3000, 3000))
    monkeypatch.setattr("pixie_proxy.gallery.thumbnails.ANSWER_WAIT_S", 0.0)
    status, headers, _ = await get(proxy, image)
    assert (status, headers["x-pixie-placeholder"]) == (200, "pending")
    deadline = time.monotonic() + 10
    while not cached(proxy):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert (await get(proxy, image))[1]["Content-Type"] == "image/webp"


async def test_a_damaged_original_is_the_storages_fault(
    proxy: RunningProxy, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told as such, as for the original, and no failure is noted."""
    (image,) = await keep(proxy, upstream, png(300, 300))
    (path,) = (proxy.data_dir / "storage" / "images").rglob("0.png")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    status, _, body = await get(proxy, image)
    assert (status, error_of(body)["code"]) == (503, "storage_unavailable")
    path.write_bytes(whole)
    assert (await get(proxy, image))[1]["Content-Type"] == "image/webp"
    assert "background task failed" not in caplog.text
