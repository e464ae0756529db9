from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pixie_proxy.storage import SENTINEL, Storage
from pixie_proxy.storage.local import LocalStorage
from pixie_proxy.storage.memory import MemoryStorage
from pixie_proxy.threads import WorkerThreads


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalStorage]:
    """Open a storage in the empty folder `tmp_path/storage`."""
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / SENTINEL).touch()
    writers = WorkerThreads(4, "durable")
    storage = LocalStorage(tmp_path / "storage", writers)
    yield storage
    await storage.close()
    await asyncio.to_thread(writers.close)


@pytest.fixture(params=["local", "memory"])
async def storage(request: pytest.FixtureRequest, local: LocalStorage) -> AsyncIterator[Storage]:
    """Open an empty storage of each kind."""
    chosen: Storage = local if request.param == "local" else MemoryStorage()
    yield chosen
    await chosen.close()
