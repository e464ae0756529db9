from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from pixie_proxy.index import Index
from pixie_proxy.index.postgres import PostgresIndex, open_postgres
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from tests.support.postgres import Server

OpenIndex = Callable[..., Awaitable[SqliteIndex]]
OpenPostgres = Callable[..., Awaitable[PostgresIndex]]


@pytest.fixture
async def open_index(tmp_path: Path) -> AsyncIterator[OpenIndex]:
    """Open the test's SQLite file as often as wanted; all are closed in the end."""
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
async def open_pg(postgres: Server) -> AsyncIterator[OpenPostgres]:
    """Open the test's PostgreSQL database as often as wanted; all are closed in the end."""
    opened: list[PostgresIndex] = []
    url = postgres.database()

    async def open_one(
        connections: int = 6, at: str = url, read_limit_s: float | None = None
    ) -> PostgresIndex:
        index = await open_postgres(at, connections=connections, read_limit_s=read_limit_s)
        opened.append(index)
        return index

    yield open_one
    for index in opened:
        await index.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Index]:
    """An empty index: each test that asks for it runs with each database."""
    opened: Index
    if request.param == "sqlite":
        opened = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock")
    else:
        opened = await open_postgres(request.getfixturevalue("postgres").database(), connections=6)
    yield opened
    await opened.close()
