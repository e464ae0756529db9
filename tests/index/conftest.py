from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite

OpenIndex = Callable[..., Awaitable[SqliteIndex]]


@pytest.fixture
async def open_index(tmp_path: Path) -> AsyncIterator[OpenIndex]:
    """Open the test's database as often as wanted; all are closed in the end."""
    opened: list[SqliteIndex] = []

    async def open_one(busy_timeout_ms: int = 1500, name: str = "pixie.db") -> SqliteIndex:
        index = await open_sqlite(
            tmp_path / name, lock_path=tmp_path / "pixie.lock", busy_timeout_ms=busy_timeout_ms
        )
        opened.append(index)
        return index

    yield open_one
    for index in opened:
        await index.close()


@pytest.fixture
async def index(open_index: OpenIndex) -> SqliteIndex:
    return await open_index()
