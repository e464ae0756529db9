"""What every index does, whatever the database."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pixie_proxy.errors import IndexUnavailable, NotFound
from pixie_proxy.index import Index, Tx, accounts, settings
from pixie_proxy.records import TEAM


def put_then_fail(tx: Tx) -> None:
    settings.put(tx, "colour", "red")
    raise NotFound("no")


async def test_write_returns_what_the_work_returns(index: Index) -> None:
    """The result comes back, and the next reader sees what was written."""
    assert await index.write(lambda tx: settings.put_if_absent(tx, "colour", "blue")) == "blue"
    assert await index.read(lambda tx: settings.get(tx, "colour")) == "blue"


async def test_work_that_raises_leaves_nothing(index: Index) -> None:
    """Our own errors pass as they are, and their transaction never was."""
    with pytest.raises(NotFound):
        await index.write(put_then_fail)
    assert await index.read(lambda tx: settings.get(tx, "colour")) is None


async def test_rows_are_read_by_name(index: Index) -> None:
    """`all`, `one` and `run` give rows, a row or None, and a count."""
    await index.write(lambda tx: settings.put(tx, "a", "1"))
    await index.write(lambda tx: settings.put(tx, "b", "2"))
    rows = await index.read(lambda tx: tx.all("SELECT name, value FROM settings ORDER BY name"))
    assert [(row["name"], row["value"]) for row in rows] == [("a", "1"), ("b", "2")]
    assert await index.read(lambda tx: tx.one("SELECT value FROM settings WHERE name = :n", n="c")) is None
    assert await index.write(lambda tx: tx.run("UPDATE settings SET value = :v", v="3")) == 2


async def test_writes_do_not_lose_each_other(index: Index) -> None:
    """A work that begins with a write is alone with that row, and reads what those before it have left there."""

    def increment(tx: Tx) -> None:
        accounts.lock(tx, [TEAM])
        known = accounts.get(tx, TEAM)
        accounts.save(tx, replace(known, in_flight=known.in_flight + 1))
        settings.put(tx, "count", str(int(settings.get(tx, "count") or 0) + 1))
        settings.count_up(tx, "counted")

    await asyncio.gather(*[index.write(increment) for _ in range(600)])
    assert await index.read(lambda tx: accounts.get(tx, TEAM).in_flight) == 600
    assert await index.read(lambda tx: settings.get(tx, "count")) == "600"
    assert await index.read(lambda tx: settings.get(tx, "counted")) == "600"


async def test_failing_work_does_not_harm_its_neighbours(index: Index) -> None:
    """Works that happen to be committed together fail alone."""
    works = [lambda tx, n=n: settings.put(tx, f"n{n}", "x") for n in range(4)]
    outcomes = await asyncio.gather(
        *[index.write(work) for work in [*works[:2], put_then_fail, *works[2:]]], return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 2 + [NotFound] + [type(None)] * 2
    rows = await index.read(lambda tx: tx.all("SELECT name FROM settings ORDER BY name"))
    assert [row["name"] for row in rows] == ["n0", "n1", "n2", "n3"]


async def test_read_can_not_write(index: Index) -> None:
    """A work that writes while reading is refused."""
    with pytest.raises(IndexUnavailable):
        await index.read(lambda tx: settings.put(tx, "colour", "red"))
    assert await index.read(lambda tx: settings.get(tx, "colour")) is None


async def test_close_finishes_what_was_accepted(index: Index) -> None:
    """Every accepted work gets its answer; what comes later is refused, and a second close is nothing."""
    tasks = [asyncio.ensure_future(index.write(lambda tx: settings.put(tx, "a", "1"))) for _ in range(600)]
    await asyncio.sleep(0)
    await index.close()
    assert all(task.done() and task.exception() is None for task in tasks)
    with pytest.raises(IndexUnavailable):
        await index.write(lambda tx: settings.put(tx, "b", "1"))
    with pytest.raises(IndexUnavailable):
        await index.read(lambda tx: settings.get(tx, "a"))
    await index.close()


async def test_scrubbing_changes_nothing_that_is_kept(index: Index) -> None:
    """Rows are as before, and the index goes on; works that come meanwhile are done."""
    await index.write(lambda tx: settings.put(tx, "colour", "blue"))
    scrubbing = asyncio.ensure_future(index.scrub())
    await asyncio.gather(*[index.write(lambda tx: settings.put(tx, "a", "1")) for _ in range(20)])
    assert await index.read(lambda tx: settings.get(tx, "colour")) == "blue"
    await scrubbing
    assert await index.write(lambda tx: settings.put_if_absent(tx, "colour", "red")) == "blue"
    assert await index.read(lambda tx: settings.get(tx, "a")) == "1"
