"""Images are as safe on S3 as on disk: a server that dies, a network that breaks, a proxy that is killed.

Behind each run the four ledgers are compared; the bucket is read from the server itself.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.support import outside
from tests.support.bucket_shop import BucketShop
from tests.support.callers import Order, Receipt, orders, place
from tests.support.figures import RecordFigure
from tests.support.ledgers import compare
from tests.support.proxy import ADMIN_KEY, RunningProxy
from tests.support.s3_relay import S3Relay, flaky
from tests.support.s3_servers import S3Server
from tests.support.studio import Studio
from tests.support.traffic import Traffic
from tests.support.upstream import ScriptedUpstream, pause
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("ceph")

CALLERS = 8
HOME_WITHIN_S = 60.0
torture = pytest.mark.torture


@pytest.fixture
async def shop(tmp_path: Path, ceph: S3Server) -> AsyncIterator[BucketShop]:
    """Keep images in a bucket of Ceph's, behind a relay."""
    async with S3Relay(ceph.url) as relay:
        yield BucketShop.open(tmp_path / "data", ceph, relay)


# --- The server dies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away_s", [4.0, pytest.param(150.0, marks=torture)])
async def test_a_killed_s3_server_is_not_our_callers_problem(
    tmp_path: Path, ceph: S3Server, record_figure: RecordFigure, away_s: float
) -> None:
    """R46: answers, lists, images and thumbnails go on; the cap closes admission; all is uploaded after the return."""
    shop = BucketShop.open(tmp_path / "data", ceph)
    cap = {"spool_max_gb": 0.5}
    async with (
        Studio(46, sizes_bytes=(1_000, 20_000, 60_000)) as studio,
        shop.spawn(studio.base_url, server=cap) as proxy,
    ):
        receipts = await buy(proxy, orders(20, 46, label="before"))
        with killed(ceph, signal.SIGTERM if away_s < 60 else signal.SIGKILL):
            until = time.monotonic() + away_s
            receipts += [await place(proxy.sdk(), order) for order in orders(3, 46, label="first")]
            looking = asyncio.ensure_future(look_around(proxy, until))
            waves = 0
            while time.monotonic() < until:
                receipts += await buy(proxy, orders(4, waves, label=f"wave {waves}"), pause_s=0.4)
                waves += 1
            seen = await looking
            waiting = sum(path.name == "request.json" for path in outside.spooled(shop.data))
            if away_s > 60:
                receipts += await fill(proxy, studio)
        await eventually(ceph.is_up, 30)
        back = time.monotonic()
        await eventually(lambda: not outside.spooled(shop.data), HOME_WITHIN_S)
        home_s = time.monotonic() - back
        await eventually(lambda: outside.is_ready(proxy))
        receipts += await buy(proxy, orders(5, 46, label="after"))
        await shop.settled()
        report = compare(shop.data, sales=studio.sales, receipts=receipts, once=True)
    failed = [receipt.error for receipt in receipts if receipt.error is not None]
    record_figure(
        "R46",
        seed=46,
        away_s=away_s,
        calls=len(receipts),
        calls_failed=len(failed),
        reads_meanwhile=sum(seen.values()),
        calls_that_waited=waiting,
        all_home_after_s=round(home_s, 1),
        violations=len(report.violations),
    )
    assert failed == []
    assert min(seen.values()) > 0, seen
    report.assert_clean(46)


@contextmanager
def killed(server: S3Server, number: int) -> Iterator[None]:
    """End the gateway, and start it again."""
    server.gateway.kill(number)
    try:
        yield
    finally:
        server.gateway.start()


async def buy(
    proxy: RunningProxy, wanted: list[Order], *, at_once: int = CALLERS, pause_s: float = 0
) -> list[Receipt]:
    """Make calls, a few at a time."""
    sdk, turns = proxy.sdk(), asyncio.Semaphore(at_once)

    async def call(order: Order) -> Receipt:
        async with turns:
            return await place(sdk, order)

    receipts = await asyncio.gather(*[call(order) for order in wanted])
    await asyncio.sleep(pause_s)
    return receipts


async def look_around(proxy: RunningProxy, until: float) -> Counter[str]:
    """Look at the newest images as the gallery's page does, until then; each look must succeed."""
    seen = Counter[str]()
    while time.monotonic() < until:
        listed = await proxy.get("/v1/images?limit=3", key=ADMIN_KEY)
        seen["lists"] += 1
        for image in listed["data"]:
            await outside.content(proxy, image)
            seen["images"] += 1
            status, headers, _ = await proxy.request("GET", image["thumbnail_url"], key=ADMIN_KEY)
            assert (status, headers["Content-Type"]) == (200, "image/webp")
            seen["thumbnails"] += 1
        await asyncio.sleep(0.2)
    return seen


async def fill(proxy: RunningProxy, studio: Studio) -> list[Receipt]:
    """Make large images until no more are taken; give those that were. Nothing was sold to who was refused."""
    studio.sizes_bytes = (25_000_000,)
    receipts: list[Receipt] = []
    for number in range(20):
        sold = len(studio.sales)
        receipt = await place(proxy.sdk(), Order(prompt=f"large {number}"))
        if receipt.error == "storage_full":
            assert len(studio.sales) == sold
            studio.sizes_bytes = (1_000,)
            return receipts
        receipts.append(receipt)
        await asyncio.sleep(1.1)  # the spool is measured once a second
    raise AssertionError("the cap did not close admission")


# --- The network breaks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("calls", "stalls"), [(40, 0), pytest.param(4000, 0.03, marks=torture)])
async def test_three_in_ten_calls_to_s3_may_fail(
    shop: BucketShop, record_figure: RecordFigure, calls: int, stalls: float
) -> None:
    """R48 through the whole proxy: 10,000 images at full count. No caller notices, and no try is endless."""
    assert shop.relay is not None
    shop.relay.plan = flaky(48, stalls=stalls)
    wanted = [replace(order, n=1 + at % 4) for at, order in enumerate(orders(calls, 48))]
    async with Studio(48, sizes_bytes=(1_000, 20_000)) as studio, shop.spawn(studio.base_url) as proxy:
        receipts = await buy(proxy, wanted, at_once=24)
        answered = time.monotonic()
        await shop.settled(HOME_WITHIN_S)
        home_s = time.monotonic() - answered
        report = compare(shop.data, sales=studio.sales, receipts=receipts, once=True)
    faults = Counter(call.fault.kind for call in shop.relay.calls if call.fault is not None)
    failed = [receipt.error for receipt in receipts if receipt.error is not None]
    most = max(call.tries for call in shop.relay.calls if call.method == "PUT") + 1
    record_figure(
        "R48",
        seed=48,
        images=sum(order.n for order in wanted),
        calls_failed=len(failed),
        s3_calls=len(shop.relay.calls),
        s3_calls_that_failed=sum(faults.values()),
        most_tries=str(most),
        all_home_after_s=round(home_s, 1),
        violations=len(report.violations),
    )
    assert failed == []
    assert most <= 20
    report.assert_clean(48)


@pytest.mark.parametrize(
    ("in_flight", "longest_s", "stalls"), [(50, 2.0, 0), pytest.param(200, 30.0, 0.03, marks=torture)]
)
async def test_a_drain_on_a_broken_s3_fails_nobody(
    shop: BucketShop, record_figure: RecordFigure, in_flight: int, longest_s: float, stalls: float
) -> None:
    """R93 and R48: JSON, streams and edits end well, the process leaves in time, the next start saves the rest."""
    assert shop.relay is not None
    all_are_there = asyncio.Event()
    async with Studio(93) as studio:
        studio.takes_s = lambda prompt: Random(prompt).uniform(longest_s / 30, longest_s)
        studio.default(pause(all_are_there), studio.sell)
        async with shop.spawn(studio.base_url) as proxy:
            assert proxy.process is not None
            shop.relay.plan = flaky(93, stalls=stalls)
            sdk = proxy.sdk()
            calls = [asyncio.ensure_future(place(sdk, order)) for order in orders(in_flight, 93)]
            await studio.wait_for_requests(in_flight, 60)
            all_are_there.set()
            proxy.process.terminate()
            receipts = await asyncio.gather(*calls)
            answered = time.monotonic()
            code = await asyncio.wait_for(proxy.process.wait(), 30)
            exit_s = time.monotonic() - answered
        left = sum(path.name == "request.json" for path in outside.spooled(shop.data))
        async with shop.spawn(studio.base_url):
            await shop.settled()
        report = compare(shop.data, sales=studio.sales, receipts=receipts, once=True)
    failed = [receipt.error for receipt in receipts if receipt.error is not None]
    record_figure(
        "R93",
        seed=93,
        calls_in_flight_on_s3=in_flight,
        calls_failed_on_s3=len(failed),
        saved_by_the_next_start=left,
        exit_on_s3_after_the_last_answer_s=round(exit_s, 2),
        violations=len(report.violations),
    )
    assert (failed, code) == ([], 0)
    assert exit_s <= 15
    report.assert_clean(93)


async def test_who_stops_or_starts_does_not_wait_for_s3(shop: BucketShop) -> None:
    """The bucket is away: the process leaves at once, the next one serves what waits, and uploads it in the end."""
    assert shop.relay is not None
    async with Studio(94) as studio:
        async with shop.spawn(studio.base_url) as proxy:
            await shop.relay.go_away()
            receipts = await buy(proxy, orders(20, 94))
            began = time.monotonic()
            assert await outside.terminate(proxy) == 0
            assert time.monotonic() - began < 8
        async with shop.spawn(studio.base_url) as proxy:
            await eventually(lambda: outside.is_ready(proxy))
            for image in await outside.gallery(proxy):
                await outside.content(proxy, image)
            receipts += await buy(proxy, orders(5, 95))
            await shop.relay.come_back()
            await shop.settled()
        assert [receipt.error for receipt in receipts] == [None] * 25
        compare(shop.data, sales=studio.sales, receipts=receipts, once=True).assert_clean(94)


# --- The proxy is killed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [1, pytest.param(100, marks=torture)])
async def test_a_kill_at_any_instant_loses_nothing_on_s3(
    shop: BucketShop, upstream: ScriptedUpstream, record_figure: RecordFigure, kills: int
) -> None:
    """R1 while three in ten calls to the bucket fail: each start brings home what the one before had left."""
    assert shop.relay is not None
    traffic = Traffic(11, sizes=(1000, 10_000, 60_000), pause_s=0.01)
    upstream.default(traffic.answer)
    recovery_s = []
    shop.relay.plan = flaky(11)
    for number in range(kills + 1):
        async with shop.spawn(upstream.base_url) as proxy:
            begun = time.monotonic()
            await eventually(lambda: outside.is_settled(shop.data), HOME_WITHIN_S)
            recovery_s.append(time.monotonic() - begun)
            if number % 25 == 1 or number == kills:
                await shop.settled()
                await traffic.check(proxy, shop.data)
            if number < kills:
                clients = [asyncio.ensure_future(traffic.client(proxy)) for _ in range(8)]
                await asyncio.sleep(traffic.random.uniform(0, 1.2))
                await outside.kill(proxy)
                await asyncio.gather(*clients)
    assert len(traffic.received) >= 3 * kills
    record_figure(
        "R1",
        seed=11,
        kills_on_s3=kills,
        images_on_s3=len(traffic.received),
        longest_recovery_on_s3_s=round(max(recovery_s), 2),
        violations=0,
    )
