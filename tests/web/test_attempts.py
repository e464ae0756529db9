"""Buckets of wrong keys: by address and by all, one for all processes, and little of them in the index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pixie_proxy.index import Index
from pixie_proxy.index.postgres import open_postgres
from pixie_proxy.index.sqlite import open_sqlite
from pixie_proxy.web import attempts
from pixie_proxy.web.attempts import Attempts

SECRET = b"s" * 32


@pytest.fixture(params=["sqlite", "postgres"])
async def indexes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Index]]:
    """One index, as two processes have it open."""
    opened: list[Index]
    if request.param == "sqlite":
        path = tmp_path / "pixie.db"
        opened = [await open_sqlite(path, lock_path=tmp_path / "pixie.lock") for _ in "12"]
    else:
        url = request.getfixturevalue("postgres").database()
        opened = [await open_postgres(url, connections=3) for _ in "12"]
    yield opened
    for index in opened:
        await index.close()


async def test_more_processes_are_not_more_tries(indexes: list[Index]) -> None:
    """However many come at once, and wherever."""
    tried = [Attempts(index, "sign-in", SECRET) for index in indexes]
    waits = await asyncio.gather(*[tried[n % 2].note_failure("10.0.0.1", 0) for n in range(24)])
    assert sorted(waits) == [0] * attempts.PER_ADDRESS + [6] * 14
    assert [await each.wait_s("10.0.0.1", 0) for each in tried] == [6, 6]


async def test_addresses_count_apart_and_together(
    indexes: list[Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An IPv6 network of one person is one address; many addresses together have a limit too."""
    monkeypatch.setattr(attempts, "OVERALL", 60)
    tried = Attempts(indexes[0], "sign-in", SECRET)
    for n in range(attempts.PER_ADDRESS):
        await tried.note_failure(f"2001:db8::{n}", 0)
    assert await tried.wait_s("2001:db8::ffff", 0) == 6
    assert [await tried.wait_s(address, 0) for address in ("2001:db8:0:1::1", "10.0.0.1")] == [0, 0]
    assert await Attempts(indexes[0], "password", SECRET).wait_s("2001:db8::1", 0) == 0
    assert await tried.wait_s("2001:db8::ffff", 6_000_000) == 0
    for n in range(attempts.OVERALL):
        await tried.note_failure(f"10.0.0.{n}", 0)
    assert await tried.wait_s("192.0.2.1", 0) == 1
    assert await tried.wait_s("", 60_000_000) == 0


async def test_the_index_keeps_little_of_it(indexes: list[Index]) -> None:
    """Buckets that are full again are forgotten, and no address is there to be read."""
    (index, _), most = indexes, 0
    tried = Attempts(index, "sign-in", SECRET)
    for n in range(40):
        await tried.note_failure(f"192.0.2.{n}", n * 1_000_000)
        rows = await index.read(lambda tx: tx.all("SELECT subject, tat_us FROM attempts"))
        assert not any("192.0.2" in row["subject"] for row in rows)
        most = max(most, len(rows))
    assert most <= 8  # each is full again after six seconds; and the bucket of all
