from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.audit.findings import Report
from pixie_proxy.audit.rebuild import Rebuilt, rebuild
from pixie_proxy.audit.verify import Verification
from pixie_proxy.index import images
from pixie_proxy.index import settings as stored
from pixie_proxy.index.audit import Kept, kept
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from pixie_proxy.records import StoredImage, new_id
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.spool.recovery import Recovery
from pixie_proxy.storage import MANIFEST, SENTINEL, Storage, folder_ref
from pixie_proxy.storage.local import LocalStorage
from pixie_proxy.threads import WorkerThreads
from tests.support.calls import a_call, a_manifest, a_picture, admit


@dataclass(kw_only=True)
class House:
    """A data directory without a server: index, storage and spool, and calls of ann's that were kept in them."""

    data: Path
    index: SqliteIndex
    storage: Storage
    spool: Spool
    writers: WorkerThreads

    async def keep(self, count: int = 1, **fields: Any) -> Manifest:
        """Keep a call of some images, the way that a server does."""
        manifest = await self.admit(count, **fields)
        folder = self.folder(self.data / "seeding", manifest)
        await Finisher(self.index, self.storage).keep(manifest, str(folder))
        return manifest

    async def admit(self, count: int = 1, **fields: Any) -> Manifest:
        """Open a call's row, and say how it will end."""
        call = a_call(**{"id": new_id("req"), **fields})
        await admit(self.index, call)
        return a_manifest(call, tuple(an_image(call.id, position) for position in range(count)))

    @staticmethod
    def folder(parent: Path, manifest: Manifest) -> Path:
        """Write a sealed folder."""
        folder = parent / manifest.call.id
        folder.mkdir(parents=True)
        for image in manifest.images:
            (folder / image.file).write_bytes(pixels(manifest.call.id, image.position))
        (folder / MANIFEST).write_bytes(manifest.to_json())
        return folder

    def path(self, manifest: Manifest, name: str = "") -> Path:
        """Where a call's files are in storage."""
        return self.data / "storage" / folder_ref(manifest.call.id) / name

    async def verify(self, **options: Any) -> Report:
        finisher = Finisher(self.index, self.storage)
        usual: dict[str, Any] = {
            "recover": Recovery(self.spool, self.index, self.storage, finisher, self.writers).once,
            "progress": lambda _images, _bytes: None,
        }
        return await Verification(self.index, self.storage, self.spool, **{**usual, **options}).run()

    async def reindex(self, *, applies: bool = True, hashes: bool = False) -> Rebuilt:
        return await rebuild(
            self.index, self.storage, applies=applies, hashes=hashes, progress=lambda _images, _bytes: None
        )

    async def lose_index(self) -> None:
        """Take the index away and give an empty one."""
        await self.index.close()
        for path in self.data.glob("pixie.db*"):
            path.unlink()
        self.index = await open_sqlite(self.data / "pixie.db", lock_path=self.data / "pixie.lock")

    async def known(self, manifest: Manifest) -> Kept:
        return await self.index.read(lambda tx: kept(tx, manifest.call.id))

    async def count(self) -> int:
        return await self.index.read(images.count)


def pixels(request_id: str, position: int) -> bytes:
    """Bytes that no other image has."""
    return f"{request_id} {position} ".encode() * 50


def an_image(request_id: str, position: int) -> StoredImage:
    return a_picture(pixels(request_id, position), position, revised_prompt=f"revised {position}")


def damaged(manifest: Manifest, **fields: object) -> Manifest:
    """The same manifest, telling something else of its first image."""
    first, *others = manifest.images
    return replace(manifest, images=(replace(first, **fields), *others))  # type: ignore[arg-type]


def findings(report: Report) -> list[tuple[str, str]]:
    """What was found, as kind and the last part of where."""
    return sorted((each.kind, each.ref.rpartition("/")[2]) for each, _ in report.listed)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "storage").mkdir()
    writers = WorkerThreads(4, "durable")
    house = House(
        data=tmp_path,
        index=await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock"),
        storage=LocalStorage(tmp_path / "storage", writers),
        spool=Spool(tmp_path / "spool", writers),
        writers=writers,
    )
    await house.storage.put(SENTINEL, b"the storage\n")
    await house.index.write(lambda tx: stored.put(tx, "storage_id", "the storage"))
    yield house
    await house.index.close()
    await asyncio.to_thread(writers.close)
