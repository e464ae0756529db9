"""Two hosts behind a front proxy, over one PostgreSQL and one bucket: any part may die, and callers do not notice.

The official SDK asks again as it does by default. A stream that broke after it had begun it does not ask for again: its
caller does, with the same `Idempotency-Key`. What a killed host had under way is the one exception: it may end in an
honest 502.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from random import Random

import pytest
from openai import AsyncOpenAI

from tests.proof.troubled import Ends, insist
from tests.support import outside
from tests.support.bucket_shop import BucketShop
from tests.support.callers import orders
from tests.support.figures import RecordFigure
from tests.support.front_pair import FrontPair, PairKind
from tests.support.ledgers import compare
from tests.support.postgres import Server
from tests.support.proxy import MEMBER_KEY
from tests.support.s3_servers import S3Server
from tests.support.sockets import free_port
from tests.support.studio import Studio
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("ceph")

SEED = 104
CALLERS = 6
SDK_RETRIES = 2
"""The SDK's default."""
LONGEST_S = 1.0
"""So long may the upstream take."""
HOST_AWAY_S = 3.0
INDEX_AWAY_S = 0.5
BUCKET_AWAY_S = 5.0
UNKNOWN = "upstream_outcome_unknown"


class Host:
    """One of the two: `pixie serve` with a data directory of its own, always at the same address."""

    def __init__(self, shop: BucketShop, upstream_url: str) -> None:
        self.data = shop.data
        self._shop, self._upstream_url, self._port = shop, upstream_url, free_port()
        self._running = AsyncExitStack()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        server = {"port": self._port, "trusted_proxies": ["127.0.0.1"]}
        self._proxy = await self._running.enter_async_context(
            self._shop.spawn(self._upstream_url, server=server)
        )

    async def kill(self) -> None:
        await outside.kill(self._proxy)
        await self._running.aclose()

    async def stop(self) -> None:
        assert await outside.terminate(self._proxy, 60) == 0
        await self._running.aclose()

    async def end(self) -> None:
        await self._running.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All parts."""

    a: Host
    b: Host
    front: FrontPair
    index: Server
    bucket: S3Server


# --- How each part goes away, and comes back --------------------------------------------------------------------------


async def kill_a_host(fleet: Fleet) -> None:
    await fleet.a.kill()
    await asyncio.sleep(HOST_AWAY_S)
    await fleet.a.start()


async def restart_the_other_host(fleet: Fleet) -> None:
    await fleet.front.reload(without=fleet.b.address)
    await fleet.b.stop()
    await fleet.b.start()
    await fleet.front.reload()


async def crash_the_index(fleet: Fleet) -> None:
    await asyncio.to_thread(fleet.index.stop, "immediate")
    await asyncio.sleep(INDEX_AWAY_S)
    await asyncio.to_thread(fleet.index.start)


async def kill_the_bucket(fleet: Fleet) -> None:
    await asyncio.to_thread(fleet.bucket.gateway.kill)
    await asyncio.sleep(BUCKET_AWAY_S)
    fleet.bucket.gateway.start()
    await eventually(fleet.bucket.is_up, 60)


async def reload_the_front(fleet: Fleet) -> None:
    await fleet.front.reload()


async def kill_the_front(fleet: Fleet) -> None:
    await fleet.front.kill()
    await fleet.front.start()


Trouble = Callable[[Fleet], Awaitable[None]]
SOME: list[Trouble] = [kill_a_host, crash_the_index]
EACH: list[Trouble] = [*SOME, restart_the_other_host, kill_the_bucket, reload_the_front, kill_the_front]


# --- Callers ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Load:
    """Callers of all kinds who go on until they are told to stop."""

    sdk: AsyncOpenAI
    ends: Ends = field(default_factory=lambda: Ends(receipts=[], done=Counter()))
    _numbers: count[int] = field(default_factory=count)

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Begin; at the end let all calls end."""
        is_over = asyncio.Event()
        callers = [asyncio.ensure_future(self._call(is_over)) for _ in range(CALLERS)]
        try:
            yield
        finally:
            is_over.set()
            await asyncio.gather(*callers)

    async def _call(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            (order,) = orders(1, SEED * 10_000 + next(self._numbers), label="fleet")
            self.ends.receipts += await insist(self.sdk, order, is_keyed=order.is_stream)

    async def go_on(self, calls: int) -> None:
        """Wait until so many more are answered."""
        wanted = len(self.ends.helped) + calls
        await eventually(lambda: len(self.ends.helped) >= wanted, 60)


@asynccontextmanager
async def fleet_of(
    kind: PairKind, folder: Path, studio: Studio, index: Server, bucket: S3Server
) -> AsyncIterator[tuple[Fleet, BucketShop]]:
    """Run two hosts and what they need."""
    shop = BucketShop.open(folder / "a", bucket)
    other = replace(shop, data=folder / "b")
    index.keep_index(shop.data)
    index.share_index(shop.data, other.data)
    a, b = Host(shop, studio.base_url), Host(other, studio.base_url)
    try:
        await asyncio.gather(a.start(), b.start())
        async with FrontPair(kind, folder / kind, (a.address, b.address)) as front:
            yield Fleet(a=a, b=b, front=front, index=index, bucket=bucket), shop
    finally:
        await asyncio.gather(a.end(), b.end())


@pytest.mark.parametrize(
    ("kind", "troubles", "rounds", "calls"),
    [
        ("haproxy", SOME, 1, 6),
        pytest.param("nginx", EACH, 5, 40, marks=pytest.mark.torture),
        pytest.param("haproxy", EACH, 5, 40, marks=pytest.mark.torture),
    ],
)
async def test_any_part_of_a_fleet_may_die(
    tmp_path: Path,
    own_postgres: Server,
    ceph: S3Server,
    record_figure: RecordFigure,
    kind: PairKind,
    troubles: list[Trouble],
    rounds: int,
    calls: int,
) -> None:
    """One after the other, under load: four ledgers agree, every call is answered once, and nothing stays held."""
    random = Random(SEED)
    wrong: Counter[str] = Counter()
    unknown = 0
    async with (
        Studio(SEED) as studio,
        fleet_of(kind, tmp_path, studio, own_postgres, ceph) as (fleet, shop),
        fleet.front.front.sdk(MEMBER_KEY, max_retries=SDK_RETRIES) as sdk,
    ):
        studio.takes_s = lambda prompt: Random(prompt).uniform(0, LONGEST_S)
        load = Load(sdk=sdk)
        for trouble in troubles * rounds:
            before = len(load.ends.receipts)
            async with load.under_way():
                await load.go_on(calls // 2)
                await asyncio.sleep(random.uniform(0, LONGEST_S))
                await trouble(fleet)
                await load.go_on(calls // 2)
            errors = Ends(receipts=load.ends.receipts[before:], done=Counter()).errors()
            if trouble is kill_a_host:
                unknown += errors.pop(UNKNOWN, 0)
            wrong.update({f"{trouble.__name__}: {error}": times for error, times in errors.items()})
        await eventually(lambda: outside.is_settled(fleet.b.data), 60)
        await shop.settled()
        report = compare(
            shop.data,
            sales=studio.sales,
            receipts=load.ends.receipts,
            once=True,
            kills=True,
            others=[fleet.b.data],
        )
    record_figure(
        "R104",
        seed=SEED,
        front=kind,
        parts_killed=rounds * len(troubles),
        **report.figures,
        ended_in_an_honest_502=unknown,
        calls_failed=wrong.total(),
        violations=len(report.violations) + wrong.total(),
    )
    report.assert_clean(SEED)
    assert not wrong
