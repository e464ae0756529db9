"""Budgets at the gate: both sides of each, for a user, a key and the team; a refusal says which, and takes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.admission.budget import Budget, budgets, tightest
from pixie_proxy.admission.gate import Admitted, admit, open_accounts
from pixie_proxy.errors import BudgetExhausted, InvalidValue, ProxyError, RateLimitExceeded
from pixie_proxy.index import accounts, ledger, users
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from pixie_proxy.records import (
    NO_LIMITS,
    TEAM,
    Account,
    CallRecord,
    Limits,
    Party,
    PartyKind,
    accounts_of,
    bounds,
    new_id,
)
from pixie_proxy.spool.finish import settle
from tests.support.calls import ANN, a_call, an_end

NOON = bounds("2026-11-21")[0] + 43_200_000_000
KEY = new_id("key")
KINDS: tuple[PartyKind, ...] = ("team", "user", "key")
EACH = pytest.mark.parametrize("kind", KINDS)
HINT = "Naming size and quality lowers what it must set aside."


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqliteIndex]:
    opened = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock")
    await opened.write(lambda tx: users.add_user(tx, ANN))
    yield opened
    await opened.close()


def parties(kind: PartyKind, limits: Limits) -> list[Party]:
    """Give limits to one of the three."""
    return [
        Party(each, account, limits if each == kind else NO_LIMITS)
        for each, account in zip(KINDS, accounts_of(ANN.id, KEY), strict=True)
    ]


def ask(hold_micros: int = 40_000, **fields: Any) -> CallRecord:
    basis = {"id": new_id("req"), "key_id": KEY, "images_asked": 1, "created_us": NOON}
    return a_call(**basis | fields, hold_micros=hold_micros)


async def tried(
    index: SqliteIndex, call: CallRecord, kind: PartyKind, limits: Limits
) -> Admitted | ProxyError:
    now_us, those = call.created_us, parties(kind, limits)
    return await index.write(
        lambda tx: admit(tx, open_accounts(tx, those, now_us), call, now_us=now_us, hint=HINT)
    )


async def end(index: SqliteIndex, call: CallRecord, state: Any, cost_micros: int) -> None:
    settlement = replace(an_end(call, state), cost_micros=cost_micros)
    assert await index.write(lambda tx: settle(tx, call, settlement))


async def told(index: SqliteIndex, at_us: int = NOON) -> list[Account]:
    return await index.read(lambda tx: accounts.read(tx, accounts_of(ANN.id, KEY), at_us))


@EACH
@pytest.mark.parametrize(
    "limits", [Limits(usd_per_day=0.1), Limits(usd_per_month=0.1), Limits(usd_total=0.1)]
)
async def test_a_budget_is_full_to_the_micro(index: SqliteIndex, kind: PartyKind, limits: Limits) -> None:
    """What fits exactly is admitted; a micro more is refused, and takes nothing from any of the three."""
    for hold_micros in (60_000, 40_000):
        assert isinstance(await tried(index, ask(hold_micros), kind, limits), Admitted)
    before, call = await told(index), ask(1)
    refusal = await tried(index, call, kind, limits)
    assert isinstance(refusal, BudgetExhausted)
    assert (refusal.type, refusal.headers["x-should-retry"]) == ("insufficient_quota", "false")
    assert await told(index) == before
    assert await index.read(lambda tx: ledger.get(tx, call.id)) is None
    assert [account.held_micros for account in before] == [100_000] * 3


@pytest.mark.parametrize(
    ("kind", "limits", "words"),
    [
        (
            "user",
            Limits(usd_per_day=0.05),
            ("Your budget of $0.05 a day", "$0.01 left", "2026-11-22T00:00:00Z"),
        ),
        ("key", Limits(usd_per_month=0.05), ("budget of this key of $0.05 a month", "2026-12-01T00:00:00Z")),
        (
            "team",
            Limits(usd_total=0.05),
            ("The team's budget of $0.05 in total", "ask the admin to top it up"),
        ),
    ],
)
async def test_a_refusal_says_what_and_until_when(
    index: SqliteIndex, kind: PartyKind, limits: Limits, words: tuple[str, ...]
) -> None:
    """Whose budget, its value, what is left of it, when it resets, and how to need less."""
    call = ask()
    assert isinstance(await tried(index, call, kind, limits), Admitted)
    await end(index, call, "done", 39_999)
    assert isinstance(refusal := await tried(index, ask(), kind, limits), BudgetExhausted)
    told = (*words, "($0.039999 spent, $0.00 held", "cost up to $0.04", HINT)
    told = tuple(word.replace("$0.01 left", "$0.010001 left") for word in told)
    assert [word for word in told if word not in refusal.message] == []


async def test_settled_at_what_it_cost(index: SqliteIndex) -> None:
    """Less than the hold comes back, more is booked whole; a refusal is free, an unknown outcome is not."""
    limits, call = Limits(usd_total=1), ask()
    for state, cost, spent in (
        ("done", 10_000, 10_000),
        ("done", 90_000, 100_000),
        ("failed", 0, 100_000),
        ("unknown", 40_000, 140_000),
    ):
        call = ask()
        assert isinstance(await tried(index, call, "user", limits), Admitted)
        await end(index, call, state, cost)
        for account in await told(index):
            figures = (account.spent_day_micros, account.spent_month_micros, account.spent_life_micros)
            assert (figures, account.held_micros, account.in_flight) == ((spent,) * 3, 0, 0)
    await end(index, call, "done", 15_000)
    assert {account.spent_life_micros for account in await told(index)} == {115_000}


async def test_a_call_counts_in_the_day_of_its_admission(index: SqliteIndex) -> None:
    """At midnight the day's budget is whole again but for what is held; what ends then is yesterday's."""
    limits, midnight = Limits(usd_per_day=0.1), bounds("2026-11-21")[1]
    late, early = ask(created_us=midnight - 1), ask(created_us=midnight)
    for call in (late, early):
        assert isinstance(await tried(index, call, "user", limits), Admitted)
    assert isinstance(await tried(index, ask(created_us=midnight), "user", limits), BudgetExhausted)
    await end(index, late, "done", 40_000)
    assert isinstance(await tried(index, ask(60_000, created_us=midnight), "user", limits), Admitted)
    (_, user, _) = await told(index, midnight)
    assert (user.spent_day_micros, user.spent_month_micros, user.held_micros) == (0, 40_000, 100_000)


async def test_a_clock_that_is_set_back_gives_no_second_budget(index: SqliteIndex) -> None:
    """Nor does one that is set forward again: each day has been spent as it was."""
    limits, day_us = Limits(usd_per_day=0.04, usd_per_month=0.1), 86_400_000_000
    admitted = []
    for days in (0, -1, 0, -1, 1, 0):
        call = ask(created_us=NOON + days * day_us)
        if isinstance(await tried(index, call, "user", limits), Admitted):
            await end(index, call, "done", 40_000)
            admitted.append(days)
    assert admitted == [0, -1]


@EACH
async def test_images_a_day(index: SqliteIndex, kind: PartyKind) -> None:
    """As many as there are, in whatever portions; a call that the upstream refused gives its own back."""
    limits = Limits(images_per_day=5)
    calls = [ask(images_asked=n) for n in (3, 3, 2, 1)]
    found = [await tried(index, call, kind, limits) for call in calls]
    assert [isinstance(each, Admitted) for each in found] == [True, False, True, False]
    refusal = found[-1]
    assert isinstance(refusal, RateLimitExceeded)
    assert "5 images a day, of which 0 are left" in refusal.message
    assert "2026-11-22T00:00:00Z" in refusal.message
    assert refusal.headers["x-should-retry"] == "false"
    assert isinstance(await tried(index, ask(images_asked=6), kind, limits), InvalidValue)
    await end(index, calls[0], "failed", 0)
    assert isinstance(await tried(index, ask(images_asked=3), kind, limits), Admitted)
    assert isinstance(await tried(index, ask(created_us=bounds("2026-11-21")[1]), kind, limits), Admitted)


@EACH
@pytest.mark.parametrize(
    "limits", [Limits(requests_per_minute=2), Limits(images_per_minute=2), Limits(concurrent_requests=2)]
)
async def test_rate_and_slots_are_each_ones_own(index: SqliteIndex, kind: PartyKind, limits: Limits) -> None:
    """The third is refused, in the name of whoever has the limit."""
    found = [await tried(index, ask(), kind, limits) for _ in range(3)]
    assert [isinstance(each, Admitted) for each in found] == [True, True, False]
    refusal = found[2]
    assert isinstance(refusal, ProxyError)
    whose = {"user": "your limit", "key": "this key's limit", "team": "the team's limit"}[kind]
    assert f"{whose} is 2 " in refusal.message


async def test_the_tightest_bucket_is_told(index: SqliteIndex) -> None:
    """Of the three, the one with the least left."""
    those = [
        Party(kind, account, Limits(requests_per_minute=limit))
        for kind, account, limit in zip(KINDS, accounts_of(ANN.id, KEY), (9, 4, 6), strict=True)
    ]
    call = ask()
    found = await index.write(lambda tx: admit(tx, open_accounts(tx, those, NOON), call, now_us=NOON))
    assert isinstance(found, Admitted)
    assert found.headers()["x-ratelimit-remaining-requests"] == "3"


def test_no_budget_is_no_budget() -> None:
    """Null is no limit; nothing is not."""
    account = Account(subject=TEAM, day="2026-11-21", month="2026-11", spent_life_micros=5, held_micros=2)
    assert list(budgets(Party("team", TEAM, NO_LIMITS), account)) == []
    found = list(budgets(Party("team", TEAM, Limits(usd_total=0, usd_per_day=1)), account))
    assert [(each.span, each.remaining_micros) for each in found] == [("day", 999_998), ("total", -7)]
    least = tightest(found)
    assert least == Budget(
        party="team", span="total", limit_micros=0, spent_micros=5, held_micros=2, resets_us=None
    )
