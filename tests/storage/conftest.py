from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pixie_proxy.config import S3Settings
from pixie_proxy.storage import SENTINEL, Storage
from pixie_proxy.storage.bucket import Bucket
from pixie_proxy.storage.local import LocalStorage
from pixie_proxy.storage.memory import MemoryStorage
from pixie_proxy.storage.s3 import S3Storage
from pixie_proxy.threads import WorkerThreads
from tests.support.s3_servers import S3Server


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


def on_s3(server: S3Server, **settings: str) -> S3Storage:
    """Open a storage in a new bucket."""
    return S3Storage(Bucket(S3Settings(**server.bucket(**settings))))


KINDS = [
    "local",
    "memory",
    pytest.param("ceph", marks=pytest.mark.xdist_group("ceph")),
    pytest.param("swift", marks=pytest.mark.xdist_group("swift")),
]


@pytest.fixture(params=KINDS)
async def storage(request: pytest.FixtureRequest, local: LocalStorage) -> AsyncIterator[Storage]:
    """Open an empty storage of each kind."""
    if request.param == "local":
        chosen: Storage = local
    elif request.param == "memory":
        chosen = MemoryStorage()
    else:
        chosen = on_s3(request.getfixturevalue(request.param), prefix="team/pictures")
    yield chosen
    await chosen.close()
