"""Thumbnails over HTTP: made once, kept, seen by whom the image is seen, and a placeholder where there is none."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixie_proxy.gallery import workers
from tests.gallery.hostile import REFUSED, bomb_png, text_bomb
from tests.support.pictures import gif, jpeg, png, svg, webp
from tests.support.proxy import OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.calling import CAT, GENERATIONS, ended, error_of, listed
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
    made = []
    make = workers.Worker.make

    async def counting(self: workers.Worker, *args: Any) -> bytes:
        made.append(args)
        return await make(self, *args)

    monkeypatch.setattr(workers.Worker, "make", counting)
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


async def test_a_failure_is_tried_once(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb is not lit again by each look at it; a thumbnail of another size is another matter."""
    (bomb, text) = await keep(proxy, upstream, bomb_png(), text_bomb())
    for image in (bomb, text):
        assert (await get(proxy, image))[1]["x-pixie-placeholder"] == "failed"
    assert [path.suffix for path in cached(proxy)] == [".failed"] * 2

    async def never(*_: Any) -> bytes:
        raise AssertionError("tried again")

    monkeypatch.setattr(workers.Worker, "make", never)
    for image in (bomb, text):
        assert (await get(proxy, image))[1]["x-pixie-placeholder"] == "failed"


async def test_a_worker_that_died_is_not_held_against_the_image(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The next image has its thumbnail at once, this one after a while."""
    first, second = await keep(proxy, upstream, png(300, 300), png(300, 300, seed=1))
    (tmp_path / "dies.py").write_text("import os; os._exit(1)")
    monkeypatch.setattr("pixie_proxy.gallery.workers._PROGRAM", tmp_path / "dies.py")
    monkeypatch.setattr("pixie_proxy.gallery.thumbnails.AGAIN_AFTER_S", 1.0)
    assert (await get(proxy, first))[1]["x-pixie-placeholder"] == "failed"
    monkeypatch.undo()
    assert (await get(proxy, second))[1]["Content-Type"] == "image/webp"
    assert (await get(proxy, first))[1]["x-pixie-placeholder"] == "failed"
    await asyncio.sleep(1.1)
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
