"""The gate: all limits are checked, then all are taken; a refusal takes nothing and leaves no row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pixie_proxy.admission.gate import Admitted, admit, open_accounts
from pixie_proxy.errors import (
    ConcurrencyLimitExceeded,
    InvalidValue,
    ProxyError,
    RateLimitExceeded,
)
from pixie_proxy.index import accounts, ledger, users
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from pixie_proxy.records import Account, CallRecord, Limits, Party, new_id
from tests.support.calls import ANN, a_call

NOW = 1_795_000_000_000_000


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqliteIndex]:
    opened = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock")
    await opened.write(lambda tx: users.add_user(tx, ANN))
    yield opened
    await opened.close()


def ask(n: int = 1, hold_micros: int = 0) -> CallRecord:
    return a_call(id=new_id("req"), images_asked=n, hold_micros=hold_micros)


async def tried(
    index: SqliteIndex, call: CallRecord, limits: Limits, now_us: int = NOW
) -> Admitted | ProxyError:
    parties = [Party("user", call.user_id, limits)]
    return await index.write(lambda tx: admit(tx, open_accounts(tx, parties, now_us), call, now_us=now_us))


async def standing(index: SqliteIndex) -> Account:
    return await index.read(lambda tx: accounts.get(tx, ANN.id))


async def test_what_is_admitted_is_taken_and_written_down(index: SqliteIndex) -> None:
    """A slot, the hold, one request and n images; the row is there as sent before anything is sent."""
    call = ask(3, hold_micros=700)
    found = await tried(index, call, Limits(requests_per_minute=6, images_per_minute=60))
    assert isinstance(found, Admitted)
    assert found.headers()["x-ratelimit-remaining-images"] == "57"
    taken, row = await standing(index), await index.read(lambda tx: ledger.get(tx, call.id))
    assert (taken.in_flight, taken.held_micros) == (1, 700)
    assert (taken.requests_tat_us, taken.images_tat_us) == (NOW + 10_000_000, NOW + 3_000_000)
    assert row is not None
    assert row.state == "sent"


@pytest.mark.parametrize(
    ("limits", "n", "error", "words"),
    [
        (Limits(requests_per_minute=1), 1, RateLimitExceeded, "is 1 requests a minute"),
        (Limits(images_per_minute=3), 3, RateLimitExceeded, "is 3 images a minute"),
        (Limits(concurrent_requests=1), 1, ConcurrencyLimitExceeded, "1 requests running"),
        (Limits(images_per_minute=3), 4, InvalidValue, "can never be met"),
        (
            Limits(requests_per_minute=9, images_per_minute=9, concurrent_requests=1),
            1,
            ConcurrencyLimitExceeded,
            "",
        ),
        (
            Limits(requests_per_minute=9, images_per_minute=1, concurrent_requests=1),
            1,
            RateLimitExceeded,
            "images",
        ),
    ],
)
async def test_a_refusal_takes_nothing(
    index: SqliteIndex, limits: Limits, n: int, error: type[ProxyError], words: str
) -> None:
    """Neither from the limit that was met nor from those that were not, nor a row in the ledger."""
    assert isinstance(await tried(index, ask(), limits), Admitted)
    before, refused = await standing(index), ask(n)
    for _ in range(3):
        found = await tried(index, refused, limits)
        assert isinstance(found, error)
        assert words in found.message
    assert await standing(index) == before
    assert await index.read(lambda tx: ledger.get(tx, refused.id)) is None


async def test_a_refusal_tells_what_is_left(index: SqliteIndex) -> None:
    """The wait, rounded up and between 1 and 60 seconds, and every bucket as it stands."""
    limits = Limits(requests_per_minute=2, images_per_minute=10)
    assert isinstance(await tried(index, ask(4), limits), Admitted)
    found = await tried(index, ask(7), limits, NOW + 500_000)
    assert isinstance(found, RateLimitExceeded)
    assert found.headers == {
        "retry-after": "6",
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "29.5s",
        "x-ratelimit-limit-images": "10",
        "x-ratelimit-remaining-images": "6",
        "x-ratelimit-reset-images": "23.5s",
    }


async def test_no_limit_is_no_limit(index: SqliteIndex) -> None:
    """Nothing is refused, and no header speaks of what does not exist."""
    for _ in range(50):
        found = await tried(index, ask(10), Limits())
        assert isinstance(found, Admitted)
        assert found.headers() == {}
    assert (await standing(index)).in_flight == 50


async def test_a_race_is_won_by_as_many_as_there_is_room_for(index: SqliteIndex) -> None:
    """Forty at once for seven slots: seven."""
    calls = [ask() for _ in range(40)]
    found = await asyncio.gather(*[tried(index, call, Limits(concurrent_requests=7)) for call in calls])
    assert sum(isinstance(each, Admitted) for each in found) == 7
    assert (await standing(index)).in_flight == 7


async def test_a_new_day_and_a_new_month_begin_at_nothing(index: SqliteIndex) -> None:
    """In UTC; what is held runs on, for its calls belong to the period that they began in."""
    eve = int(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp()) * 1_000_000
    assert isinstance(await tried(index, ask(hold_micros=5), Limits(), eve), Admitted)
    spent = replace(await standing(index), spent_day_micros=7, spent_month_micros=70, spent_life_micros=700)
    await index.write(lambda tx: accounts.save(tx, spent))
    assert isinstance(await tried(index, ask(hold_micros=5), Limits(), eve), Admitted)
    assert (await standing(index)).spent_day_micros == 7
    assert isinstance(await tried(index, ask(hold_micros=5), Limits(), eve + 1_000_000), Admitted)
    now = await standing(index)
    assert (now.day, now.month) == ("2026-12-01", "2026-12")
    assert (now.spent_day_micros, now.spent_month_micros, now.spent_life_micros) == (0, 0, 700)
    assert (now.held_micros, now.in_flight) == (15, 3)
