"""GET /v1/images/export: the originals of a list and what is known of them, in one file that is whole or broken off."""

from __future__ import annotations

import asyncio
import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pixie_proxy.gallery.archive import Archive
from pixie_proxy.web import export as exporting
from tests.support.pictures import png
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.calling import error_of
from tests.web.test_bulk import bulk
from tests.web.test_changes import change, make, send

EXPORT = "/v1/images/export"


async def exported(
    proxy: RunningProxy, query: str = "", key: str = MEMBER_KEY
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Ask for an archive; give what its manifest says and its other files."""
    status, headers, body = await proxy.request("GET", EXPORT + query, key=key)
    assert (status, headers["Content-Type"]) == (200, "application/zip"), body
    assert headers["Cache-Control"] == "private, no-store"
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    assert (manifest["object"], manifest["version"]) == ("pixie.export", 1)
    return manifest["images"], files


async def test_an_archive_holds_the_originals_and_what_is_known(
    proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Oldest first, byte for byte; of each image all that its JSON says, but for addresses. Others read it too."""
    pictures = [png(seed=81, size_bytes=300_000), png(seed=82)]
    upstream.script(image_json(pictures))
    made = await make(proxy, count=2)
    await change(proxy, made[0], tags=["fox"])
    told, files = await exported(proxy)
    assert [each["id"] for each in told] == [image["id"] for image in made]
    assert [files[each["file"]] for each in told] == pictures
    assert (len(files), told[0]["tags"], told[0]["prompt"]) == (2, ["fox"], made[0]["prompt"])
    assert told[1]["params"].items() >= {"n": 2}.items()
    for each, image in zip(told, made, strict=True):
        described = (await send(proxy, "GET", image))[1]
        kept = {
            name: value
            for name, value in described.items()
            if name not in {"url", "content_url", "thumbnail_url", "placeholder"}
        }
        assert {name: each[name] for name in kept} == kept
        assert {*each} - {*kept} == {"file", "params"}
    archive = tmp_path / "images.zip"
    archive.write_bytes((await proxy.request("GET", EXPORT))[2])
    tested = await asyncio.create_subprocess_exec(
        "python3", "-m", "zipfile", "-t", str(archive), stdout=asyncio.subprocess.DEVNULL
    )
    assert await tested.wait() == 0


async def test_an_archive_follows_the_filters(proxy: RunningProxy) -> None:
    """Those of the list. Without an image it is an archive all the same; the trash can't be had so."""
    (first,), (second,), (third,) = await make(proxy), await make(proxy), await make(proxy, OTHER_KEY)
    await bulk(proxy, [second["id"]], "favorite")

    async def ids(query: str, key: str = MEMBER_KEY) -> list[str]:
        return [each["id"] for each in (await exported(proxy, query, key))[0]]

    assert await ids("") == [first["id"], second["id"], third["id"]]
    assert await ids("?owner=me") == [first["id"], second["id"]]
    assert await ids("?favorite=true") == [second["id"]]
    assert await ids("?until=2026-01-01") == await ids("?owner=nobody") == []
    for query in ("deleted=true", "limit=5", "colour=red"):
        status, _, body = await proxy.request("GET", f"{EXPORT}?{query}")
        assert (status, error_of(body)["param"]) == (400, query.split("=")[0])


async def test_an_archive_holds_nothing_that_is_not_theirs(proxy: RunningProxy) -> None:
    """What others keep private, and what lies in the trash, is in no archive; admins have the first."""
    (own,), (hidden,), (gone,) = await make(proxy), await make(proxy, OTHER_KEY), await make(proxy, OTHER_KEY)
    await change(proxy, hidden, OTHER_KEY, visibility="private")
    await send(proxy, "DELETE", gone, key=OTHER_KEY)
    for key, seen in ((MEMBER_KEY, [own]), (OTHER_KEY, [own, hidden]), (ADMIN_KEY, [own, hidden])):
        told, files = await exported(proxy, key=key)
        assert [each["id"] for each in told] == [image["id"] for image in seen]
        assert len(files) == len(seen)


async def test_an_archive_of_images_by_name(proxy: RunningProxy) -> None:
    """Those that are named and may be seen, each once, oldest first; a name that is none, or too many, are refused."""
    (first,), (_,), (hidden,) = await make(proxy), await make(proxy), await make(proxy, OTHER_KEY)
    await change(proxy, hidden, OTHER_KEY, visibility="private")
    latest = f"img_{'v' * 26}"
    named = [hidden["id"], first["id"], first["id"], latest]
    told, files = await exported(proxy, f"?ids={','.join(named)}")
    assert ([each["id"] for each in told], len(files)) == ([first["id"]], 1)
    assert await exported(proxy, f"?ids={latest}") == ([], {})
    for query, param in (
        ("ids=", "ids"),
        (f"ids={','.join([latest] * 201)}", "ids"),
        ("ids=../x", "ids"),
        (f"ids={latest}&owner=me", "owner"),
    ):
        status, _, body = await proxy.request("GET", f"{EXPORT}?{query}")
        assert (status, error_of(body)["param"]) == (400, param)


async def test_an_archive_has_a_limit(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as that, over several pages, and not one more; the refusal says what to do."""
    monkeypatch.setattr(exporting, "MAX_IMAGES", 5)
    monkeypatch.setattr(exporting, "_PAGE", 2)
    upstream.script(image_json(5))
    await make(proxy, count=5)
    told, files = await exported(proxy)
    assert len(told) == len(files) == 5
    await make(proxy)
    status, _, body = await proxy.request("GET", EXPORT)
    assert (status, error_of(body)["param"]) == (400, "since")
    assert "more than 5 images" in error_of(body)["message"]


@pytest.mark.parametrize("damage", ["missing", "rotten"])
async def test_an_archive_that_can_not_be_whole_breaks_off(proxy: RunningProxy, damage: str) -> None:
    """It never ends cleanly: what came is no archive, and the client's library says so."""
    await make(proxy)
    (image,) = await make(proxy)
    (path,) = proxy.data_dir.glob(f"storage/images/*/*/*/{image['request_id']}/0.png")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    came = bytearray()
    with pytest.raises(aiohttp.ClientError):  # noqa: PT012 - the answer begins well
        headers = {"Authorization": f"Bearer {MEMBER_KEY}"}
        async with proxy.session.get(proxy.url + EXPORT, headers=headers) as answer:
            assert answer.status == 200
            async for piece in answer.content.iter_any():
                came += piece
    assert not zipfile.is_zipfile(io.BytesIO(came))


@pytest.mark.parametrize("act", ["hide", "delete"])
async def test_what_is_hidden_meanwhile_does_not_go_out(
    proxy: RunningProxy, upstream: ScriptedUpstream, act: str
) -> None:
    """The archive breaks off before it, however early it was asked for."""
    upstream.script(image_json([png(size_bytes=16_000_000)]))
    await make(proxy, OTHER_KEY)
    (image,) = await make(proxy, OTHER_KEY)
    headers = {"Authorization": f"Bearer {MEMBER_KEY}"}
    async with proxy.session.get(proxy.url + EXPORT, headers=headers) as answer:
        came = bytearray(await answer.content.readany())
        if act == "hide":
            await change(proxy, image, OTHER_KEY, visibility="private")
        else:
            await send(proxy, "DELETE", image, key=OTHER_KEY)
        with pytest.raises(aiohttp.ClientError):  # noqa: PT012 - the first image is whole
            async for piece in answer.content.iter_any():
                came += piece
    assert len(came) < 16_100_000
    assert f"images/{image['id']}.png".encode() not in came[16_000_000:]


async def test_the_head_of_an_archive(proxy: RunningProxy) -> None:
    """It comes without a body."""
    await make(proxy)
    status, headers, body = await proxy.request("HEAD", EXPORT)
    assert (status, headers["Content-Disposition"], body) == (200, 'attachment; filename="images.zip"', b"")


async def test_an_archive_is_never_in_memory() -> None:
    """200 MB go through with the memory of some pieces."""
    piece = bytes(100_000)

    async def pieces() -> Any:
        for _ in range(500):
            yield piece

    archive = Archive()
    sent_bytes = 0
    tracemalloc.start()
    try:
        for number in range(4):
            async for each in archive.add(f"{number}", 1_795_000_000_000_000, pieces()):
                sent_bytes += len(each)
        sent_bytes += len(archive.end())
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent_bytes > 200_000_000
    assert peak_bytes < 2_000_000
