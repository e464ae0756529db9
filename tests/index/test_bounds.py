"""Reads end in time, and the write-ahead log starts anew whatever is read meanwhile (R56)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from pixie_proxy import app
from pixie_proxy.errors import IndexUnavailable
from pixie_proxy.index import Tx, bounds, browsing, settings
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from tests.support.figures import RecordFigure
from tests.support.proxy import run_proxy
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

MEGABYTE = 1_000_000
FOR_EVER = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) AS n FROM c"


def read_for_ever(tx: Tx) -> object:
    return tx.one(FOR_EVER)


def read_for(seconds: float) -> Callable[[Tx], None]:
    def work(tx: Tx) -> None:
        tx.one("SELECT count(*) FROM settings")  # from here on the log is in use
        time.sleep(seconds)

    return work


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqliteIndex]:
    """An index whose reads may take a fifth of a second."""
    index = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock", read_limit_s=0.2)
    yield index
    await index.close()


async def test_a_read_without_an_end_is_ended(index: SqliteIndex) -> None:
    """Its caller hears so, and the connection serves the next one."""
    began = time.monotonic()
    ended = await asyncio.gather(*[index.read(read_for_ever) for _ in range(4)], return_exceptions=True)
    assert [type(each) for each in ended] == [IndexUnavailable] * 4
    assert "took too long and was given up" in str(ended[0])
    assert time.monotonic() - began < 5
    await index.write(lambda tx: settings.put(tx, "a", "b"))
    assert await index.read(lambda tx: settings.get(tx, "a")) == "b"


async def test_time_is_counted_for_each_read(index: SqliteIndex) -> None:
    """A connection that has worked for long may go on: no read of it did."""
    numbers = FOR_EVER.replace("FROM c)", "FROM c LIMIT 100000)", 1)
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        assert await index.read(lambda tx: tx.one(numbers)) is not None


async def test_a_gallery_query_without_an_end_is_a_503(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In OpenAI's envelope, with the time to come back; the proxy goes on."""
    monkeypatch.setattr(app, "READ_LIMIT_S", 0.2)
    async with run_proxy(tmp_path / "data", upstream.base_url) as proxy:
        with monkeypatch.context() as patched:
            patched.setattr(browsing, "page", lambda tx, *_, **__: read_for_ever(tx))
            status, headers, body = await proxy.request("GET", "/v1/images")
        error = orjson.loads(body)["error"]
        assert (status, error["code"], headers["retry-after"]) == (503, "index_unavailable", "5")
        assert error.keys() == {"message", "type", "param", "code"}
        assert (await proxy.get("/v1/images"))["data"] == []


@pytest.mark.parametrize(
    ("seconds", "longest_read_s", "large_bytes"),
    [
        (0.5, 0.06, 2 * MEGABYTE),
        pytest.param(600, app.READ_LIMIT_S, bounds.LARGE_LOG_BYTES, marks=pytest.mark.torture),
    ],
)
async def test_the_log_stays_small_while_readers_never_rest(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_figure: RecordFigure,
    seconds: float,
    longest_read_s: float,
    large_bytes: int,
) -> None:
    """Every reading connection is always in use, also by reads without an end; left alone, the log would never end."""
    monkeypatch.setattr(bounds, "LARGE_LOG_BYTES", large_bytes)
    monkeypatch.setattr(bounds, "_LOOK_EVERY_S", min(bounds._LOOK_EVERY_S, seconds / 50))
    index = await open_sqlite(
        tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock", read_limit_s=longest_read_s
    )
    ends_at = time.monotonic() + seconds
    largest = written = reads = 0

    def is_enough() -> bool:
        return written > 8 * large_bytes and time.monotonic() > ends_at

    async def reader(work: Callable[[Tx], object]) -> None:
        nonlocal reads
        while not is_enough():
            with suppress(IndexUnavailable):
                await index.read(work)
            reads += 1

    async def writer(name: str) -> None:
        nonlocal largest, written
        while not is_enough():
            # SQLite does not write again what stays the same.
            await index.write(partial(settings.put, name=name, value=os.urandom(25_000).hex()))
            written += 50_000
            largest = max(largest, index.log_bytes)

    works: list[Any] = [read_for_ever, *[read_for(longest_read_s * share) for share in (0.7, 0.8, 0.9)]]
    try:
        await asyncio.gather(*[reader(work) for work in works], *[writer(f"n{n}") for n in range(4)])
    finally:
        await index.close()
    record_figure(
        "R56",
        seconds=seconds,
        reads=reads,
        written_mb=round(written / MEGABYTE),
        largest_log_mb=round(largest / MEGABYTE, 1),
    )
    assert largest <= 4 * large_bytes


async def test_a_reader_that_is_not_ours_is_told_of(
    index: SqliteIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can end it; writers are held up for a moment only, and once it has ended the log starts anew."""
    monkeypatch.setattr(bounds, "LARGE_LOG_BYTES", 100_000)
    monkeypatch.setattr(bounds, "_LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(bounds, "_AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr(bounds, "_FOREIGN_WAIT_MS", 20)
    foreign = sqlite3.connect(tmp_path / "pixie.db", isolation_level=None)
    foreign.execute("BEGIN")
    foreign.execute("SELECT count(*) FROM settings").fetchone()
    began = time.monotonic()
    for number in range(20):
        await index.write(lambda tx, name=f"n{number}": settings.put(tx, name, "x" * 50_000))  # type: ignore[misc]
    assert time.monotonic() - began < 5
    assert caplog.text.count("the log of the index grows") == 1
    foreign.close()

    async def is_small() -> bool:
        await index.write(lambda tx: settings.put(tx, "a", "b"))
        return index.log_bytes < 100_000

    await eventually(is_small)
