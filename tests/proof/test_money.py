"""Whatever happens to calls and clock, each account is the sum of its ledger, and no budget is passed (R74)."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pixie_proxy.accounts import money
from pixie_proxy.admission.gate import Admitted, admit, open_accounts
from pixie_proxy.errors import InvalidValue
from pixie_proxy.index import Index, Tx, accounts, audit, users
from pixie_proxy.index.postgres import open_postgres
from pixie_proxy.index.sqlite import open_sqlite
from pixie_proxy.index.users import StoredKey, StoredUser
from pixie_proxy.records import (
    NO_LIMITS,
    TEAM,
    Account,
    CallRecord,
    Limits,
    Settlement,
    State,
    User,
    base32hex,
    new_id,
    period,
    to_datetime,
)
from pixie_proxy.spool.finish import settle
from pixie_proxy.spool.recovery import unknown
from tests.support.calls import a_call, an_end
from tests.support.figures import RecordFigure
from tests.support.postgres import Server

T = TypeVar("T")

BEGIN_US = int(datetime(2026, 11, 29, 22, tzinfo=UTC).timestamp()) * 1_000_000
HOUR_US = 3_600_000_000
TEAM_LIMITS = Limits(usd_per_day=1.2, usd_total=6)
CALLERS = tuple(
    User(
        id=new_id("usr"),
        name=name,
        role="member",
        limits=limits,
        key_id=new_id("key"),
        key_limits=key_limits,
        team_limits=TEAM_LIMITS,
    )
    for name, limits, key_limits in (
        ("ann", Limits(usd_per_day=0.8, usd_per_month=2), Limits(usd_per_day=0.5)),
        ("ben", Limits(usd_total=1.5, images_per_day=9), NO_LIMITS),
        ("eve", NO_LIMITS, Limits(usd_per_month=1, images_per_day=6)),
    )
)
HOLDS = st.integers(0, 400_000)
COSTS = st.integers(0, 500_000)


@dataclass(slots=True)
class Call:
    """One call, as it should be in the ledger."""

    record: CallRecord
    state: State = "sent"
    cost_micros: int = 0
    corrected_micros: int = 0

    @property
    def is_open(self) -> bool:
        return self.state == "sent"


@dataclass(frozen=True, slots=True)
class Entry:
    """What counts for a subject: money on a day, whether a call brought it or an admin."""

    accounts: tuple[str, ...]
    micros: int
    at_us: int


class Money(RuleBasedStateMachine):
    """A ledger in Python beside the real one."""

    steps = 0
    refusals = 0
    server: Server | None = None
    """Where the databases are; None: the index is SQLite's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="pixie-money-"))
        self.runner = asyncio.Runner()
        self.url = "" if self.server is None else self.server.database()
        self.index = self.open()
        self.now_us = BEGIN_US
        self.calls: list[Call] = []
        self.corrections: list[Entry] = []
        self.write(self.people)

    def teardown(self) -> None:
        self.runner.run(self.index.close())
        self.runner.close()
        shutil.rmtree(self.folder)
        if self.server is not None:
            self.server.drop(self.url)

    def open(self) -> Index:
        if self.url:
            return self.runner.run(open_postgres(self.url, connections=2))
        return self.runner.run(open_sqlite(self.folder / "pixie.db", lock_path=self.folder / "pixie.lock"))

    def write(self, work: Callable[[Tx], T]) -> T:
        return self.runner.run(self.index.write(work))

    def read(self, subjects: list[str]) -> list[Account]:
        return self.write(lambda tx: accounts.read(tx, subjects, self.now_us))

    def settle(self, call: Call, settlement: Settlement) -> bool:
        return self.write(lambda tx: settle(tx, call.record, settlement))

    @staticmethod
    def people(tx: Tx) -> None:
        for who in CALLERS:
            users.add_user(tx, StoredUser(id=who.id, name=who.name, role="member", created_us=1, limits={}))
            key = StoredKey(
                id=who.key_id or "", user_id=who.id, digest=who.name, prefix="", name="", created_us=1
            )
            users.add_key(tx, key)

    # --- What should be ---------------------------------------------------------------------------------------------

    def entries(self) -> Iterable[Entry]:
        for call in self.calls:
            yield Entry(call.record.accounts, call.cost_micros, call.record.created_us)
        yield from self.corrections

    def spent(self, subject: str, when: str = "") -> int:
        """Add up a day (`2026-11-29`), a month (`2026-11`), or all."""
        return sum(
            entry.micros
            for entry in self.entries()
            if subject in entry.accounts and period(entry.at_us)["day"].startswith(when)
        )

    def held(self, subject: str) -> int:
        return sum(
            call.record.hold_micros for call in self.calls if call.is_open and subject in call.record.accounts
        )

    def images(self, subject: str, day: str) -> int:
        return sum(
            call.record.images_asked
            for call in self.calls
            if call.state != "failed"
            and subject in call.record.accounts
            and period(call.record.created_us)["day"] == day
        )

    def fits(self, who: User, call: CallRecord) -> bool:
        now = period(self.now_us)
        for _, subject, limits in who.parties:
            for usd, when in (
                (limits.usd_per_day, now["day"]),
                (limits.usd_per_month, now["month"]),
                (limits.usd_total, ""),
            ):
                taken = self.spent(subject, when) + self.held(subject) + call.hold_micros
                if usd is not None and taken > round(usd * 1_000_000):
                    return False
            images = self.images(subject, now["day"]) + call.images_asked
            if limits.images_per_day is not None and images > limits.images_per_day:
                return False
        return True

    # --- What happens -----------------------------------------------------------------------------------------------

    @rule(who=st.sampled_from(CALLERS), hold=HOLDS, n=st.integers(1, 4))
    def ask(self, who: User, hold: int, n: int) -> None:
        number = (self.now_us // 1000 << 82) + len(self.calls) + self.refusals
        call = a_call(
            id="req_" + base32hex(number, 26),
            user_id=who.id,
            key_id=who.key_id,
            images_asked=n,
            hold_micros=hold,
            created_us=self.now_us,
        )
        should = self.fits(who, call)
        found = self.write(
            lambda tx: admit(tx, open_accounts(tx, who.parties, self.now_us), call, now_us=self.now_us)
        )
        assert isinstance(found, Admitted) == should
        if should:
            self.calls.append(Call(call))
        else:
            self.refusals += 1

    @precondition(lambda self: any(call.is_open for call in self.calls))
    @rule(data=st.data(), state=st.sampled_from(["done", "done", "failed", "unknown"]), cost=COSTS)
    def end(self, data: Any, state: State, cost: int) -> None:
        call = data.draw(st.sampled_from([call for call in self.calls if call.is_open]))
        cost = {"failed": 0, "unknown": call.record.hold_micros}.get(state, cost)
        settlement = replace(an_end(call.record, state), cost_micros=cost)
        for is_first in (True, False):
            assert self.settle(call, settlement) == is_first
        call.state, call.cost_micros = state, cost

    @precondition(lambda self: any(call.state == "unknown" for call in self.calls))
    @rule(data=st.data(), cost=COSTS)
    def salvage(self, data: Any, cost: int) -> None:
        call = data.draw(st.sampled_from([call for call in self.calls if call.state == "unknown"]))
        day, less = period(call.record.created_us)["day"], call.cost_micros - cost
        if any(self.spent(subject, day) < less for subject in call.record.accounts):
            cost = call.cost_micros
        settlement = replace(an_end(call.record), cost_micros=call.cost_micros - less)
        assert self.settle(call, settlement)
        call.state, call.cost_micros = "done", cost

    @rule(hours=st.sampled_from([1, 3, 24, -1, -24, 24 * 3, -24 * 2]))
    def set_clock(self, hours: int) -> None:
        self.now_us += hours * HOUR_US

    @rule(is_recovered=st.booleans())
    def crash(self, is_recovered: bool) -> None:
        self.runner.run(self.index.close())
        self.index = self.open()
        for call in self.calls:
            if is_recovered and call.is_open:
                assert self.settle(call, unknown(call.record))
                call.state, call.cost_micros = "unknown", call.record.hold_micros

    @rule(
        data=st.data(),
        change=st.integers(-300_000, 200_000).filter(bool),
        name=st.sampled_from(["ann", "ben", "eve", None]),
        days=st.integers(-2, 0),
    )
    def correct(self, data: Any, change: int, name: str | None, days: int) -> None:
        ended = [call for call in self.calls if not call.is_open]
        call = data.draw(st.sampled_from([None, *ended])) if name is None else None
        at_us = call.record.created_us if call else self.now_us + days * 24 * HOUR_US
        subjects = call.record.accounts if call else (TEAM, *(who.id for who in CALLERS if who.name == name))
        day = period(at_us)["day"]
        should = all(self.spent(subject, day) + change >= 0 for subject in subjects)

        def work(tx: Tx) -> None:
            money.correct(
                tx,
                change_micros=change,
                reason="because",
                name=name,
                request_id=call.record.id if call else None,
                day=None if call else to_datetime(at_us).date(),
                now_us=self.now_us,
            )

        if not should or (call is not None and call.cost_micros + call.corrected_micros + change < 0):
            with pytest.raises(InvalidValue, match="more than was spent"):
                self.write(work)
        else:
            self.write(work)
            self.corrections.append(Entry(subjects, change, at_us))
            if call is not None:
                call.corrected_micros += change

    # --- What holds all the while -----------------------------------------------------------------------------------

    @invariant()
    def adds_up(self) -> None:
        Money.steps += 1
        assert self.write(audit.wrong_accounts) == {}
        now = period(self.now_us)
        for who in CALLERS:
            subjects = [party.account for party in who.parties]
            for account in self.read(subjects):
                subject = account.subject
                assert account.held_micros == self.held(subject)
                assert account.spent_life_micros == self.spent(subject)
                assert account.spent_month_micros == self.spent(subject, now["month"])
                assert account.spent_day_micros == self.spent(subject, now["day"])
                assert account.images_day == self.images(subject, now["day"])


@pytest.mark.parametrize(
    ("runs", "database"),
    [
        (6, "sqlite"),
        *[pytest.param(300, each, marks=pytest.mark.torture) for each in ("sqlite", "postgres")],
    ],
)
def test_accounts_are_the_sums_of_their_ledger(
    request: pytest.FixtureRequest, record_figure: RecordFigure, runs: int, database: str
) -> None:
    """Hold, settle, refund, salvage, correct, crash, and a clock that goes over midnight both ways, in any order."""
    Money.steps = 0
    Money.server = request.getfixturevalue("postgres") if database == "postgres" else None
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=runs,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=runs < 100,
            database=None,
        ),
    )
    record_figure("R74", histories=runs, steps_checked=Money.steps, violations=0)
