"""An index that another program keeps locked: refused before money is spent, caught up with afterwards (R51)."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from pixie_proxy import backends
from pixie_proxy.index.sqlite import open_sqlite
from tests.support import outside
from tests.support.buying import Buyer, draw
from tests.support.proxy import RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

BUSY_S = 0.5


@pytest.fixture
async def proxy(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningProxy]:
    """Serve a proxy that gives up on a lock after half a second."""
    upstream.default(draw)
    opening = partial(open_sqlite, busy_timeout_ms=round(1000 * BUSY_S))
    monkeypatch.setattr(backends, "open_sqlite", opening)
    async with run_proxy(tmp_path / "data", upstream.base_url) as running:
        yield running


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Keep everybody else from writing."""
    holder = sqlite3.connect(data / "pixie.db", isolation_level=None, timeout=10)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        holder.close()


async def test_a_locked_index_refuses_before_money_is_spent(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """No later than the lock is waited for, all together; reads go on."""
    buyer = Buyer()
    assert await buyer.buy(proxy)
    await outside.settled(proxy.data_dir)
    with locked(proxy.data_dir):
        begun = time.monotonic()
        await asyncio.gather(*[buyer.buy(proxy) for _ in range(10)])
        assert time.monotonic() - begun < 2 * BUSY_S + 0.5
        assert await buyer.lost(proxy) == 0
    assert buyer.refused == [(503, "index_unavailable")] * 10
    assert len(upstream.requests) == 1
    assert await buyer.buy(proxy)


async def test_an_index_that_is_locked_after_the_call_catches_up(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Clients have their images two seconds later at most; rows and images are there within five of the lock's end."""
    buyer = Buyer()
    calls = [
        asyncio.ensure_future(buyer.buy(proxy, stream=stream, wait_s=0.3)) for stream in (False, True) * 2
    ]
    await upstream.wait_for_requests(4)
    with locked(proxy.data_dir):
        assert all(await asyncio.wait_for(asyncio.gather(*calls), 5))
        assert await outside.gallery(proxy) == []
        await asyncio.sleep(1.5)
    await eventually(lambda: outside.is_settled(proxy.data_dir), 5)
    assert await buyer.lost(proxy) == 0
    assert {call["state"] for call in outside.calls(proxy.data_dir)} == {"done"}
