from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.gallery.upkeep import Upkeep
from pixie_proxy.index import images
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from pixie_proxy.records import CallRecord, ImageRecord, StoredImage, new_id
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import MANIFEST, SENTINEL, STATE, folder_ref
from pixie_proxy.storage.memory import MemoryStorage
from pixie_proxy.tasks import TaskKeeper
from tests.support.calls import ANN, a_call, a_manifest, admit


class FlakyStorage(MemoryStorage):
    """Storage that can be taken away. `puts` counts what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.puts = 0

    async def size(self, ref: str) -> int:
        if self.is_away:
            raise StorageUnavailable("away")
        return await super().size(ref)

    async def put(self, ref: str, data: bytes) -> None:
        if self.is_away:
            raise StorageUnavailable("away")
        self.puts += 1
        await super().put(ref, data)

    async def delete(self, ref: str) -> None:
        if self.is_away:
            raise StorageUnavailable("away")
        await super().delete(ref)


@dataclass(kw_only=True)
class House:
    """An index and a storage with calls of ann's in them, and the upkeep between the two."""

    index: SqliteIndex
    storage: FlakyStorage
    tasks: TaskKeeper
    forgotten: list[str] = field(default_factory=list)

    async def forget(self, image_id: str) -> None:
        self.forgotten.append(image_id)

    def upkeep(self) -> Upkeep:
        return Upkeep(self.index, self.storage, self.tasks, self.forget)

    async def call(self, count: int = 1, *, is_adopted: bool = True) -> Manifest:
        """Keep a call of some images; one that is not adopted is in the index only, as if it were in the spool."""
        call = a_call(id=new_id("req"))
        manifest = a_manifest(call, tuple(_image(n) for n in range(count)))
        await admit(self.index, call)
        await self.index.write(
            lambda tx: images.insert(
                tx,
                manifest.images,
                request_id=call.id,
                owner_id=ANN.id,
                folder=folder_ref(call.id),
                kind=call.kind,
                model=call.model,
                visibility="team",
                created_us=1,
            )
        )
        if is_adopted:
            self.adopt(manifest)
        return manifest

    def adopt(self, manifest: Manifest) -> None:
        folder = folder_ref(manifest.call.id)
        self.storage.files[f"{folder}/{MANIFEST}"] = manifest.to_json()
        for image in manifest.images:
            self.storage.files[f"{folder}/{image.file}"] = b"pixels"

    def state(self, call: CallRecord) -> dict | None:
        text = self.storage.files.get(f"{folder_ref(call.id)}/{STATE}")
        return None if text is None else orjson.loads(text)

    def names(self, call: CallRecord) -> list[str]:
        """The files in a call's folder."""
        folder = folder_ref(call.id) + "/"
        return sorted(ref.removeprefix(folder) for ref in self.storage.files if ref.startswith(folder))

    async def record(self, image: StoredImage) -> ImageRecord | None:
        return await self.index.read(lambda tx: images.get(tx, image.id))


def _image(position: int) -> StoredImage:
    return StoredImage(
        id=new_id("img"),
        position=position,
        file=f"{position}.png",
        mime="image/png",
        size_bytes=6,
        sha256="0" * 64,
        width=8,
        height=8,
    )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    index = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock")
    tasks, storage = TaskKeeper(), FlakyStorage()
    await storage.put(SENTINEL, b"id")
    yield House(index=index, storage=storage, tasks=tasks)
    await tasks.close()
    await index.close()


async def holds(claim: object, *, within_s: float = 5) -> None:
    """Wait until something holds that nobody announces."""
    assert callable(claim)
    async with asyncio.timeout(within_s):
        while not claim():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
