"""Corrections and top-ups: entries beside the ledger, and budgets that grow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from pixie_proxy.accounts import money
from pixie_proxy.errors import InvalidValue, NotFound
from pixie_proxy.index import accounts, audit, ledger, users
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from pixie_proxy.records import TEAM, Correction, accounts_of, new_id
from pixie_proxy.spool.finish import settle
from tests.support.calls import ANN, a_call, admit, an_end

CALL = a_call(key_id=new_id("key"))
NOW_US = CALL.created_us


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqliteIndex]:
    """An index in which a call of ann's has cost 300 micros."""
    opened = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock")
    await admit(opened, CALL)
    await opened.write(lambda tx: settle(tx, CALL, an_end(CALL)))
    yield opened
    await opened.close()


async def correct(index: SqliteIndex, micros: int, **named: object) -> Correction:
    told = {"change_micros": micros, "reason": "billed twice", "name": "ann", "now_us": NOW_US, **named}
    return await index.write(lambda tx: money.correct(tx, **told))  # type: ignore[arg-type]


async def spent(index: SqliteIndex) -> dict[str, tuple[int, int]]:
    """Give what each account has spent, today and for good."""
    subjects = accounts_of(ANN.id, CALL.key_id)
    found = await index.read(lambda tx: accounts.read(tx, subjects, NOW_US))
    return {each.subject: (each.spent_day_micros, each.spent_life_micros) for each in found}


@pytest.mark.parametrize(
    ("text", "micros"), [("1.5", 1_500_000), ("-0.000001", -1), ("2e2", 200_000_000), ("  3 ", 3_000_000)]
)
def test_amounts_are_exact(text: str, micros: int) -> None:
    """To the micro, in any notation."""
    assert money.micros_of(text) == micros


@pytest.mark.parametrize(
    "text", ["", "x", "NaN", "inf", "-Infinity", "0", "0.0000001", "1e9", "-1e300", "1,5"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    """Neither nothing, nor nonsense, nor more than there is."""
    with pytest.raises(InvalidValue):
        money.micros_of(text)


async def test_a_correction_is_an_entry_of_its_own(index: SqliteIndex) -> None:
    """The row of the call stays as it is; all accounts that it moved have the difference, and still add up."""
    before = await index.read(lambda tx: ledger.get(tx, CALL.id))
    await correct(index, -100, request_id=CALL.id)
    assert await index.read(lambda tx: ledger.get(tx, CALL.id)) == before
    assert set((await spent(index)).values()) == {(200, 200)}
    await correct(index, 50)
    await correct(index, 7, name=None)
    assert await spent(index) == {TEAM: (257, 257), ANN.id: (250, 250), CALL.key_id: (200, 200)}
    assert await index.read(audit.wrong_accounts) == {}


async def test_nothing_comes_back_that_was_not_spent(index: SqliteIndex) -> None:
    """Down to nothing, not below: of a call, on a day, of the team."""
    other = a_call(id=new_id("req"), created_us=NOW_US - 86_400_000_000)
    await admit(index, other)
    await index.write(lambda tx: settle(tx, other, an_end(other)))
    for named in ({}, {"request_id": CALL.id}, {"name": None}, {"day": date(2026, 1, 1)}):
        with pytest.raises(InvalidValue, match="more than was spent"):
            await correct(index, -301, **named)
    await correct(index, -300, request_id=CALL.id)
    for named in ({}, {"request_id": CALL.id}):
        with pytest.raises(InvalidValue, match="more than was spent"):
            await correct(index, -1, **named)
    assert (await spent(index))[ANN.id] == (0, 300)


async def test_only_calls_that_have_ended_are_corrected(index: SqliteIndex) -> None:
    """One that runs may still cost anything; another user's is none of this one's."""
    running = a_call(id=new_id("req"))
    await admit(index, running)
    with pytest.raises(InvalidValue, match="under way"):
        await correct(index, 5, request_id=running.id)
    with pytest.raises(NotFound):
        await correct(index, 5, request_id=new_id("req"))
    with pytest.raises(NotFound):
        await correct(index, 5, name="nobody")
    await index.write(lambda tx: users.add_user(tx, replace(ANN, id=new_id("usr"), name="ben")))
    with pytest.raises(InvalidValue, match="not of 'ben'"):
        await correct(index, 5, name="ben", request_id=CALL.id)


async def test_what_was_given_back_is_not_given_back_again(index: SqliteIndex) -> None:
    """A call of unknown outcome that an admin has corrected is not made cheaper when its images turn up."""
    lost = a_call(id=new_id("req"), created_us=NOW_US + 86_400_000_000)
    await admit(index, lost)
    await index.write(lambda tx: settle(tx, lost, replace(an_end(lost, "unknown"), cost_micros=500)))
    await correct(index, -500, request_id=lost.id)
    await index.write(lambda tx: settle(tx, lost, an_end(lost)))
    row = await index.read(lambda tx: ledger.get(tx, lost.id))
    assert row is not None
    assert (row.state, row.cost_micros, row.flags) == ("done", 500, ("corrected",))
    assert await index.read(audit.wrong_accounts) == {}


async def test_a_top_up_raises_what_may_be_spent_in_total(index: SqliteIndex) -> None:
    """From the user's own limit, else from the general one; without any there is nothing to raise."""
    with pytest.raises(InvalidValue, match="without end"):
        await index.write(lambda tx: money.top_up(tx, "ann", 5, None))
    for micros, total in ((500_000, 3.0), (1, 3.000001)):
        user = await index.write(lambda tx, more=micros: money.top_up(tx, "ann", more, 2.5))  # type: ignore[misc]
        assert user.limits == {"usd_total": total}
    with pytest.raises(InvalidValue, match="more than 0"):
        await index.write(lambda tx: money.top_up(tx, "ann", -1, None))
