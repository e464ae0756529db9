"""What every storage does, whatever is behind it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import MANIFEST, PIECE_BYTES, SENTINEL, ObjectMissing, Storage, bucket
from pixie_proxy.storage import local as local_storage
from pixie_proxy.storage import memory as memory_storage
from pixie_proxy.storage.memory import MemoryStorage
from tests.storage.folders import FILES, a_folder, content, files_of


async def test_adopt_takes_the_whole_folder(storage: Storage, tmp_path: Path) -> None:
    """Every file is there, an empty one too, and the spool's folder is gone."""
    folder, ref = a_folder(tmp_path)
    await storage.adopt(str(folder), ref)
    assert await files_of(storage, ref) == FILES
    assert [await storage.size(f"{ref}/{name}") for name in FILES] == [len(data) for data in FILES.values()]
    assert not folder.exists()


async def test_adopt_a_second_time_is_nothing(storage: Storage, tmp_path: Path) -> None:
    """A start that died between the move and the ledger is repeated by the next one."""
    folder, ref = a_folder(tmp_path)
    await storage.adopt(str(folder), ref)
    await storage.adopt(str(folder), ref)
    assert await files_of(storage, ref) == FILES


async def test_adopt_leaves_alone_what_is_there(storage: Storage, tmp_path: Path) -> None:
    """A copy that was left in the spool is removed; the first one stays as it is."""
    folder, ref = a_folder(tmp_path)
    await storage.adopt(str(folder), ref)
    again, _ = a_folder(tmp_path, folder.name, dict.fromkeys(FILES, b"other"))
    await storage.adopt(str(again), ref)
    assert await files_of(storage, ref) == FILES
    assert not again.exists()


async def test_a_folder_that_is_not_there_can_not_be_adopted(storage: Storage, tmp_path: Path) -> None:
    """And no ref comes of it."""
    _, ref = a_folder(tmp_path)
    with pytest.raises(StorageUnavailable):
        await storage.adopt(str(tmp_path / "absent"), ref)
    with pytest.raises(ObjectMissing):
        await storage.size(f"{ref}/0.png")


async def test_many_folders_at_once(storage: Storage, tmp_path: Path) -> None:
    """All of them make the day's folder, and none loses the other's."""
    made = [a_folder(tmp_path) for _ in range(20)]
    await asyncio.gather(*[storage.adopt(str(folder), ref) for folder, ref in made])
    assert [await files_of(storage, ref) for _, ref in made] == [FILES] * 20


@pytest.mark.parametrize(
    ("start", "stop"), [(0, None), (0, 0), (0, 5), (4999, None), (5000, None), (9000, None), (1, 4999), (10, 99_999)]
)  # fmt: skip
async def test_a_part_can_be_read(storage: Storage, tmp_path: Path, start: int, stop: int | None) -> None:
    """Half-open, and cut at the file's end."""
    folder, ref = a_folder(tmp_path)
    await storage.adopt(str(folder), ref)
    assert await content(storage, f"{ref}/0.png", start, stop) == FILES["0.png"][start:stop]


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
async def test_pieces_are_bounded(storage: Storage, size: int) -> None:
    """However large the file; none of them is empty."""
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    await storage.put("x/y", data)
    pieces = [piece async for piece in storage.read("x/y")]
    assert b"".join(pieces) == data
    assert all(1 <= len(piece) <= PIECE_BYTES for piece in pieces)


@pytest.mark.parametrize(
    "ref", ["absent", "images/2026/11/21/absent/0.png", "there/0.png/more", "there", "there/absent"]
)
async def test_what_is_missing_is_told_at_the_first_step(storage: Storage, ref: str) -> None:
    """A folder is no file either."""
    await storage.put("there/0.png", b"x")
    with pytest.raises(ObjectMissing):
        await storage.size(ref)
    reading = storage.read(ref)
    with pytest.raises(ObjectMissing):
        await anext(reading)


async def test_a_large_file_is_a_file(storage: Storage, tmp_path: Path) -> None:
    """On S3 it goes up in parts; nobody sees where one ended."""
    large = bytes(range(256)) * (72 * 1024)
    folder, ref = a_folder(tmp_path, files={"0.png": large, MANIFEST: b"{}"})
    await storage.adopt(str(folder), ref)
    assert await storage.size(f"{ref}/0.png") == len(large)
    assert await content(storage, f"{ref}/0.png") == large
    assert await content(storage, f"{ref}/0.png", 8_388_000, 8_389_000) == large[8_388_000:8_389_000]
    await storage.delete(ref)
    assert [page async for page in storage.walk("images")] == []


async def test_a_walk_finds_every_file_in_the_order_of_refs(storage: Storage, tmp_path: Path) -> None:
    """Whatever lies below, and nothing beside it; a folder's files stand together."""
    refs = ["w/a.b/1", "w/a/0.png", "w/a/b/c", "w/a0/x", "w/b", "wx/0", "w/.x.part"]
    for ref in refs:
        await storage.put(ref, ref.encode())
    folder, adopted = a_folder(tmp_path)
    await storage.adopt(str(folder), adopted)
    found = [file for page in [page async for page in storage.walk("w")] for file in page]
    assert [file.ref for file in found] == sorted(ref for ref in refs if ref.startswith("w/"))
    assert [file.size_bytes for file in found] == [len(file.ref) for file in found]
    assert all(abs(file.modified_us / 1e6 - time.time()) < 60 for file in found)
    assert [file.ref async for page in storage.walk("images") for file in page] == [
        f"{adopted}/{name}" for name in sorted(FILES)
    ]


async def test_a_walk_through_nothing_ends(storage: Storage) -> None:
    """No folder, or a file: no pages."""
    await storage.put("x/y", b"")
    assert [page async for page in storage.walk("absent")] == []
    assert [page async for page in storage.walk("x/y")] == []


async def test_a_walk_comes_in_bounded_pages(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files there are; none of the pages is empty."""
    for module in (local_storage, memory_storage, bucket):
        monkeypatch.setattr(module, "PAGE_FILES", 4)
    for number in range(10):
        await storage.put(f"x/{number}", b"")
    assert [len(page) async for page in storage.walk("x")] == [4, 4, 2]


async def test_put_replaces(storage: Storage) -> None:
    """The new content whole, and nothing beside it."""
    for data in (b"a" * 9000, b"b"):
        await storage.put(SENTINEL, data)
        assert await content(storage, SENTINEL) == data
        assert await storage.size(SENTINEL) == len(data)


async def test_delete_takes_a_file_or_a_folder(storage: Storage, tmp_path: Path) -> None:
    """Twice is as good as once, and the neighbours stay."""
    (first, ref), (second, neighbour) = a_folder(tmp_path), a_folder(tmp_path)
    await storage.adopt(str(first), ref)
    await storage.adopt(str(second), neighbour)
    for _ in range(2):
        await storage.delete(f"{ref}/0.png")
        with pytest.raises(ObjectMissing):
            await storage.size(f"{ref}/0.png")
    assert await content(storage, f"{ref}/request.json") == FILES["request.json"]
    for _ in range(2):
        await storage.delete(ref)
        with pytest.raises(ObjectMissing):
            await storage.size(f"{ref}/request.json")
    assert await files_of(storage, neighbour) == FILES


async def test_a_probe_goes_there_and_back(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a name that no image has; nothing of it stays, and only what is peculiar is told."""
    monkeypatch.setattr("pixie_proxy.storage.probe.secrets.token_hex", lambda _: "0" * 16)
    assert "(501)" in (await storage.probe() or "(501)")
    with pytest.raises(ObjectMissing):
        await storage.size(f".probe-{'0' * 16}")


async def test_a_probe_tells_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other bytes, none, or none that can be removed."""

    async def refuses(_: str) -> None:
        raise StorageUnavailable("The storage refuses us.")

    async def keeps_less(ref: str, data: bytes) -> None:
        storage.files[ref] = data[:-1]

    async def keeps_nothing(ref: str, data: bytes) -> None:
        pass

    for method, fault, told in (
        ("put", keeps_less, "gives other bytes than it took, so no probe can be read."),
        ("put", keeps_nothing, "has lost what was just written"),
        ("delete", refuses, "refuses us, so no probe can be deleted."),
    ):
        storage = MemoryStorage()
        monkeypatch.setattr(storage, method, fault)
        with pytest.raises(StorageUnavailable) as raised:
            await storage.probe()
        assert told in raised.value.message
