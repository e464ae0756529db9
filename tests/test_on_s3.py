"""A whole proxy whose images lie in a bucket: what users see, what dies on the way, and what an operator is told."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from pixie_proxy.config import S3Settings
from pixie_proxy.errors import ConfigError
from pixie_proxy.storage import MANIFEST, SENTINEL
from pixie_proxy.storage.bucket import Bucket
from tests.cli.running import Ended, pixie, pixie_here
from tests.support import outside
from tests.support.figures import RecordFigure
from tests.support.person import Person
from tests.support.pictures import png, svg
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, RunningProxy, run_proxy, spawn_proxy
from tests.support.s3_relay import Call, Fault, S3Relay, calm
from tests.support.s3_servers import S3Server
from tests.support.upstream import ScriptedUpstream, image_json
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("ceph")

GENERATIONS = "/v1/images/generations"
PICTURE = png(600, 400, size_bytes=300_000)
STALL = Fault(kind="stall", for_s=60)


@pytest.fixture
async def relay(ceph: S3Server) -> AsyncIterator[S3Relay]:
    """Stand in front of Ceph, and break nothing yet."""
    async with S3Relay(ceph.url) as relay:
        yield relay


@pytest.fixture
def s3(ceph: S3Server, relay: S3Relay) -> dict[str, Any]:
    """Settings for a new bucket behind the relay."""
    return ceph.bucket(endpoint_url=relay.url, prefix="pixie")


def storage(s3: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Give the section for it."""
    return {"kind": "s3", "s3": {**s3, **more}}


async def objects(s3: dict[str, Any]) -> list[str]:
    """List the bucket's keys, the sentinel left out, as `request/file`."""
    return ["/".join(key.split("/")[-2:]) for key in await keys(s3) if key != SENTINEL]


async def keys(s3: dict[str, Any]) -> list[str]:
    """List all keys of the bucket below the prefix."""
    return [file.ref async for page in Bucket(S3Settings(**s3)).walk("") for file in page]


def of_call(request_id: str, images: int) -> list[str]:
    """What a call brings."""
    return [f"{request_id}/{name}" for name in [*[f"{n}.png" for n in range(images)], MANIFEST]]


async def make(proxy: RunningProxy, **fields: Any) -> dict[str, Any]:
    """Have an image made, and give it as the list tells it, once it is in the bucket."""
    outside.json_of(await proxy.request("POST", GENERATIONS, json={"prompt": "a fox", **fields}))
    await eventually(lambda: not outside.spooled(proxy.data_dir))
    return (await outside.gallery(proxy))[0]


async def test_the_sdk_and_the_gallery_on_s3(
    tmp_path: Path, upstream: ScriptedUpstream, s3: dict[str, Any], relay: S3Relay
) -> None:
    """Nobody sees where images lie: bytes, ranges, 304, thumbnails and links are those of local storage."""
    data = tmp_path / "data"
    upstream.default(*image_json([PICTURE, png(seed=2)]))
    async with run_proxy(data, upstream.base_url, storage=storage(s3)) as proxy:
        answer = await proxy.sdk().images.generate(model="gpt-image-2", prompt="a fox", n=2)
        assert answer.data is not None
        assert base64.b64decode(answer.data[0].b64_json or "") == PICTURE
        await eventually(lambda: not outside.spooled(data))
        image = next(image for image in await outside.gallery(proxy) if image["index"] == 0)
        assert await objects(s3) == of_call(image["request_id"], 2)
        assert relay.keys("PUT")[-1].endswith(MANIFEST)
        address = image["content_url"]
        status, headers, body = await proxy.request("GET", address)
        assert (status, headers["ETag"], body) == (200, f'"{image["sha256"]}"', PICTURE)
        status, headers, body = await proxy.request("GET", address, headers={"Range": "bytes=5-299998"})
        assert (status, body) == (206, PICTURE[5:299_999])
        assert headers["Content-Range"] == "bytes 5-299998/300000"
        status, _, _ = await proxy.request("GET", address, headers={"If-None-Match": headers["ETag"]})
        assert status == 304
        link = "/i/" + image["url"].rpartition("/")[2] if image["url"] else None
        mine = await proxy.get(f"/v1/images/{image['id']}")
        link = link or "/i/" + mine["url"].rpartition("/")[2]
        status, _, body = await proxy.request("GET", link, key=None)
        assert (status, body) == (200, PICTURE)
        status, headers, _ = await proxy.request("GET", f"{image['thumbnail_url']}?size=256")
        assert (status, headers["Content-Type"]) == (200, "image/webp")
        assert "x-pixie-placeholder" not in headers
    async with run_proxy(data, upstream.base_url, storage=storage(s3)) as proxy:
        assert await outside.content(proxy, image) == PICTURE


async def test_changes_follow_to_the_bucket(
    tmp_path: Path, upstream: ScriptedUpstream, s3: dict[str, Any]
) -> None:
    """state.json lies beside the images, written anew with each change."""
    upstream.default(*image_json([PICTURE]))
    async with run_proxy(tmp_path / "data", upstream.base_url, storage=storage(s3)) as proxy:
        image = await make(proxy)
        path = f"/v1/images/{image['id']}"
        outside.json_of(await proxy.request("POST", path, json={"visibility": "private"}))
        assert await objects(s3) == [*of_call(image["request_id"], 1), f"{image['request_id']}/state.json"]
        assert await state_of(s3, image) == {"visibility": "private", "link_epoch": 1}
        outside.json_of(await proxy.request("POST", path, json={"visibility": "team"}))
        assert await state_of(s3, image) == {"visibility": "team", "link_epoch": 1}


async def state_of(s3: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """Read what state.json says of an image's visibility and links."""
    (key,) = [key for key in await keys(s3) if key.endswith("state.json")]
    text = b"".join([piece async for piece in Bucket(S3Settings(**s3)).read(key)])
    state = orjson.loads(text)["images"][image["id"]]
    return {name: state[name] for name in ("visibility", "link_epoch")}


async def test_callers_do_not_notice_that_s3_is_away(
    tmp_path: Path, upstream: ScriptedUpstream, s3: dict[str, Any], relay: S3Relay
) -> None:
    """R46, the small count: answers, lists, bytes and thumbnails come from the spool; all is uploaded by itself."""
    data = tmp_path / "data"
    upstream.default(*image_json([PICTURE]))
    async with run_proxy(data, upstream.base_url, storage=storage(s3)) as proxy:
        before = await make(proxy)
        await relay.go_away()
        calls = [proxy.request("POST", GENERATIONS, json={"prompt": "a fox"}) for _ in range(10)]
        for answer in await asyncio.gather(*calls):
            assert base64.b64decode(outside.json_of(answer)["data"][0]["b64_json"]) == PICTURE
        found = await outside.gallery(proxy)
        assert len(found) == 11
        for image in found[:10]:
            assert await outside.content(proxy, image) == PICTURE
            status, headers, _ = await proxy.request("GET", image["thumbnail_url"], key=ADMIN_KEY)
            assert (status, headers["Content-Type"]) == (200, "image/webp")
        status, headers, _ = await proxy.request("GET", before["content_url"])
        assert (status, headers["retry-after"]) == (503, "10")
        assert await proxy.get("/readyz", key=None)
        await relay.come_back()
        await eventually(lambda: outside.is_settled(data), 60)
        assert await objects(s3) == sorted(key for image in found for key in of_call(image["request_id"], 1))
        assert await outside.content(proxy, before) == PICTURE


async def test_a_deleted_user_leaves_no_object(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    s3: dict[str, Any],
    relay: S3Relay,
    record_figure: RecordFigure,
) -> None:
    """R89, with the bucket away meanwhile and an image still in the spool; what somebody else has stays."""
    data = tmp_path / "data"
    async with run_proxy(data, upstream.base_url, storage=storage(s3)) as proxy:
        person = await Person.join(proxy, 7)
        await person.live(proxy, upstream)
        upstream.default(*image_json([PICTURE]))
        image = await make(proxy)
        await relay.go_away()
        upstream.script(image_json([person.picture("the spool")]))
        told = {"prompt": person.word("prompt of an image in the spool")}
        outside.json_of(await proxy.request("POST", GENERATIONS, json=told, key=person.key))
        status, said = await person.delete(proxy)
        assert (status, said["images"]) == (200, 6)
        assert [each["id"] for each in await outside.gallery(proxy)] == [image["id"]]
        await relay.come_back()
        await eventually(lambda: not person.traces(data), 60)
        await eventually(lambda: not outside.rows(data, "SELECT request_id FROM states_to_write"), 60)
        assert await objects(s3) == of_call(image["request_id"], 1)
        assert await outside.content(proxy, image) == PICTURE
    record_figure("R89", users=1, violations=0)


def damages(seed: int, number: int) -> list[Fault]:
    """Give faults that spoil each answer of the bucket: flipped bits; short ones and cuts that no resuming mends."""
    lot = random.Random(seed)
    kinds = [lot.choice(["flip", "short", "cut"]) for _ in range(number)]
    return [
        Fault(kind=kind, at=lot.randrange(len(PICTURE) if kind == "flip" else len(PICTURE) // 6))  # type: ignore[arg-type]
        for kind in kinds
    ]


async def test_a_damaged_answer_is_never_served_as_whole(
    tmp_path: Path, upstream: ScriptedUpstream, s3: dict[str, Any], relay: S3Relay
) -> None:
    """R49: of 100 answers that were altered or cut, the client gets not one whole: each transfer is broken off."""
    upstream.default(*image_json([PICTURE]))
    async with run_proxy(tmp_path / "data", upstream.base_url, storage=storage(s3)) as proxy:
        image = await make(proxy)
        detected = 0
        for fault in damages(49, 100):
            relay.plan = lambda call, fault=fault: fault if call.method == "GET" else None  # type: ignore[misc]
            with pytest.raises(aiohttp.ClientError):
                await proxy.request("GET", image["content_url"])
            detected += 1
        assert detected == 100
        relay.plan = calm
        assert await outside.content(proxy, image) == PICTURE


async def test_a_spoilt_image_in_the_bucket_is_never_served(
    tmp_path: Path, upstream: ScriptedUpstream, s3: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever wrote it: another size is a 503, another content a broken transfer; the log says which image."""
    upstream.default(*image_json([PICTURE]))
    async with run_proxy(tmp_path / "data", upstream.base_url, storage=storage(s3)) as proxy:
        image = await make(proxy)
        bucket = Bucket(S3Settings(**s3))
        (key,) = [key for key in await keys(s3) if key.endswith("0.png")]
        await bucket.put(key, PICTURE[:-1] + b"?", attributes={})
        with pytest.raises(aiohttp.ClientError):
            await proxy.request("GET", image["content_url"])
        await bucket.put(key, PICTURE[:-1], attributes={})
        status, _, _ = await proxy.request("GET", image["content_url"])
        assert status == 503
    assert [record.ref for record in caplog.records if "is damaged" in record.message] == [  # type: ignore[attr-defined]
        key
    ] * 2


def steps(call: Call) -> str | None:
    """Name the step of an adoption that a request is: 0.png, 1.png, 2.png or request.json; None for any other."""
    name = call.key.rpartition("/")[2]
    return name if call.method == "PUT" and "/req_" in call.key and name != SENTINEL else None


@pytest.mark.parametrize(
    ("at", "is_done"),
    [
        ("0.png", False),
        ("1.png", True),
        (MANIFEST, True),
        *[
            pytest.param(*step, marks=pytest.mark.torture)
            for step in [("0.png", True), ("1.png", False), (MANIFEST, False)]
        ],
    ],
)
async def test_a_kill_between_two_uploads_loses_nothing(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    s3: dict[str, Any],
    relay: S3Relay,
    at: str,
    is_done: bool,
) -> None:
    """Before or behind each of them: the next start brings the call home, each image once, and empties the spool."""
    data = tmp_path / "data"
    pictures = [png(seed=seed, size_bytes=20_000) for seed in range(2)]
    upstream.default(*image_json(pictures))
    reached = asyncio.Event()

    def plan(call: Call) -> Fault | None:
        if steps(call) != at:
            return None
        reached.set()
        return Fault(kind="held") if is_done else STALL

    relay.plan = plan
    async with spawn_proxy(data, upstream.base_url, storage=storage(s3)) as proxy:
        asking = asyncio.ensure_future(proxy.request("POST", GENERATIONS, json={"prompt": "a fox", "n": 2}))
        await asyncio.wait_for(reached.wait(), 10)
        if is_done:
            await eventually(lambda: any(steps(call) == at and call.status == 200 for call in relay.calls))
        assert len(outside.json_of(await asking)["data"]) == 2  # it did not wait for the bucket
        await outside.kill(proxy)
    relay.plan = calm
    async with spawn_proxy(data, upstream.base_url, storage=storage(s3)) as proxy:
        await outside.settled(data)
        found = sorted(await outside.gallery(proxy), key=lambda image: image["index"])
        assert [await outside.content(proxy, image) for image in found] == pictures
        assert await objects(s3) == of_call(found[0]["request_id"], 2)
    assert [call["state"] for call in outside.calls(data)] == ["done"]
    assert len(upstream.requests) == 1


async def test_readers_can_be_sent_to_the_bucket(
    tmp_path: Path, upstream: ScriptedUpstream, s3: dict[str, Any]
) -> None:
    """With storage.s3.serve: redirect, GETs of programs and of links; signed for a minute, of the right type.

    Not those of shares, which may be revoked within that minute.
    """
    upstream.default(*image_json([PICTURE]))
    async with run_proxy(
        tmp_path / "data", upstream.base_url, storage=storage(s3, serve="redirect")
    ) as proxy:
        image = await make(proxy)
        link = "/i/" + (await proxy.get(f"/v1/images/{image['id']}"))["url"].rpartition("/")[2]
        for path, key in ((image["content_url"], MEMBER_KEY), (link, None)):
            status, headers, _ = await proxy.request("GET", path, key=key, allow_redirects=False)
            assert (status, headers["Cache-Control"], headers["Referrer-Policy"]) == (
                302,
                "no-store",
                "no-referrer",
            )
            location = headers["Location"]
            assert location.startswith(f"{s3['endpoint_url']}/{s3['bucket']}/pixie/images/")
            assert "X-Amz-Expires=60&" in location
            async with proxy.session.get(location) as answer:
                assert (answer.status, answer.content_type, await answer.read()) == (
                    200,
                    "image/png",
                    PICTURE,
                )
            async with proxy.session.get(location, headers={"Range": "bytes=1-3"}) as answer:
                assert (answer.status, await answer.read()) == (206, PICTURE[1:4])
            async with proxy.session.get(location.replace("0.png", MANIFEST)) as answer:
                assert answer.status == 403
        status, _, _ = await proxy.request("HEAD", image["content_url"], allow_redirects=False)
        assert status == 200
        _, _, made = await proxy.request("POST", f"/v1/images/{image['id']}/shares", json={})
        shared = "/s/" + json.loads(made)["url"].rpartition("/")[2] + "/content"
        for key in (MEMBER_KEY, None):
            status, _, body = await proxy.request("GET", shared, key=key, allow_redirects=False)
            assert (status, body) == (200, PICTURE)
        etag = f'"{image["sha256"]}"'
        status, _, _ = await proxy.request(
            "GET", link, key=None, headers={"If-None-Match": etag}, allow_redirects=False
        )
        assert status == 304


async def test_what_a_browser_could_run_is_never_sent_there(
    tmp_path: Path, upstream: ScriptedUpstream, s3: dict[str, Any]
) -> None:
    """An SVG needs our headers; and our own pages show nothing that comes from elsewhere."""
    async with run_proxy(
        tmp_path / "data", upstream.base_url, storage=storage(s3, serve="redirect")
    ) as proxy:
        upstream.script(image_json([svg()]))
        drawn = await make(proxy)
        status, headers, _ = await proxy.request("GET", drawn["content_url"], allow_redirects=False)
        assert (status, headers["Content-Security-Policy"]) == (200, "default-src 'none'; sandbox")
        upstream.script(image_json([PICTURE]))
        image = await make(proxy)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.post(f"{proxy.url}/login", data={"key": MEMBER_KEY}) as page:
                assert page.status == 200
            async with browser.get(proxy.url + image["content_url"], allow_redirects=False) as answer:
                assert (answer.status, await answer.read()) == (200, PICTURE)


@pytest.mark.parametrize(
    ("wrong", "code", "told"),
    [
        ({"secret_access_key": "wrong"}, 2, "storage.s3: The S3 storage refuses us: the secret access key is wrong"),
        ({"bucket": "no-such-bucket"}, 2, "storage.s3: The S3 storage refuses us: the bucket does not exist"),
        ({"endpoint_url": "http://127.0.0.1:9"}, 1, "The S3 storage is away: nobody listens at its address"),
    ],
)  # fmt: skip
async def test_a_start_that_can_not_use_the_bucket_says_why(
    tmp_path: Path, s3: dict[str, Any], wrong: dict[str, Any], code: int, told: str
) -> None:
    """In one line; settings that are wrong end with 2, a server that is away with 1: to start again may mend it."""
    variables = {f"PIXIE_STORAGE__S3__{name.upper()}": value for name, value in {**s3, **wrong}.items()}
    ended = await pixie(
        "serve", "--data", "data", "--port", "0",
        cwd=tmp_path, OPENAI_API_KEY="sk-x", PIXIE_STORAGE__KIND="s3", **variables,
    )  # fmt: skip
    (line,) = ended.errors
    assert (ended.code, ended.out) == (code, "")
    assert line.startswith(f"pixie: {told}")


async def test_who_has_no_bucket_does_not_load_obstore() -> None:
    """Nor its threads: a start has a budget."""
    asked = "import sys, pixie_proxy.app; sys.exit('obstore' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", asked)
    assert await process.wait() == 0


async def test_another_bucket_stops_the_start(
    tmp_path: Path, upstream: ScriptedUpstream, s3: dict[str, Any], ceph: S3Server
) -> None:
    """As another folder does: an empty one must not look like an empty gallery."""
    upstream.default(*image_json([PICTURE]))
    async with run_proxy(tmp_path / "data", upstream.base_url, storage=storage(s3)) as proxy:
        await make(proxy)
    with pytest.raises(ConfigError, match="is it mounted"):
        async with run_proxy(tmp_path / "data", upstream.base_url, storage=storage(ceph.bucket())):
            pass


async def test_a_bucket_is_checked_and_an_index_rebuilt_from_it(
    tmp_path: Path, upstream: ScriptedUpstream, s3: dict[str, Any], relay: S3Relay
) -> None:
    """`pixie verify` finds rot and condemns nothing that is only away; `pixie reindex` brings every image back."""
    upstream.default(*image_json([PICTURE]))
    data = tmp_path / "data"
    async with run_proxy(data, upstream.base_url, storage=storage(s3)) as proxy:
        image = await make(proxy)
    variables = {f"PIXIE_STORAGE__S3__{name.upper()}": value for name, value in s3.items()}

    async def run(*arguments: str) -> Ended:
        return await pixie(*arguments, "--data", "data", cwd=tmp_path, PIXIE_STORAGE__KIND="s3", **variables)

    assert (await run("verify")).code == 0
    await relay.go_away()
    away = await run("verify")
    assert (away.code, away.out) == (2, "")
    assert away.errors[0].startswith("pixie: The S3 storage is away")
    await relay.come_back()
    for file in data.glob("pixie.db*"):
        file.unlink()
    rebuilt = await run("reindex", "--apply")
    assert rebuilt.code == 0, rebuilt.err
    assert (await run("verify")).code == 0
    (key,) = [key for key in await keys(s3) if key.endswith("0.png")]
    await Bucket(S3Settings(**s3)).put(key, PICTURE[:-1] + b"?", attributes={})
    found = await run("verify", "--json")
    assert found.code == 1
    (finding,) = orjson.loads(found.out)["findings"]
    assert (finding["kind"], finding["image_id"]) == ("rotten", image["id"])


async def test_a_backup_leaves_images_in_their_bucket_unless_told(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    s3: dict[str, Any],
    ceph: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Index and spool restore beside the bucket as it is; with --images, into an empty bucket or onto a disk."""
    upstream.default(*image_json([PICTURE]))
    async with run_proxy(tmp_path / "data", upstream.base_url, storage=storage(s3)) as proxy:
        image = await make(proxy)

    bak = str(tmp_path / "bak")

    async def run(*arguments: str, code: int = 0, kind: str = "s3", **to: Any) -> Ended:
        with monkeypatch.context() as environ:
            environ.setenv("PIXIE_STORAGE__KIND", kind)
            for name, value in {**s3, **to}.items():
                environ.setenv(f"PIXIE_STORAGE__S3__{name.upper()}", value)
            ended = await pixie_here(*arguments)
        assert ended.code == code, ended
        return ended

    ended = await run("backup", bak, "--data", str(tmp_path / "data"))
    assert "Images are not in it: they stay in their bucket" in ended.out
    assert not (tmp_path / "bak" / "images").exists()
    await run("restore", bak, "--data", str(tmp_path / "back"))
    await run("verify", "--data", str(tmp_path / "back"))
    empty = ceph.bucket(prefix="pixie")
    refused = await run("restore", bak, "--data", str(tmp_path / "nowhere"), code=2, **empty)
    assert "the backup is without images" in refused.err
    await run("backup", bak, "--data", str(tmp_path / "data"), "--images")
    await run(
        "backup", bak, "--data", str(tmp_path / "data"), code=2
    )  # it would take the images out of the backup
    await run("restore", bak, "--data", str(tmp_path / "moved"), **empty)
    await run("verify", "--data", str(tmp_path / "moved"), **empty)
    assert sorted(await objects(empty)) == sorted(of_call(image["request_id"], 1))
    await run("restore", bak, "--data", str(tmp_path / "disk"), kind="local")
    await run("verify", "--data", str(tmp_path / "disk"), kind="local")
