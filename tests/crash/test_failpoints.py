"""A proxy that dies before or after any step on disk has lost nothing that a client got whole (R3, L3 to L6)."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from pixie_proxy.storage import MANIFEST
from tests.support import outside
from tests.support.bucket_shop import BucketShop
from tests.support.failpoints import Failpoints, Point
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.s3_relay import S3Relay, flaky
from tests.support.s3_servers import S3Server
from tests.support.traffic import Asked, Ended, Traffic
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

KINDS = {
    "json": Asked(),
    "json_n4": Asked(n=4, size_bytes=700_000),
    "stream": Asked(n=2, stream=True),
    "edit": Asked(is_edit=True),
    "url": Asked(n=2, wants_url=True),
}
IN_SUITE = 3
"""Points a kind in every test run, a different choice for each kind; `make torture` takes them all."""
SEALED = Point("fsync spool/PROCESS after", 1)
"""Here a call has just become durable."""

all_points = pytest.param(None, marks=pytest.mark.torture)
some_or_all = pytest.mark.parametrize("most", [IN_SUITE, all_points], ids=["some", "all"])
two_or_all = pytest.mark.parametrize("most", [2, all_points], ids=["two", "all"])
Record = Callable[..., None]


def are_enough(died: list[bool]) -> bool:
    """Tell whether nearly all points killed. Some are not reached again, such as a sync that another's has served."""
    return sum(died) >= (0.8 if len(died) > IN_SUITE else 0.5) * len(died) > 0


class Mortal:
    """A data directory whose proxies die at points; what has ended there must never change again."""

    def __init__(
        self, folder: Path, upstream: ScriptedUpstream, seed: int, shop: BucketShop | None = None
    ) -> None:
        """Keep images in `folder`, or in the bucket of a shop with the same data directory."""
        self.data = folder / "data"
        self.points = Failpoints(folder / "points", self.data, on_s3=shop is not None)
        self._shop = shop
        self.traffic = Traffic(seed, pause_s=0)
        self.upstream = upstream
        self._ended: Ended | None = None
        upstream.default(self.traffic.answer)

    @asynccontextmanager
    async def start(self) -> AsyncIterator[RunningProxy]:
        """Start a proxy, and see that it makes good what the one before left, and changes nothing else."""
        self.points.arm(None)
        async with self.spawn() as proxy:
            await self.check(proxy)
            yield proxy

    def spawn(self) -> AbstractAsyncContextManager[RunningProxy]:
        """Start a proxy."""
        storage = {} if self._shop is None else {"storage": self._shop.storage}
        return spawn_proxy(self.data, self.upstream.base_url, prefix=self.points.prefix, **storage)

    async def check(self, proxy: RunningProxy) -> None:
        if self._shop is not None:
            await self._shop.settled()
        await self.traffic.check(proxy, self.data)
        ended = Ended.of(self.data)
        if self._ended is not None:
            assert self._ended.is_in(ended)
        self._ended = ended

    async def steps_of(self, proxy: RunningProxy, asked: Asked) -> list[Point]:
        """Make a call that nobody dies of, and give the points of it."""
        self.points.forget()
        await self.traffic.call(proxy, asked)
        await self.check(proxy)
        return self.points.reached()

    async def die_at(self, point: Point, *asked: Asked) -> bool:
        """Make calls and let the proxy die at a point of them; False if they ended without reaching it."""
        async with self.start() as proxy:
            self.points.arm(point)
            await asyncio.gather(*[self.traffic.call(proxy, one) for one in asked])
            return await self.has_died(proxy)

    async def has_died(self, proxy: RunningProxy) -> bool:
        """Wait for a proxy's death, or until there is nothing left to die of."""
        assert proxy.process is not None
        process = proxy.process
        await eventually(lambda: process.returncode is not None or outside.is_settled(self.data))
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 1.0)
        return process.returncode is not None


@pytest.fixture
def mortal(tmp_path: Path, upstream: ScriptedUpstream) -> Mortal:
    return Mortal(tmp_path, upstream, seed=1)


@some_or_all
@pytest.mark.parametrize("kind", KINDS)
async def test_a_death_at_any_step_of_a_call_loses_nothing(
    mortal: Mortal, kind: str, most: int | None, record_figure: Record
) -> None:
    """One death after the other on the same data; each start finds, and leaves, everything right."""
    asked = KINDS[kind]
    async with mortal.start() as proxy:
        await mortal.steps_of(proxy, asked)
        chosen = choose(await mortal.steps_of(proxy, asked), most, seed=kind)
    died = [await mortal.die_at(point, asked) for point in chosen]
    for _ in range(2):
        async with mortal.start():
            pass
    assert are_enough(died)
    record_figure("R3", kind=kind, points=len(chosen), deaths=sum(died), violations=0)


@two_or_all
async def test_a_death_at_any_step_of_the_first_call_loses_nothing(
    tmp_path: Path, upstream: ScriptedUpstream, most: int | None, record_figure: Record
) -> None:
    """The very first call makes the directories of its year, month and day: each death has data of its own."""
    asked = Asked()

    def fresh(number: int) -> Mortal:
        (tmp_path / str(number)).mkdir()
        return Mortal(tmp_path / str(number), upstream, seed=number)

    listing = fresh(0)
    async with listing.start() as proxy:
        steps = [point for point in await listing.steps_of(proxy, asked) if " storage" in point.name]
    died = 0
    for number, point in enumerate(choose(steps, most, seed="first"), 1):
        mortal = fresh(number)
        died += await mortal.die_at(point, asked)
        async with mortal.start():
            pass
    assert died > 0
    record_figure("R3", kind="first call", deaths=died, violations=0)


@pytest.fixture
def elsewhere(mortal: Mortal) -> Iterator[None]:
    """Put storage on another device: then a call is copied there, and removed from the spool last."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == mortal.data.parent.stat().st_dev:
        pytest.skip("/dev/shm is not another device")
    folder = tempfile.mkdtemp(dir=shm)
    mortal.data.mkdir()
    (mortal.data / "storage").symlink_to(folder)
    yield
    shutil.rmtree(folder)


@two_or_all
@pytest.mark.usefixtures("elsewhere")
async def test_a_death_at_any_step_of_a_copy_loses_nothing(
    mortal: Mortal, most: int | None, record_figure: Record
) -> None:
    """Whole in one place or the other, and in the end in storage alone."""
    asked = Asked(n=2)
    async with mortal.start() as proxy:
        await mortal.steps_of(proxy, asked)
        steps = await mortal.steps_of(proxy, asked)
    assert any(".incoming" in point.name for point in steps)
    chosen = choose(steps[steps.index(SEALED) :], most, seed="copy")
    died = [await mortal.die_at(point, asked) for point in chosen]
    async with mortal.start():
        pass
    assert are_enough(died)
    record_figure("R3", kind="copy", points=len(chosen), deaths=sum(died), violations=0)


@two_or_all
async def test_a_death_at_any_step_of_a_recovery_loses_nothing(
    mortal: Mortal, most: int | None, record_figure: Record
) -> None:
    """A start that dies is made good by the next one: here of a sealed call, and of a stream with one image of two."""
    debts = (Asked(), Asked(n=2, stream=True))
    twice = Point(SEALED.name, 2)
    assert await mortal.die_at(twice, *debts)
    mortal.points.forget()
    async with mortal.start():
        chosen = choose(mortal.points.reached(), most, seed="recovery")
    died = 0
    for point in chosen:
        await mortal.die_at(twice, *debts)
        mortal.points.arm(point)
        try:
            async with mortal.spawn() as proxy:
                died += await mortal.has_died(proxy)
        except AssertionError:  # before it served
            died += 1
    for _ in range(2):
        async with mortal.start():
            pass
    assert died > 0
    record_figure("R3", kind="recovery", points=len(chosen), deaths=died, violations=0)


@pytest.mark.xdist_group("ceph")
@pytest.mark.parametrize(
    ("kind", "most"), [("json", 1), *[pytest.param(kind, None, marks=pytest.mark.torture) for kind in KINDS]]
)
async def test_a_death_at_any_step_of_a_call_loses_nothing_on_s3(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    ceph: S3Server,
    kind: str,
    most: int | None,
    record_figure: Record,
) -> None:
    """Before and after each PUT too, while three in ten calls to the bucket fail."""
    async with S3Relay(ceph.url) as relay:
        mortal = Mortal(tmp_path, upstream, seed=3, shop=BucketShop.open(tmp_path / "data", ceph, relay))
        async with mortal.start() as proxy:
            await mortal.steps_of(proxy, KINDS[kind])
            steps = await mortal.steps_of(proxy, KINDS[kind])
        assert {
            f"put images/DAY/CALL/{name} {when}"
            for name in ("0.png", MANIFEST)
            for when in ("before", "after")
        } <= {point.name for point in steps}
        relay.plan = flaky(3)
        chosen = choose(steps, most, seed=f"s3 {kind}")
        died = [await mortal.die_at(point, KINDS[kind]) for point in chosen]
        async with mortal.start():
            pass
    assert are_enough(died)
    record_figure("R3", kind=f"{kind} on S3", points=len(chosen), deaths=sum(died), violations=0)


def choose(points: list[Point], most: int | None, seed: str) -> list[Point]:
    """Take some of the points, the same ones every time, or all; of a large file's writes only the first and last."""
    points = [point for point in points if ".probe" not in point.name]  # the watch's, whenever it looks
    last = {point.name: point.n for point in points}
    edges = [
        point for point in points if not point.name.startswith("write") or point.n in {1, last[point.name]}
    ]
    return points if most is None else Random(seed).sample(edges, min(most, len(edges)))
