from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from pixie_proxy.spool.area import Spool
from pixie_proxy.storage import SENTINEL
from pixie_proxy.storage.local import LocalStorage
from pixie_proxy.threads import WorkerThreads

OpenSpool = Callable[[], Spool]


@pytest.fixture
async def writers() -> AsyncIterator[WorkerThreads]:
    threads = WorkerThreads(4, "durable")
    yield threads
    await asyncio.to_thread(threads.close)


@pytest.fixture
def open_spool(tmp_path: Path, writers: WorkerThreads) -> Iterator[OpenSpool]:
    """Open the test's spool as one more process would; all are closed in the end."""
    opened: list[Spool] = []

    def open_one() -> Spool:
        spool = Spool(tmp_path / "spool", writers)
        spool.open()
        opened.append(spool)
        return spool

    yield open_one
    for spool in opened:
        spool.close()


@pytest.fixture
def spool(open_spool: OpenSpool) -> Spool:
    return open_spool()


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqliteIndex]:
    opened = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock")
    yield opened
    await opened.close()


@pytest.fixture
def storage(tmp_path: Path, writers: WorkerThreads) -> LocalStorage:
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / SENTINEL).touch()
    return LocalStorage(tmp_path / "storage", writers)


def die(spool: Spool) -> None:
    """Leave everything behind as a killed process does: the kernel frees its lock, and that is all."""
    assert spool._lock is not None
    os.close(spool._lock)
    spool._lock = None
