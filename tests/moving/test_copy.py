"""`pixie storage copy`, as it is between storages of all kinds: what arrives, what is told, and what is never done."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from pixie_proxy.errors import ConfigError, StorageUnavailable
from pixie_proxy.gallery.state import FolderState, ImageState
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import MANIFEST, SENTINEL, STATE, UNFINISHED, folder_ref, sentinel, sentinel_text
from tests.moving.conftest import Place, Places
from tests.support.collection import STORAGE_ID, everything, some_sizes, write_call, write_collection
from tests.support.s3_relay import LOST, RESET, Call, Fault, S3Relay, calm
from tests.support.s3_servers import S3Server

CEPH = pytest.mark.xdist_group("ceph")
ROUTES = [
    ("local", "local"),
    pytest.param("local", "ceph", marks=CEPH),
    pytest.param("ceph", "local", marks=CEPH),
    pytest.param("ceph", "swift", marks=[CEPH, pytest.mark.torture]),
]
LARGE_BYTES = 9_000_000
"""An image that goes up in parts."""


@pytest.mark.parametrize(("kind", "to"), ROUTES)
async def test_a_collection_arrives_as_it_was(places: Places, kind: str, to: str) -> None:
    """Byte for byte, as the same storage for the index; and a second copy finds nothing to do."""
    source = await places.filled(kind, [*some_sizes(12, seed=1), [LARGE_BYTES, 1_000]])
    target = await places.make(to, "target")
    before = await everything(source.storage)
    report = await places.copy(source, target)
    images = sum(not ref.endswith(MANIFEST) for ref in before)
    assert (report.is_clean, report.copied.folders, report.copied.images) == (True, 13, images)
    assert await everything(target.storage) == before == await everything(source.storage)
    assert await sentinel(target.storage) == STORAGE_ID
    again = await places.copy(source, target, hashes=True)
    assert (again.is_clean, again.seen.images, again.copied.images) == (True, images, 0)


async def test_only_what_is_missing_is_copied(places: Places) -> None:
    """A second pass brings what is new since the first, and leaves what is there alone."""
    source, target = await places.filled("local", some_sizes(5, seed=2)), places.local("target")
    await places.copy(source, target)
    inodes = _inodes(target)
    write_call(_root(source), [2_000], seed=99)
    report = await places.copy(source, target)
    assert (report.copied.folders, report.copied.images) == (1, 1)
    assert inodes.items() <= _inodes(target).items()
    assert await everything(target.storage) == await everything(source.storage)


async def test_damage_in_the_source_is_named_and_not_copied(places: Places) -> None:
    """Rot, a lost file, a manifest of other words: the rest arrives; once it is mended there, so does that."""
    sizes = [[3_000, 3_000]] * 5
    source, target = places.local("source"), places.local("target")
    calls = write_collection(_root(source), sizes)
    whole = await everything(source.storage)
    rotten = _path(source, calls[0], "1.png")
    lost = _path(source, calls[1], "0.png")
    manifest = _path(source, calls[2], MANIFEST)
    saved = {path: path.read_bytes() for path in (rotten, lost, manifest)}
    rotten.write_bytes(saved[rotten][:-1] + b"?")
    lost.unlink()
    manifest.write_bytes(saved[manifest].replace(b'"team"', b'"teak"'))
    for _ in range(2):  # a second copy does not take them for good either
        report = await places.copy(source, target)
        assert sorted((fault.ref, fault.reason.split(" ")[0]) for fault in report.listed) == sorted(
            [
                (_ref(source, rotten), "sha256"),
                (_ref(source, lost), "there"),
                (_ref(source, manifest), MANIFEST),
            ]
        )
    missing = {_ref(source, rotten), _ref(source, lost), *_refs(calls[2])}
    assert await everything(target.storage) == {ref: sha for ref, sha in whole.items() if ref not in missing}
    for path, data in saved.items():
        path.write_bytes(data)
    report = await places.copy(source, target)
    assert (report.is_clean, report.copied.folders) == (True, 3)
    assert await everything(target.storage) == whole


async def test_what_rots_later_does_not_replace_what_is_good(places: Places) -> None:
    """The destination's copy of an image is kept where the source's is bad by now."""
    source, target = places.local("source"), places.local("target")
    (call,) = write_collection(_root(source), [[3_000, 3_000]])
    await places.copy(source, target)
    whole = await everything(target.storage)
    _path(source, call, "0.png").unlink()
    report = await places.copy(source, target)
    assert [fault.reason.split(" ")[0] for fault in report.listed] == ["there", "the"]
    assert await everything(target.storage) == whole


async def test_rot_at_the_destination_is_mended_where_it_is_looked_for(places: Places) -> None:
    """--hash reads what is there and brings it anew; without it sizes and manifests count."""
    source, target = places.local("source"), places.local("target")
    (call,) = write_collection(_root(source), [[3_000]])
    await places.copy(source, target)
    whole = await everything(target.storage)
    path = _path(target, call, "0.png")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert (await places.copy(source, target)).copied.folders == 0
    assert (await places.copy(source, target, hashes=True)).copied.folders == 1
    assert await everything(target.storage) == whole


async def test_an_unreadable_file_does_not_stop_the_rest(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector is one image's fate."""
    source, target = await places.filled("local", some_sizes(4, seed=3)), places.local("target")
    whole = await everything(source.storage)
    bad = next(ref for ref in whole if ref.endswith("0.png"))
    read = source.storage.read

    async def failing(ref: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        if ref == bad:
            raise StorageUnavailable("The storage folder can't be read (EIO).")
        async for piece in read(ref, start, stop):
            yield piece

    monkeypatch.setattr(source.storage, "read", failing)
    report = await places.copy(source, target)
    monkeypatch.undo()
    assert [(fault.ref, "EIO" in fault.reason) for fault in report.listed] == [(bad, True)]
    assert await everything(target.storage) == {ref: sha for ref, sha in whole.items() if ref != bad}


async def test_changes_follow(places: Places) -> None:
    """state.json goes along, a newer one follows, and a purged image's file goes as it went at the source."""
    source, target = places.local("source"), places.local("target")
    calls = write_collection(_root(source), [[3_000, 3_000], [3_000]])
    _change(source, calls[0], 0, deleted_us=5)
    await places.copy(source, target)
    assert await everything(target.storage) == await everything(source.storage)
    _change(source, calls[0], 0, purged=True)
    _path(source, calls[0], "0.png").unlink()
    _change(source, calls[1], 0, deleted_us=7)
    report = await places.copy(source, target)
    assert (report.is_clean, report.states, report.copied.folders) == (True, 1, 1)
    assert await everything(target.storage) == await everything(source.storage)


async def test_what_only_the_destination_has_goes_when_that_is_said_and_counted(places: Places) -> None:
    """Purged calls are told of; a number that is too small deletes nothing, one that fits deletes just these."""
    source, target = places.local("source"), places.local("target")
    calls = write_collection(_root(source), [[3_000], [3_000], [3_000]])
    _change(source, calls[1], 0, deleted_us=5)
    await places.copy(source, target)
    _path(source, calls[1], STATE).unlink()
    for name in ("0.png", MANIFEST):
        _path(source, calls[0], name).unlink()
    for deletes in (0, 2):
        report = await places.copy(source, target, deletes=deletes)
        assert (report.is_clean, report.extra_files, report.deleted_files) == (False, 3, 0)
    report = await places.copy(source, target, deletes=3)
    assert (report.is_clean, report.deleted_files) == (True, 3)
    assert await everything(target.storage) == await everything(source.storage)


async def test_a_destination_that_was_served_since_is_not_set_back(places: Places) -> None:
    """Newer images there stop a copy the wrong way round before it begins; a newer state.json stays."""
    source, target = places.local("source"), places.local("target")
    (call,) = write_collection(_root(source), [[3_000]])
    await places.copy(source, target)
    _change(source, call, 0, deleted_us=5)
    _change(target, call, 0, deleted_us=7)
    now_s = time.time()
    os.utime(_path(source, call, STATE), (now_s - 3600, now_s - 3600))
    whole = await everything(target.storage)
    report = await places.copy(source, target)
    assert ["newer" in fault.reason for fault in report.listed] == [True]
    write_call(_root(target), [2_000], seed=5)
    with pytest.raises(ConfigError, match="copy the other way round"):
        await places.copy(source, target)
    assert whole.items() <= (await everything(target.storage)).items()


async def test_another_collections_place_is_refused(places: Places) -> None:
    """A destination with another id, or with images of nobody's, is left as it is; so is a source that is none."""
    source, target = await places.filled("local", [[1_000]]), places.local("target")
    write_collection(_root(target), [[1_000]])
    (_root(target) / SENTINEL).write_text("another\n")
    before = await everything(target.storage)
    with pytest.raises(ConfigError, match="holds another storage"):
        await places.copy(source, target)
    (_root(target) / SENTINEL).unlink()
    with pytest.raises(ConfigError, match="whose are they"):
        await places.copy(source, target)
    with pytest.raises(ConfigError, match="is it mounted"):
        await places.copy(target, source)
    assert await everything(target.storage) == before


async def test_nobody_starts_on_half_a_copy(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a copy has come to its end, whoever asks for the storage's id is told to let it end."""
    source, target = await places.filled("local", some_sizes(3, seed=4)), places.local("target")

    async def full(*_: object) -> None:
        raise StorageUnavailable("The storage folder can't be written (ENOSPC).")

    monkeypatch.setattr("pixie_proxy.moving.walking.PAUSES_S", ())
    monkeypatch.setattr(target.storage, "adopt", full)
    with pytest.raises(StorageUnavailable, match="ENOSPC"):
        await places.copy(source, target)
    monkeypatch.undo()
    assert await sentinel_text(target.storage) == UNFINISHED + STORAGE_ID
    with pytest.raises(ConfigError, match="has not ended"):
        await sentinel(target.storage)
    assert (await places.copy(source, target)).is_clean
    assert await sentinel(target.storage) == STORAGE_ID


@CEPH
@pytest.mark.usefixtures("impatient")
async def test_a_destination_that_fails_three_times_in_ten(places: Places, ceph: S3Server) -> None:
    """It takes longer; nothing is lost, nothing is there twice, and no image of other bytes is there."""
    source = await places.filled("local", some_sizes(15, seed=5))
    random = Random(5)

    def plan(call: Call) -> Fault | None:
        if random.random() >= 0.3:
            return None
        return random.choice([RESET, LOST, Fault(kind="error", status=503, code="SlowDown")])

    async with S3Relay(ceph.url, plan) as relay:
        target = places.bucket("ceph", endpoint_url=relay.url)
        report = await places.copy(source, target)
        relay.plan = calm
        assert await everything(target.storage) == await everything(source.storage)
    assert (report.is_clean, report.copied.folders) == (True, 15)
    assert any(call.fault for call in relay.calls)


@CEPH
async def test_bytes_that_change_on_their_way_are_read_again(places: Places, ceph: S3Server) -> None:
    """Only what two looks find is damage: a flipped bit of the network's is none."""
    async with S3Relay(ceph.url) as relay:
        source = places.bucket("ceph", endpoint_url=relay.url)
        await places.copy(await places.filled("local", [[3_000], [4_000]]), source)
        relay.plan = lambda call: (
            Fault(kind="flip", at=500)
            if call.method == "GET" and call.key.endswith("0.png") and call.tries == 0
            else None
        )
        target = places.local("target")
        report = await places.copy(source, target)
        assert sum(call.fault is not None for call in relay.calls) == 2
        assert report.is_clean
        assert await everything(target.storage) == await everything(source.storage)


def _root(place: Place) -> Path:
    assert place.root is not None
    return place.root


def _path(place: Place, call: Manifest, name: str) -> Path:
    return _root(place) / folder_ref(call.call.id) / name


def _ref(place: Place, path: Path) -> str:
    return str(path.relative_to(_root(place)))


def _refs(call: Manifest) -> list[str]:
    return [
        f"{folder_ref(call.call.id)}/{name}" for name in (*[image.file for image in call.images], MANIFEST)
    ]


def _inodes(place: Place) -> dict[str, int]:
    return {str(path): path.stat().st_ino for path in (_root(place) / "images").rglob("*.*")}


def _change(
    place: Place, call: Manifest, position: int, *, deleted_us: int | None = None, purged: bool = False
) -> None:
    """Write a state.json as upkeep does."""
    name = call.images[position].id
    changed = ImageState(visibility="team", deleted_us=deleted_us, expires_us=None, link_epoch=0)
    state = FolderState(
        request_id=call.call.id,
        images={} if purged else {name: changed},
        purged=(name,) if purged else (),
    )
    _path(place, call, STATE).write_bytes(state.to_json())
