from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixie_proxy.config import S3Settings
from pixie_proxy.moving import walking
from pixie_proxy.moving.copying import Copy
from pixie_proxy.moving.report import Report
from pixie_proxy.moving.staging import Staging, opened
from pixie_proxy.storage import Storage
from pixie_proxy.storage.bucket import Bucket
from pixie_proxy.storage.local import LocalStorage
from pixie_proxy.storage.s3 import S3Storage
from pixie_proxy.threads import WorkerThreads
from tests.support.collection import write_collection


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A storage, opened here, and what a settings file says of it."""

    storage: Storage
    section: dict[str, Any]
    root: Path | None = None

    def config(self, path: Path) -> Path:
        """Write the settings file that stands for it on the command line."""
        path.write_text(yaml.safe_dump({"storage": self.section}))
        return path


class Places:
    """Makes storages, and copies between them."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self._folder = folder
        self._request = request
        self._writers = WorkerThreads(8, "durable")
        self._opened: list[Storage] = []

    def local(self, name: str) -> Place:
        """Open a folder, which need not be there."""
        root = self._folder / name
        storage = LocalStorage(root, self._writers)
        return Place(storage=storage, section={"kind": "local", "path": str(root)}, root=root)

    def bucket(self, server: str, **settings: Any) -> Place:
        """Open a new bucket on `ceph` or `swift`."""
        s3 = self._request.getfixturevalue(server).bucket(prefix="team/pictures", **settings)
        storage = S3Storage(Bucket(S3Settings(**s3)))
        self._opened.append(storage)
        return Place(storage=storage, section={"kind": "s3", "s3": s3})

    async def make(self, kind: str, name: str, **settings: Any) -> Place:
        """Open an empty place of a kind: local, ceph, swift."""
        return self.local(name) if kind == "local" else self.bucket(kind, **settings)

    async def filled(self, kind: str, sizes_bytes: list[list[int]]) -> Place:
        """Make a collection in a place of a kind, by copying it there from a folder, if that it must be."""
        local = self.local("source")
        assert local.root is not None
        await asyncio.to_thread(write_collection, local.root, sizes_bytes)
        if kind == "local":
            return local
        place = self.bucket(kind)
        report = await self.copy(local, place)
        assert report.is_clean
        return place

    async def copy(self, source: Place, target: Place, **options: Any) -> Report:
        """Copy as the command does."""
        if target.root is not None:
            target.root.mkdir(exist_ok=True)
        copying = Copy(source.storage, target.storage, **options)
        await copying.survey()
        root = (target.root / ".incoming" if target.root else self._folder) / "copying"
        with opened(root):
            staging = Staging(root, source.storage, is_durable=target.root is not None)
            return await copying.run(staging)

    async def close(self) -> None:
        for storage in self._opened:
            await storage.close()
        await asyncio.to_thread(self._writers.close)


@pytest.fixture
async def places(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Places]:
    """Make storages below `tmp_path` and on S3 servers."""
    made = Places(tmp_path, request)
    yield made
    await made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses in which a copy waits for a storage that is away."""
    monkeypatch.setattr(walking, "PAUSES_S", (0.02, 0.05, 0.1, 0.1, 0.1, 0.1))
