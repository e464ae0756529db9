"""Accounts: what each subject has under way, holds and has spent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pixie_proxy.index import Index, Tx, accounts, ledger, users
from pixie_proxy.records import TEAM, Account, Period, accounts_of, bounds, new_id
from tests.support.calls import ANN, a_call, an_end
from tests.support.postgres import INTEGRITY

THEN: Period = {"day": "2026-11-21", "month": "2026-11"}
NOON = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1_000_000
DAY_US = 86_400_000_000
EVERYBODY = accounts_of("usr_a", "key_a")


async def test_accounts_are_made_by_their_lock(index: Index) -> None:
    """The first lock makes empty accounts; what is saved is there for the next, and a lock changes nothing."""
    account = Account(subject="usr_a", in_flight=2, spent_life_micros=5, held_micros=7, images_day=3, **THEN)

    def work(tx: Tx) -> list[Account]:
        accounts.lock(tx, EVERYBODY)
        accounts.save(tx, account)
        accounts.lock(tx, EVERYBODY)
        return accounts.read(tx, EVERYBODY, NOON)

    fresh = [Account(subject=TEAM, **THEN), account, Account(subject="key_a", **THEN)]
    assert await index.write(work) == fresh
    assert await index.read(lambda tx: accounts.get(tx, "key_a")) == Account(subject="key_a")
    assert await index.read(lambda tx: accounts.get(tx, "usr_b")) == Account(subject="usr_b")


async def test_a_move_is_the_same_for_all_of_a_call(index: Index) -> None:
    """Team, user and key; a day that has rolled over since is left alone, life and month are charged."""
    account = Account(
        subject="", in_flight=1, day="2026-11-22", month="2026-11", held_micros=50, images_day=4
    )

    def work(tx: Tx) -> list[Account]:
        accounts.lock(tx, EVERYBODY)
        for subject in EVERYBODY:
            accounts.save(tx, replace(account, subject=subject))
        accounts.move(tx, EVERYBODY, THEN, slots=-1, held_micros=-50, spent_micros=30, images=-2)
        return [accounts.get(tx, subject) for subject in EVERYBODY]

    after = replace(account, in_flight=0, held_micros=0, spent_month_micros=30, spent_life_micros=30)
    assert await index.write(work) == [replace(after, subject=subject) for subject in EVERYBODY]


async def test_nothing_goes_below_nothing(index: Index) -> None:
    """Given back twice, slots and holds stay at zero; less than zero is refused by the schema."""

    def work(tx: Tx) -> Account:
        accounts.lock(tx, ["usr_a"])
        accounts.save(tx, Account(subject="usr_a", **THEN))
        accounts.move(tx, ["usr_a"], THEN, slots=-1, held_micros=-50, spent_micros=-1, images=-1)
        return accounts.get(tx, "usr_a")

    assert await index.write(work) == Account(subject="usr_a", **THEN)
    with pytest.raises(INTEGRITY):
        await index.write(lambda tx: accounts.save(tx, Account(subject="usr_a", held_micros=-1)))


async def test_a_day_begins_with_what_the_ledger_says(index: Index) -> None:
    """Nothing on a new day; what was spent on one that comes again because the clock was set. A hold runs on."""

    def work(tx: Tx) -> None:
        users.add_user(tx, ANN)
        for day, state in ((0, "done"), (0, "failed"), (1, "unknown"), (1, "sent")):
            call = a_call(id=new_id("req"), created_us=NOON + day * DAY_US, images_asked=2)
            ledger.insert(tx, call, "sent")
            if state != "sent":
                cost_micros = 0 if state == "failed" else 300
                ledger.settle(tx, replace(an_end(call, state), cost_micros=cost_micros))  # type: ignore[arg-type]
        accounts.lock(tx, [ANN.id])
        accounts.save(tx, Account(subject=ANN.id, held_micros=9, spent_life_micros=600))

    await index.write(work)
    for at_us, day, images, month in (
        (NOON, 300, 2, 600),
        (NOON + DAY_US, 300, 4, 600),
        (NOON + 2 * DAY_US, 0, 0, 600),
        (bounds("2026-11")[1], 0, 0, 0),
        (NOON, 300, 2, 600),
    ):
        for subject in (ANN.id, TEAM):
            (account,) = await index.read(lambda tx, at=at_us, of=subject: accounts.read(tx, [of], at))  # type: ignore[misc]
            found = (account.spent_day_micros, account.images_day, account.spent_month_micros)
            assert found == (day, images, month)
        assert (await index.read(lambda tx: accounts.get(tx, ANN.id))).held_micros == 9
