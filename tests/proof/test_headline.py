"""Asked once means paid once, through the official SDK and a network that breaks (R12)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest
from openai import AsyncOpenAI

from tests.proof.troubled import TOO_LONG_S, Ends, Trouble, broken_streams, endure, insist, troubles
from tests.support import outside
from tests.support.callers import Order, Receipt, orders
from tests.support.faulty import FaultRelay
from tests.support.figures import RecordFigure
from tests.support.ledgers import compare
from tests.support.proxy import MEMBER_KEY, spawn_proxy
from tests.support.sockets import free_port
from tests.support.studio import Studio

GOT_IMAGES_AT_LEAST = 0.999
SEED = 12


def studio_for(plan_seed: int) -> Studio:
    return Studio(seed=plan_seed, sizes_bytes=(1_000, 20_000, 60_000, 200_000))


def prepare(studio: Studio, count: int) -> list[Trouble]:
    """Plan the calls; the upstream is too slow for those whose client has little patience."""
    plan = troubles(count, studio, SEED)
    slow = {trouble.order.prompt for trouble in plan if trouble.timeout_s is not None}
    studio.waits_s = lambda prompt: TOO_LONG_S if prompt in slow else 0.0
    studio.takes_s = lambda prompt: Random(prompt).uniform(0, 0.3)
    return plan


def check_that_it_broke(plan: list[Trouble], ends: Ends) -> None:
    """Nearly every fault of the plan happened: otherwise the figures would mean nothing."""
    planned = sum(bool(trouble.faults) for trouble in plan)
    assert sum(ends.done.values()) >= 0.95 * planned, ends.done


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.torture)])
async def test_a_call_is_charged_once_and_ends_with_its_image(
    tmp_path: Path, record_figure: RecordFigure, count: int
) -> None:
    """Cuts, timeouts and 502s between client and proxy; the same plan without the proxy costs three charges a call."""
    data = tmp_path / "data"
    async with studio_for(SEED) as studio, studio_for(SEED) as alone:
        plan = prepare(studio, count)
        prepare(alone, count)
        async with spawn_proxy(data, studio.base_url) as proxy:
            ends, without = await asyncio.gather(
                endure(f"{proxy.url}/v1", MEMBER_KEY, plan, at_once=40),
                endure(alone.base_url, "sk-alone", plan, at_once=40),
            )
            await outside.settled(data)
        report = compare(data, sales=studio.sales, receipts=ends.receipts, once=True)
    check_that_it_broke(plan, ends)
    check_that_it_broke(plan, without)
    record_figure(
        "R12",
        seed=SEED,
        calls=count,
        charges=len(studio.sales),
        charges_per_call=len(studio.sales) / count,
        callers_with_their_images_percent=100 * len(ends.helped) / count,
        connections_that_were_broken=sum(ends.done.values()),
        charges_per_call_without_proxy=len(alone.sales) / count,
        callers_with_their_images_without_proxy_percent=100 * len(without.helped) / count,
        violations=len(report.violations),
    )
    assert len(alone.sales) / count == pytest.approx(3, abs=0.05), "the plan is not what it should be"
    report.assert_clean(SEED)
    assert len(studio.sales) == count
    assert len(ends.helped) >= GOT_IMAGES_AT_LEAST * count, ends.errors()


@pytest.mark.parametrize("is_keyed", [False, True])
@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.torture)])
async def test_a_stream_that_broke_is_asked_for_again_and_not_charged_again(
    tmp_path: Path, record_figure: RecordFigure, count: int, is_keyed: bool
) -> None:
    """The SDK does not retry a stream that has begun; its caller makes the same call again.

    With an `Idempotency-Key` that is one charge, always. Without one it counts as a repeat on purpose if the proxy had
    handed the whole answer over before it felt the cut; how often that was is told, and has no bar.
    """
    data = tmp_path / "data"
    async with studio_for(SEED) as studio, spawn_proxy(data, studio.base_url) as proxy:
        studio.takes_s = lambda prompt: Random(prompt).uniform(0.2, 1)
        plan = broken_streams(count, studio, SEED)
        ends = await endure(f"{proxy.url}/v1", MEMBER_KEY, plan, at_once=24, is_keyed=is_keyed)
        await outside.settled(data)
        report = compare(data, sales=studio.sales, receipts=ends.receipts, once=is_keyed)
    check_that_it_broke(plan, ends)
    how = "with_a_key" if is_keyed else "without_a_key"
    record_figure(
        "R12",
        seed=SEED,
        violations=len(report.violations),
        **{f"broken_streams_{how}": count, f"charges_per_broken_stream_{how}": len(studio.sales) / count},
    )
    report.assert_clean(SEED)
    assert len(ends.helped) == count, ends.errors()
    assert not is_keyed or len(studio.sales) == count


@pytest.mark.parametrize(("count", "kills"), [(20, 1), pytest.param(500, 15, marks=pytest.mark.torture)])
async def test_a_killed_proxy_ends_calls_in_the_image_or_an_honest_502(
    tmp_path: Path, record_figure: RecordFigure, count: int, kills: int
) -> None:
    """SIGKILL and restart at random instants, under calls of every kind: never a second charge, never a lie."""
    data, random, port = tmp_path / "data", Random(SEED), free_port()
    wanted = orders(count, SEED, label="through kills")
    receipts: list[Receipt] = []
    done = 0
    async with (
        studio_for(SEED) as studio,
        FaultRelay(
            f"http://127.0.0.1:{port}/v1", patience_s=30
        ) as front,  # as a front proxy, it waits for a restart
        AsyncOpenAI(base_url=front.url, api_key=MEMBER_KEY) as sdk,
    ):
        studio.takes_s = lambda prompt: Random(prompt).uniform(0, 2)
        turns = asyncio.Semaphore(16)

        async def call(order: Order) -> None:
            async with turns:
                receipts.extend(await insist(sdk, order))

        calls = asyncio.gather(*[call(order) for order in wanted])
        while not calls.done():
            async with spawn_proxy(data, studio.base_url, server={"port": port}) as proxy:
                await asyncio.wait([calls], timeout=random.uniform(0.1, 2.5))
                if not calls.done():
                    await outside.kill(proxy)
                    done += 1
        await calls
        async with spawn_proxy(data, studio.base_url, server={"port": port}):
            await outside.settled(data)
        report = compare(data, sales=studio.sales, receipts=receipts, once=True, kills=True)
    ends = Ends(receipts=receipts, done=front.done)
    unknown = ends.errors()["upstream_outcome_unknown"]
    record_figure(
        "R12",
        seed=SEED,
        calls_while_the_proxy_was_killed=count,
        kills=done,
        ended_in_an_honest_502=unknown,
        violations=len(report.violations),
    )
    report.assert_clean(SEED)
    assert len(ends.helped) + unknown == count, ends.errors()
    assert done >= kills
