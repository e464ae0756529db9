"""A storage that was away at the start is asked whose it is before it is trusted with anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import SENTINEL
from pixie_proxy.storage.awaited import AwaitedStorage
from pixie_proxy.storage.memory import MemoryStorage
from tests.storage.folders import FILES, a_folder, files_of


class Absent(MemoryStorage):
    """Away for as long as a test likes."""

    is_away = True

    async def read(self, ref: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        if self.is_away:
            raise StorageUnavailable("away")
        async for piece in super().read(ref, start, stop):
            yield piece


async def test_it_works_once_it_is_there(tmp_path: Path) -> None:
    """The spool keeps the folder until then."""
    there = Absent()
    await there.put(SENTINEL, b"ours\n")
    storage, (folder, ref) = AwaitedStorage(there, "ours"), a_folder(tmp_path)
    with pytest.raises(StorageUnavailable, match="away"):
        await storage.adopt(str(folder), ref)
    there.is_away = False
    await storage.adopt(str(folder), ref)
    assert await files_of(storage, ref) == FILES


@pytest.mark.parametrize("found", [b"theirs\n", None])
async def test_another_one_gets_and_gives_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, found: bytes | None
) -> None:
    """Be it somebody else's, or empty: nothing is written or deleted there, and the log says so once."""
    there = Absent()
    there.is_away = False
    folder, ref = a_folder(tmp_path)
    if found is not None:
        await there.put(SENTINEL, found)
    await there.put(f"{ref}/0.png", b"theirs")
    storage = AwaitedStorage(there, "ours")
    for work in (
        storage.adopt(str(folder), ref),
        storage.put(f"{ref}/state.json", b"{}"),
        storage.delete(ref),
        storage.size(f"{ref}/0.png"),
        storage.link(ref, 60),
        files_of(storage, ref),
    ):
        with pytest.raises(StorageUnavailable, match="another one"):
            await work
    assert (folder / "0.png").exists()
    assert there.files.keys() - {SENTINEL} == {f"{ref}/0.png"}
    assert len(caplog.records) == 1
