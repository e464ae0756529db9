"""Storage in a bucket over a network that breaks: against Ceph's gateway, through a relay that does as it is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from pixie_proxy.config import S3Settings
from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import MANIFEST, SENTINEL, ObjectMissing, StorageRefused
from pixie_proxy.storage.bucket import PART_BYTES, Bucket
from pixie_proxy.storage.s3 import S3Storage
from tests.storage.folders import FILES, a_folder, content, files_of
from tests.support.s3_relay import LOST, Fault, S3Relay, always, calm, flaky
from tests.support.s3_servers import S3Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("ceph")

LARGE = {"0.png": bytes(range(256)) * (80 * 1024), "1.webp": b"small", MANIFEST: b"{}"}
"""One image of 20 MiB: two whole parts and a half."""


@pytest.fixture
async def relay(ceph: S3Server) -> AsyncIterator[S3Relay]:
    """Stand in front of Ceph, and break nothing yet."""
    async with S3Relay(ceph.url) as relay:
        yield relay


@pytest.fixture
async def storage(ceph: S3Server, relay: S3Relay) -> AsyncIterator[S3Storage]:
    """Open a storage in an empty bucket behind the relay."""
    storage = S3Storage(Bucket(S3Settings(**ceph.bucket(endpoint_url=relay.url))))
    yield storage
    await storage.close()


async def test_the_manifest_goes_up_last(storage: S3Storage, relay: S3Relay, tmp_path: Path) -> None:
    """Who finds it finds all that it names. Nothing is asked before: three files are three requests."""
    folder, ref = a_folder(tmp_path)
    await storage.adopt(str(folder), ref)
    assert [call.method for call in relay.calls] == ["PUT"] * 3
    assert sorted(relay.keys("PUT")[:-1]) == [f"{ref}/0.png", f"{ref}/1.webp"]
    assert relay.keys("PUT")[-1] == f"{ref}/{MANIFEST}"


async def test_no_manifest_without_all_images(storage: S3Storage, relay: S3Relay, tmp_path: Path) -> None:
    """One that can't be written keeps the spool's folder where it is; the next try goes on from there."""
    folder, ref = a_folder(tmp_path)
    relay.plan = lambda call: Fault(kind="error", status=403) if call.key.endswith("1.webp") else None
    with pytest.raises(StorageUnavailable):
        await storage.adopt(str(folder), ref)
    assert relay.keys("PUT") == [f"{ref}/0.png"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    relay.plan = calm
    await storage.adopt(str(folder), ref)
    assert await files_of(storage, ref) == FILES
    assert not folder.exists()


@pytest.mark.parametrize("broken_at", range(3))
async def test_a_start_that_died_half_way_is_repeated(
    storage: S3Storage, relay: S3Relay, tmp_path: Path, broken_at: int
) -> None:
    """Whatever was up by then, the same files come of it, once."""
    folder, ref = a_folder(tmp_path)
    name = [*FILES][broken_at]
    relay.plan = lambda call: LOST if call.method == "PUT" and call.key == f"{ref}/{name}" else None
    with pytest.raises(StorageUnavailable):
        await storage.adopt(str(folder), ref)
    relay.plan = calm
    await storage.adopt(str(folder), ref)
    assert await files_of(storage, ref) == FILES
    assert await keys_below(storage, ref) == sorted(FILES)


async def test_a_leftover_of_another_content_is_replaced(storage: S3Storage, tmp_path: Path) -> None:
    """Without a manifest nothing counts: the spool is the truth."""
    folder, ref = a_folder(tmp_path)
    await storage.put(f"{ref}/0.png", b"something else")
    await storage.adopt(str(folder), ref)
    assert await files_of(storage, ref) == FILES


async def test_a_put_whose_answer_is_lost_is_a_success(
    storage: S3Storage, relay: S3Relay, tmp_path: Path
) -> None:
    """R47: 201 PUTs, each of them done and its answer lost: no error, one object each, and nothing beside it."""
    relay.plan = lambda call: LOST if call.method == "PUT" and call.tries == 0 else None
    made = [a_folder(tmp_path) for _ in range(67)]
    await asyncio.gather(*[storage.adopt(str(folder), ref) for folder, ref in made])
    lost = [call for call in relay.calls if call.fault is LOST]
    assert (len(lost), {call.status for call in lost}) == (201, {200})
    assert [await keys_below(storage, ref) for _, ref in made] == [sorted(FILES)] * 67
    relay.plan = calm
    assert [await files_of(storage, ref) for _, ref in made] == [FILES] * 67


async def test_a_third_of_all_calls_may_fail(storage: S3Storage, relay: S3Relay, tmp_path: Path) -> None:
    """R48, the small count: 500, 503, resets, lost answers; 120 images, none lost, none twice, no endless tries."""
    await adopt_all(storage, relay, tmp_path, folders=60, stalls=0)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(10))
async def test_a_third_of_very_many_calls_may_fail(
    storage: S3Storage, relay: S3Relay, tmp_path: Path, seed: int
) -> None:
    """R48, a tenth of the full count of 10,000 images, with silences of five seconds among the faults."""
    await adopt_all(storage, relay, tmp_path, folders=500, stalls=0.01, seed=seed)


async def adopt_all(
    storage: S3Storage, relay: S3Relay, tmp_path: Path, *, folders: int, stalls: float, seed: int = 48
) -> None:
    """Adopt folders of two images while 30 % of all calls fail; what failed is repeated, as by the finisher."""
    relay.plan = flaky(seed, stalls=stalls)
    most = 0

    async def bring_home(folder: Path, ref: str) -> None:
        nonlocal most
        for tries in range(1, 10):
            try:
                await storage.adopt(str(folder), ref)
            except StorageUnavailable:
                continue
            most = max(most, tries)
            return
        raise AssertionError(ref)

    made = [a_folder(tmp_path) for _ in range(folders)]
    for page in range(0, folders, 50):
        await asyncio.gather(*[bring_home(*each) for each in made[page : page + 50]])
    assert most <= 4
    assert max(call.tries for call in relay.calls if call.method == "PUT") <= 20
    relay.plan = calm
    for folder, ref in made:
        assert await files_of(storage, ref) == FILES
        assert await keys_below(storage, ref) == sorted(FILES)
        assert not folder.exists()


async def test_a_body_that_was_altered_on_its_way_is_refused(
    storage: S3Storage, relay: S3Relay, tmp_path: Path
) -> None:
    """The request is signed over the SHA-256 of its body. Ceph says no, and stores it; we look, and mend it."""
    folder, ref = a_folder(tmp_path)
    flip = Fault(kind="flip", at=3)
    relay.plan = lambda call: flip if call.method == "PUT" and call.size_bytes and call.tries == 0 else None
    await storage.adopt(str(folder), ref)
    assert [call.status for call in relay.calls if call.fault is flip] == [400] * 2
    assert await files_of(storage, ref) == FILES


async def test_large_images_go_up_in_parts(
    ceph: S3Server, storage: S3Storage, relay: S3Relay, tmp_path: Path
) -> None:
    """No request is larger than a part; one that fails is repeated alone; nothing unfinished stays in the bucket."""
    folder, ref = a_folder(tmp_path, files=LARGE)
    relay.plan = lambda call: (
        Fault(kind="error", status=503) if "partNumber=2" in call.query and call.tries == 0 else None
    )
    await storage.adopt(str(folder), ref)
    assert {name: await content(storage, f"{ref}/{name}") for name in LARGE} == LARGE
    assert max(call.size_bytes for call in relay.calls) == PART_BYTES
    parts = [call for call in relay.calls if call.method == "PUT" and "partNumber" in call.query]
    assert len(parts) == 4
    assert b"<Upload>" not in ceph.call("GET", f"/{bucket_of(storage)}", "uploads=")


async def test_a_cancelled_caller_does_not_stop_an_upload(
    storage: S3Storage, relay: S3Relay, tmp_path: Path
) -> None:
    """It goes on to its end; who asks again meanwhile waits for the same one."""
    folder, ref = a_folder(tmp_path, files=LARGE)
    relay.plan = always(Fault(kind="stall", for_s=0.2))
    first = asyncio.ensure_future(storage.adopt(str(folder), ref))
    await eventually(lambda: any("partNumber" in call.query for call in relay.calls))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await storage.adopt(str(folder), ref)
    assert await keys_below(storage, ref) == sorted(LARGE)
    posts = [call for call in relay.calls if call.method == "POST" and call.query.startswith("uploads")]
    assert len(posts) == 1


async def test_closing_waits_for_what_is_going_up(storage: S3Storage, relay: S3Relay, tmp_path: Path) -> None:
    """A stop leaves no half of a folder where it need not."""
    folder, ref = a_folder(tmp_path)
    relay.plan = always(Fault(kind="stall", for_s=0.2))
    adopting = asyncio.ensure_future(storage.adopt(str(folder), ref))
    await eventually(lambda: relay.calls)
    await storage.close()
    await adopting
    assert relay.keys("PUT")[-1] == f"{ref}/{MANIFEST}"


async def test_a_broken_answer_is_taken_up_where_it_ended(storage: S3Storage, relay: S3Relay) -> None:
    """Three cuts cost three more requests, and no byte twice; the object must still be the same one."""
    data = random.Random(1).randbytes(2_000_000)
    await storage.put("x/0.png", data)
    cuts = iter([Fault(kind="cut", at=at) for at in (0, 700_000, 5)])
    relay.plan = lambda call: next(cuts, None) if call.method == "GET" else None
    assert await content(storage, "x/0.png") == data
    assert len(relay.keys("GET")) == 4


@pytest.mark.parametrize("fault", [Fault(kind="cut", at=1000), Fault(kind="short", at=1000)])
async def test_a_short_answer_is_never_a_whole_one(storage: S3Storage, relay: S3Relay, fault: Fault) -> None:
    """However often it is asked for again."""
    await storage.put("x/0.png", b"x" * 20_000)
    relay.plan = lambda call: fault if call.method == "GET" else None
    with pytest.raises(StorageUnavailable):
        await content(storage, "x/0.png", 0, 20_000)
    assert len(relay.keys("GET")) <= 6


async def test_a_server_that_is_away_is_told_soon(storage: S3Storage, relay: S3Relay, tmp_path: Path) -> None:
    """Reads, writes and uploads give up within seconds; the spool keeps the folder; it comes back by itself."""
    folder, ref = a_folder(tmp_path)
    await storage.put("x/0.png", b"x")
    await relay.go_away()
    began = monotonic()
    for work in (storage.size("x/0.png"), content(storage, "x/0.png"), storage.adopt(str(folder), ref)):
        with pytest.raises(StorageUnavailable, match="nobody listens"):
            await work
    assert monotonic() - began < 9
    await relay.come_back()
    await storage.adopt(str(folder), ref)
    assert await files_of(storage, ref) == FILES


async def test_a_silent_server_is_told_in_time(
    storage: S3Storage, relay: S3Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits are 4 seconds an answer, 10 for all tries, and more for more bytes; here all in a tenth."""
    monkeypatch.setattr("pixie_proxy.storage.bucket._ANSWER_S", 0.4)
    monkeypatch.setattr("pixie_proxy.storage.bucket._WINDOW_S", 1.0)
    relay.plan = always(Fault(kind="stall", for_s=30))
    began = monotonic()
    with pytest.raises(StorageUnavailable, match="in time"):
        await storage.size("x/0.png")
    assert monotonic() - began < 2.5
    began = monotonic()
    with pytest.raises(StorageUnavailable, match="in time"):
        await storage.put("x/0.png", b"x" * 256 * 1024)  # worth a second more
    assert 1.3 < monotonic() - began < 2.5


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"secret_access_key": "wrong"}, "the secret access key is wrong (SignatureDoesNotMatch)"),
        ({"access_key_id": "NOBODY"}, "the server does not know the access key (InvalidAccessKeyId)"),
        ({"bucket": "no-such-bucket"}, "the bucket does not exist (NoSuchBucket)"),
    ],
)
async def test_bad_settings_are_told_by_name(ceph: S3Server, settings: dict[str, Any], reason: str) -> None:
    """So that an operator knows which of them to look at; no secret is in it."""
    refused = S3Storage(Bucket(S3Settings(**ceph.bucket(**settings))))
    with pytest.raises(StorageRefused) as told:
        await content(refused, SENTINEL)
    assert told.value.message == f"The S3 storage refuses us: {reason}."


async def test_missing_credentials_are_told_by_name(ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, those of the environment are used; a machine outside of AWS has no role to fall back to."""
    settings = S3Settings(**ceph.bucket(access_key_id=None, secret_access_key=None))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageRefused, match="there are no credentials"):
        await content(S3Storage(Bucket(settings)), SENTINEL)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ceph.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ceph.secret_key)
    await S3Storage(Bucket(settings)).put(SENTINEL, b"x")


async def test_a_key_of_the_settings_goes_alone(ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session token that happens to be in the environment would spoil its signature."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OTHER")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "other")
    await S3Storage(Bucket(S3Settings(**ceph.bucket()))).put(SENTINEL, b"x")


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "RequestTimeTooSkewed", "the clock of this machine is wrong"),
        (403, "AccessDenied", "the access key may not do this"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (301, "PermanentRedirect", "another region"),
    ],
)
async def test_refusals_are_told_by_name(
    storage: S3Storage, relay: S3Relay, status: int, code: str, reason: str
) -> None:
    """Those that Ceph is not easily brought to."""
    relay.plan = always(Fault(kind="error", status=status, code=code))
    with pytest.raises(StorageRefused, match=reason):
        await content(storage, SENTINEL)


async def test_without_a_prefix_or_with_one(ceph: S3Server, tmp_path: Path) -> None:
    """Two storages can share a bucket; neither sees the other's objects, nor deletes them."""
    settings = ceph.bucket()
    bare = S3Storage(Bucket(S3Settings(**settings)))
    below = S3Storage(Bucket(S3Settings(**{**settings, "prefix": "/team/a/"})))
    (first, ref), (second, other) = a_folder(tmp_path), a_folder(tmp_path)
    await bare.adopt(str(first), ref)
    await below.adopt(str(second), other)
    assert await content(bare, f"team/a/{other}/0.png") == FILES["0.png"]
    with pytest.raises(ObjectMissing):
        await below.size(f"{ref}/0.png")
    await below.delete(ref)
    assert await files_of(bare, ref) == FILES


async def keys_below(storage: S3Storage, ref: str) -> list[str]:
    """List what lies in a folder."""
    return [file.ref.removeprefix(f"{ref}/") async for page in storage.walk(ref) for file in page]


def bucket_of(storage: S3Storage) -> str:
    """Give the bucket's name."""
    return str(storage._bucket._store.config["bucket"])
