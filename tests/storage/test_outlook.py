"""The outlook on a storage that is no disk: asked while somebody wants to know, told within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import SENTINEL, outlook
from pixie_proxy.storage.memory import MemoryStorage
from pixie_proxy.storage.outlook import Outlook
from pixie_proxy.tasks import TaskKeeper
from tests.support.waiting import eventually


class Moody(MemoryStorage):
    """One that refuses, or falls silent, and counts who asks."""

    def __init__(self) -> None:
        super().__init__()
        self.files[SENTINEL] = b"id"
        self.error: StorageUnavailable | None = None
        self.is_silent = False
        self.asked = 0

    async def read(self, ref: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        self.asked += 1
        if self.is_silent:
            await asyncio.sleep(60)
        if self.error is not None:
            raise self.error
        async for piece in super().read(ref, start, stop):
            yield piece


@pytest.fixture
def storage() -> Moody:
    return Moody()


@pytest.fixture
async def look(storage: Moody, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Outlook]:
    """Look ten times as often as usual."""
    monkeypatch.setattr(outlook, "EVERY_S", 0.2)
    monkeypatch.setattr(outlook, "LOOK_S", 0.2)
    tasks = TaskKeeper()
    yield Outlook(storage, tasks)
    await tasks.close()


async def test_it_is_asked_only_now_and_then(storage: Moody, look: Outlook) -> None:
    """Whoever asks within a while shares a look; who is the first waits for it."""
    for _ in range(20):
        assert await look.trouble() is None
    assert storage.asked == 1


async def test_trouble_is_told_and_its_end_too(storage: Moody, look: Outlook) -> None:
    """A refusal, a silence, and an id that is gone; what waits for the storage hears when it is back."""
    backs: list[str] = []
    look.on_back.append(lambda: backs.append("back"))

    async def said() -> str:
        found = await look.trouble()
        return "" if found is None else found.message

    async def says(text: str) -> bool:
        return text in await said() if text else not await said()

    storage.error = StorageUnavailable("It refuses us.")
    await eventually(lambda: says("It refuses us."), 2)
    storage.error = None
    await eventually(lambda: says(""), 2)
    storage.is_silent = True
    await eventually(lambda: says("does not answer in time"), 2)
    storage.is_silent = False
    await eventually(lambda: says(""), 2)
    del storage.files[SENTINEL]
    await eventually(lambda: says("has no .pixie file"), 2)
    assert backs == ["back", "back"]
