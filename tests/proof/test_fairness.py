"""One user's load does not slow another (R30)."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import outside
from tests.support.figures import RecordFigure
from tests.support.proxy import MEMBER_KEY, OTHER_KEY, RunningProxy, spawn_proxy
from tests.support.studio import Studio

GENERATIONS = "/v1/images/generations"
TAKES_S = 1.0
"""What the upstream takes for a picture: a tenth of what a real one does, so that our own part shows."""
SLOTS = 32


async def one_a_second(proxy: RunningProxy, count: int, label: str) -> list[float]:
    """Make a call each second, whatever became of the last; give how long each took."""

    async def call(number: int) -> float:
        await asyncio.sleep(number)
        begun = time.monotonic()
        body = {"prompt": f"{label} {number}"}
        status, _, answer = await proxy.request("POST", GENERATIONS, json=body, key=OTHER_KEY)
        assert status == 200, answer
        return time.monotonic() - begun

    return await asyncio.gather(*[call(number) for number in range(count)])


async def queue(proxy: RunningProxy, calls: int) -> None:
    """Want so many pictures at once, and come back for each as soon as one is told to, for ever."""

    async def insist(number: int) -> None:
        for attempt in range(1_000_000):
            body = {"prompt": f"queued {number}, {attempt}"}
            status, headers, _ = await proxy.request("POST", GENERATIONS, json=body, key=MEMBER_KEY)
            if status == 429:
                await asyncio.sleep(float(headers["retry-after"]))

    await asyncio.gather(*[insist(number) for number in range(calls)])


def p95(times_s: list[float]) -> float:
    return sorted(times_s)[int(len(times_s) * 0.95)]


@pytest.mark.torture
async def test_a_users_queue_does_not_slow_another(tmp_path: Path, record_figure: RecordFigure) -> None:
    """A thousand calls of one user, as many at once as it may; the other's, one a second, take as long as ever."""
    count, queued = 60, 1000
    limits = {"concurrent_requests": SLOTS}
    async with (
        Studio(30) as studio,
        spawn_proxy(tmp_path / "data", studio.base_url, limits=limits) as proxy,
    ):
        studio.takes_s = lambda _: TAKES_S
        alone = await one_a_second(proxy, count, "alone")
        flood = asyncio.ensure_future(queue(proxy, queued))
        await studio.wait_for_requests(count + SLOTS)
        beside = await one_a_second(proxy, count, "beside")
        flood.cancel()
        with suppress(asyncio.CancelledError):
            await flood
        await outside.settled(proxy.data_dir)
    ratio = p95(beside) / p95(alone)
    record_figure(
        "R30",
        calls_queued=queued,
        calls_beside=count,
        p95_alone_ms=round(p95(alone) * 1000, 1),
        p95_beside_ms=round(p95(beside) * 1000, 1),
        ratio=round(ratio, 3),
        violations=int(ratio > 1.5),
    )
    assert ratio <= 1.5
