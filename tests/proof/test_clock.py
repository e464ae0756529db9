"""A clock that is set forward or back while the proxy runs breaks nothing (R98)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support import outside
from tests.support.callers import Order, Receipt, orders, place
from tests.support.clock import Clock
from tests.support.figures import RecordFigure
from tests.support.ledgers import compare
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.studio import Studio
from tests.support.upstream import stall
from tests.support.waiting import eventually

SEED = 98
WINDOW_S, HOUR_S, DAY_S = 60, 3600, 86_400
STEPS_S = [HOUR_S, -HOUR_S, 10 * DAY_S, -10 * DAY_S, 0]
"""Against the real time: the proxy's clock goes forward and back over days."""
_IN_TURN = "SELECT id, created_us FROM requests WHERE prompt LIKE 'after step%' ORDER BY rowid"
FELT_S = 5
"""How far a clock may be from where it was set for us to believe that it was felt."""


@asynccontextmanager
async def stepped_proxy(
    tmp_path: Path, studio: Studio, clock: Clock, **sections: Any
) -> AsyncIterator[RunningProxy]:
    async with spawn_proxy(tmp_path / "data", studio.base_url, prefix=clock.prefix, **sections) as proxy:
        yield proxy


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.torture)])
async def test_steps_of_the_clock_break_no_call(
    tmp_path: Path, record_figure: RecordFigure, rounds: int
) -> None:
    """Each step in the midst of calls: no error, ids unique and in order, images whole, and none expires."""
    clock, random, data = Clock(tmp_path), Random(SEED), tmp_path / "data"
    steps = [step + random.uniform(0, 60) for _ in range(rounds) for step in STEPS_S]
    receipts: list[Receipt] = []
    async with Studio(SEED) as studio, stepped_proxy(tmp_path, studio, clock) as proxy:
        studio.takes_s = lambda prompt: Random(prompt).uniform(0.2, 0.6)
        sdk = proxy.sdk()
        trash = await trashed(proxy, receipts)
        for number, step in enumerate(steps):
            wanted = orders(8, SEED + number, label="through a step")
            calls = [asyncio.ensure_future(place(sdk, order)) for order in wanted]
            await studio.wait_for_requests(len(receipts) + len(wanted))
            clock.set(step)
            receipts += await asyncio.gather(*calls)
            receipts.append(await place(sdk, Order(prompt=f"after step {number}")))
            latest = outside.rows(data, _IN_TURN)[-1]
            assert abs(latest["created_us"] / 1e6 - time.time() - step) < FELT_S, "the step was not felt"
        await outside.settled(data)
        assert (await proxy.request("POST", f"/v1/images/{trash}/restore"))[0] == 200
        served = [await outside.content(proxy, image) for image in await outside.gallery(proxy)]
        ids = [row["id"] for row in outside.rows(data, _IN_TURN)]
        report = compare(data, sales=studio.sales, receipts=receipts, once=True)
    failed = [receipt.error for receipt in receipts if receipt.error is not None]
    record_figure(
        "R98",
        seed=SEED,
        clock_steps=len(steps),
        calls_through_steps=len(receipts),
        calls_failed=len(failed),
        images_served_after=len(served),
        violations=len(report.violations),
    )
    assert failed == []
    assert len(ids) == len(steps)
    assert ids == sorted(set(ids)), "calls made one after the other no longer sort so"
    report.assert_clean(SEED)


async def trashed(proxy: RunningProxy, receipts: list[Receipt]) -> str:
    """Move an image to the trash, which is kept for 30 days: a step of ten must not empty it."""
    receipts.append(await place(proxy.sdk(), Order(prompt="for the trash")))
    await eventually(lambda: outside.is_settled(proxy.data_dir))
    (image,) = await outside.gallery(proxy)
    assert (await proxy.request("DELETE", f"/v1/images/{image['id']}"))[0] == 200
    return str(image["id"])


async def test_deadlines_do_not_follow_the_clock(tmp_path: Path, record_figure: RecordFigure) -> None:
    """An upstream may be silent for as long as the settings say, whichever way the clock is set meanwhile."""
    clock = Clock(tmp_path)
    upstream = {"idle_timeout_s": 2, "max_retries": 0}
    early = late = 0
    async with Studio(SEED) as studio, stepped_proxy(tmp_path, studio, clock, upstream=upstream) as proxy:
        sdk = proxy.sdk()
        for number, step in enumerate([10 * DAY_S, -10 * DAY_S]):
            studio.takes_s = lambda _: 1.0
            good = asyncio.ensure_future(place(sdk, Order(prompt=f"slow {number}")))
            await studio.wait_for_requests(2 * number + 1)
            clock.set(step)
            early += (await good).error is not None
            studio.script(stall())
            begun = time.monotonic()
            bad = asyncio.ensure_future(place(sdk, Order(prompt=f"silent {number}")))
            await studio.wait_for_requests(2 * number + 2)
            clock.set(-step)
            assert (await asyncio.wait_for(bad, 20)).error == "upstream_outcome_unknown"
            late += not 1.9 < time.monotonic() - begun < 6
    record_figure("R98", deadlines_through_steps=4, violations=early + late)
    assert (early, late) == (0, 0)


async def test_limits_stay_bounded(tmp_path: Path, record_figure: RecordFigure) -> None:
    """A clock set back locks nobody out for longer than a minute; one set forward gives one more window, not more."""
    clock, limit = Clock(tmp_path), 4
    limits = {"requests_per_minute": limit}
    async with Studio(SEED) as studio, stepped_proxy(tmp_path, studio, clock, limits=limits) as proxy:

        async def flood() -> tuple[int, list[int]]:
            """Ask for more than there is; give how many got through, and the waits that the others were told."""
            answers = [
                await proxy.request("POST", "/v1/images/generations", json={"prompt": str(number)})
                for number in range(limit + 3)
            ]
            waits = [int(headers["retry-after"]) for status, headers, _ in answers if status == 429]
            return sum(status == 200 for status, *_ in answers), waits

        admitted, waits = await flood()
        assert admitted == limit
        at_once, a_minute_later = [], []
        for step in STEPS_S:
            clock.set(step)
            more, told = await flood()
            at_once.append(more)
            clock.set(step + WINDOW_S + 1)
            later, _ = await flood()
            a_minute_later.append(later)
            waits += told
    record_figure(
        "R98",
        limits_through_steps=len(STEPS_S),
        extra_windows_a_step=max(at_once) / limit,
        locked_out_after_a_minute=a_minute_later.count(0),
        violations=sum(more > limit for more in at_once) + sum(later != limit for later in a_minute_later),
    )
    assert max(waits) <= WINDOW_S
    assert max(at_once) <= limit
    assert a_minute_later == [limit] * len(STEPS_S)
