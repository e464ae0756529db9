"""One call's folder: what is on disk when."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pixie_proxy.records import StoredImage, new_id
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.call import FLUSH_BYTES, SpooledCall, StoredName
from tests.support import pictures

CHUNK_BYTES = 64 * 1024
MANIFEST = b'{"object": "pixie.request"}'


@pytest.fixture
def call(spool: Spool) -> SpooledCall:
    return spool.call(new_id("req"), b'{"prompt": "a fox"}')


def names(*positions: int) -> dict[int, StoredName]:
    return {position: StoredName(f"img_{position}", position) for position in positions}


def listed(call: SpooledCall) -> dict[str, bytes]:
    folder = Path(call.folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def told(images: tuple[StoredImage, ...]) -> bytes:
    return MANIFEST + repr([image.file for image in images]).encode()


async def take(call: SpooledCall, slot: int, data: bytes, mime: str = "image/png") -> int:
    """Take an image as the pump does; return how much ever waited in memory."""
    most = 0
    call.begin(slot, mime)
    for at in range(0, len(data), CHUNK_BYTES):
        call.add(slot, data[at : at + CHUNK_BYTES])
        most = max(most, call._waiting_bytes)
        if call.wants_flush:
            await call.flush()
    call.end(slot)
    return most


async def test_a_small_image_is_written_at_the_seal(call: SpooledCall) -> None:
    """Nothing touches the disk before: one folder, one file, one manifest."""
    picture = pictures.png(40, 30, size_bytes=100_000)
    await take(call, 0, picture)
    assert listed(call) == {}
    (image,) = await call.seal(names(0), told)
    assert listed(call) == {"0.png": picture, "request.json": MANIFEST + b"['0.png']"}
    assert image == StoredImage(
        id="img_0",
        position=0,
        file="0.png",
        mime="image/png",
        size_bytes=100_000,
        sha256=hashlib.sha256(picture).hexdigest(),
        width=40,
        height=30,
    )


async def test_a_large_image_passes_in_bounded_memory(call: SpooledCall) -> None:
    """It grows on disk as it comes, with what recovery must know beside it."""
    picture = pictures.png(40, 30, size_bytes=5_000_000)
    most = await take(call, 0, picture)
    assert most <= FLUSH_BYTES + CHUNK_BYTES
    there = listed(call)
    assert there["call.json"] == b'{"prompt": "a fox"}'
    assert picture.startswith(there["0.part"])
    assert len(picture) - len(there["0.part"]) <= FLUSH_BYTES
    (image,) = await call.seal(names(0), told)
    assert (image.size_bytes, image.sha256) == (5_000_000, hashlib.sha256(picture).hexdigest())
    assert listed(call) == {"0.png": picture, "request.json": MANIFEST + b"['0.png']"}


@pytest.mark.parametrize(
    ("mime", "data", "file"),
    [
        ("image/jpeg", pictures.jpeg(40, 30, size_bytes=900_000), "3.jpg"),
        ("image/jpeg", pictures.jpeg(40, 30), "3.jpg"),
        ("image/webp", pictures.webp(40, 30, size_bytes=900_000), "3.webp"),
        ("image/gif", pictures.gif(40, 30), "3.gif"),
    ],
)
async def test_every_kind_gets_its_name_and_size(
    call: SpooledCall, mime: str, data: bytes, file: str
) -> None:
    """A JPEG's size may stand far behind its beginning."""
    await take(call, 7, data, mime)
    (image,) = await call.seal({7: StoredName("img_x", 3)}, told)
    assert (image.file, image.width, image.height, listed(call)[file]) == (file, 40, 30, data)


async def test_what_the_manifest_names_is_in_the_order_of_positions(call: SpooledCall) -> None:
    """Slots are counted as base64 comes, positions as `data` has them."""
    for slot in (0, 1):
        await take(call, slot, pictures.png(seed=slot))
    images = await call.seal({0: StoredName("img_a", 1), 1: StoredName("img_b", 0)}, told)
    assert [(image.id, image.file) for image in images] == [("img_b", "0.png"), ("img_a", "1.png")]
    assert listed(call)["1.png"] == pictures.png(seed=0)


async def test_a_dropped_image_leaves_nothing(call: SpooledCall) -> None:
    """Neither from memory nor from disk; its neighbour stays."""
    await take(call, 0, pictures.png(size_bytes=1_000_000))
    await take(call, 1, pictures.png())
    await take(call, 2, pictures.png(seed=2))
    assert "0.part" in listed(call)
    for slot in (0, 1):
        await call.drop(slot)
    await call.seal(names(2), told)
    assert set(listed(call)) == {"2.png", "request.json"}
    assert call._waiting_bytes == 0


async def test_whole_images_are_kept_while_others_come(call: SpooledCall) -> None:
    """From here on a crash finds them under their names."""
    await take(call, 0, pictures.png())
    call.begin(1, "image/png")
    call.add(1, pictures.png()[:50])
    await call.keep(names(0))
    assert set(listed(call)) == {"call.json", "0.png"}
    await call.flush()
    assert set(listed(call)) == {"call.json", "0.png", "1.part"}
    assert call.mime(0) == call.mime(1) == "image/png"
    await call.drop(1)


async def test_a_second_seal_replaces_the_manifest(call: SpooledCall) -> None:
    """A stream is durable after each of its images."""
    await take(call, 0, pictures.png())
    await call.seal(names(0), told)
    await take(call, 1, pictures.png(size_bytes=1_000_000))
    images = await call.seal(names(0, 1), told)
    assert [image.file for image in images] == ["0.png", "1.png"]
    assert listed(call)["request.json"] == MANIFEST + b"['0.png', '1.png']"
    assert set(listed(call)) == {"0.png", "1.png", "request.json"}


async def test_a_call_that_brought_nothing_leaves_nothing(call: SpooledCall) -> None:
    """Whatever had come of it; twice is as good as once."""
    call.begin(0, "image/png")
    call.add(0, bytes(2 * FLUSH_BYTES))
    await call.flush()
    assert set(listed(call)) == {"call.json", "0.part"}
    for _ in range(2):
        await call.remove()
    assert not Path(call.folder).exists()


async def test_a_whole_image_is_never_removed(call: SpooledCall) -> None:
    """When the rest of its call fails it waits for the next start: it is paid for."""
    await take(call, 0, pictures.png())
    call.begin(1, "image/png")
    await call.keep(names(0))
    await call.remove()
    assert listed(call)["0.png"] == pictures.png()


@pytest.mark.parametrize("size", [1000, 3_000_000])
async def test_a_seal_has_fsynced_everything(
    call: SpooledCall, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image under the name that it was written by, the manifest, the folder, and the folder's name."""
    seen: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noting_fsync(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), Path(call.folder).parent))

    def noting_rename(source: str, target: str) -> None:
        rename(source, target)
        seen.append(f"-> {Path(target).name}")

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "rename", noting_rename)
    await take(call, 0, pictures.png(size_bytes=size))
    await call.seal(names(0), told)
    name = Path(call.folder).name
    assert seen == [f"{name}/0.part", "-> 0.png", f"{name}/request.json", name, "."]
    seen.clear()
    await call.seal(names(0), told)
    assert seen == [f"{name}/request.json.part", "-> request.json", name, "."]


@pytest.mark.parametrize("size", [1000, 1_500_000])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
async def test_what_a_failed_fsync_may_have_lost_is_written_anew(
    call: SpooledCall, size: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of image, manifest, folder or the folder's name: a file, or an entry, that was not there when it failed."""
    pictures_ = [pictures.png(size_bytes=size, seed=seed) for seed in (0, 1)]
    seen: list[tuple[str, int]] = []
    failed: list[tuple[str, int]] = []
    held: list[int] = []
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append((path.name, os.fstat(descriptor).st_ino))
        if len(seen) == number:
            failed.append(seen[-1])
            held.append(os.dup(descriptor))  # so that no other file gets its number
            raise OSError(5, "lost")
        fsync(descriptor)

    for slot, picture in enumerate(pictures_):
        await take(call, slot, picture)
    monkeypatch.setattr(os, "fsync", failing)
    images = await call.seal(names(0, 1), told)
    monkeypatch.setattr(os, "fsync", fsync)
    folder = Path(call.folder)
    assert listed(call) == {
        "0.png": pictures_[0],
        "1.png": pictures_[1],
        "request.json": MANIFEST + b"['0.png', '1.png']",
    }
    assert [image.sha256 for image in images] == [hashlib.sha256(data).hexdigest() for data in pictures_]
    ((name, inode),) = failed
    synced_later = {inode for _, inode in seen[number:]}
    trusted = {path.stat().st_ino for path in (folder, *folder.iterdir())}
    assert trusted <= synced_later, "all that counts was fsynced after the failure"
    assert folder.parent.stat().st_ino in synced_later
    assert inode not in trusted or name == folder.parent.name
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "lock"}
    os.close(held[0])


async def test_a_file_whose_fsync_failed_is_not_trusted_later_either(
    call: SpooledCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is back the next seal writes it anew: a second fsync of the same file would prove nothing."""
    picture = pictures.png(size_bytes=1_000_000)
    held: list[int] = []

    def fails(descriptor: int) -> None:
        held.append(os.dup(descriptor))
        raise OSError(5, "lost")

    await take(call, 0, picture)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="lost"):
            await call.seal(names(0), told)
    await call.seal(names(0), told)
    assert listed(call) == {"0.png": picture, "request.json": MANIFEST + b"['0.png']"}
    failed = {os.fstat(descriptor).st_ino for descriptor in held}
    assert failed.isdisjoint({path.stat().st_ino for path in Path(call.folder).iterdir()})
    for descriptor in held:
        os.close(descriptor)


async def test_what_can_not_be_read_back_is_not_taken_for_an_image(
    call: SpooledCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync the kernel may forget what it was given: the digest of what came tells."""
    await take(call, 0, pictures.png(size_bytes=1_000_000))
    fsync, rotten = os.fsync, Path(call.folder) / "0.part"

    def losing(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == rotten:
            os.pwrite(descriptor, b"?", 700_000)
            raise OSError(5, "lost")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", losing)
    with pytest.raises(OSError, match="does not read as it was written"):
        await call.seal(names(0), told)
    assert "request.json" not in listed(call)
    await call.remove()


async def test_a_full_disk_gets_room_from_the_ballast(
    spool: Spool, call: SpooledCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is met, the step goes on: with half an image written, at a folder, a file or a name."""
    spool.ballast.adjust(10**9, 10**12)
    at_first = spool.ballast.size_bytes
    picture = pictures.png(size_bytes=1_000_000)
    calls = 0

    def every_fourth_time_full(name: str) -> None:
        real = getattr(os, name)

        def full(*args: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls % 4 == 1:
                if name == "pwrite":
                    real(args[0], bytes(10), args[2])
                raise OSError(28, "full")
            return real(*args, **options)

        monkeypatch.setattr(os, name, full)

    for name in ("pwrite", "mkdir", "rename"):
        every_fourth_time_full(name)
    await take(call, 0, picture)
    (image,) = await call.seal(names(0), told)
    monkeypatch.undo()
    assert listed(call)["0.png"] == picture
    assert image.sha256 == hashlib.sha256(picture).hexdigest()
    assert spool.ballast.size_bytes < at_first


async def test_a_disk_that_fails_is_told(call: SpooledCall, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seal raises, and what an earlier seal made durable is remembered."""
    await take(call, 0, pictures.png())
    first = await call.seal(names(0), told)
    await take(call, 1, pictures.png())

    def fails(descriptor: int) -> None:
        raise OSError(5, "lost")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="lost"):
            await call.seal(names(0, 1), told)
    assert call.sealed == first
    assert listed(call)["request.json"] == MANIFEST + b"['0.png']"
    await call.remove()
    assert listed(call)["0.png"] == pictures.png()
