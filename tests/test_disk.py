"""A disk that is full, fails or goes away costs no paid image, and takes no money while it can't keep one.

R10, R41 to R45. Faults come from a library in front of the C library's; disks of their own need the right to mount.
"""

from __future__ import annotations

import asyncio
import errno
import random
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from tests.support import outside
from tests.support.buying import Buyer, draw
from tests.support.faulty_disk import FaultyDisk, build_faults
from tests.support.figures import RecordFigure
from tests.support.mounts import fill, remount, small_disk, unfill
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

pytestmark = pytest.mark.system

NOTICED_S = 1.0
BACK_S = 4.0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def faults(library: Path, tmp_path: Path, data: Path) -> FaultyDisk:
    return FaultyDisk(library, tmp_path, data)


@pytest.fixture
async def proxy(data: Path, upstream: ScriptedUpstream, faults: FaultyDisk) -> AsyncIterator[RunningProxy]:
    """Serve a proxy in a process of its own, on a disk that can be made to fail."""
    upstream.default(draw)
    async with spawn_proxy(data, upstream.base_url, prefix=faults.prefix) as running:
        yield running


async def seconds(reached: Callable[[], Awaitable[bool]], timeout_s: float) -> float:
    """Measure how long it takes."""
    begun = time.monotonic()
    await eventually(reached, timeout_s)
    return time.monotonic() - begun


async def reason(proxy: RunningProxy) -> str | None:
    """Ask /readyz; None when it is ready."""
    status, _, body = await proxy.request("GET", "/readyz", key=None)
    return None if status == 200 else str(orjson.loads(body)["reason"])


async def is_out(proxy: RunningProxy) -> bool:
    return await reason(proxy) is not None


async def log_of(proxy: RunningProxy) -> list[tuple[str, str, str]]:
    """End a proxy, and give what it has said about its disks: level, message, reason."""
    assert proxy.process is not None
    assert proxy.process.stderr is not None
    await outside.kill(proxy)
    said = [
        orjson.loads(line) for line in (await proxy.process.stderr.read()).splitlines() if line[:1] == b"{"
    ]
    return [(line["level"], line["message"], line["reason"]) for line in said if "disk" in line]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (errno.EROFS, "storage_unavailable", "the disk fails: paid calls are refused until it is mended"),
        (errno.EACCES, "storage_unavailable", "the disk fails: paid calls are refused until it is mended"),
        (errno.EIO, "storage_unavailable", "the disk fails: paid calls are refused until it is mended"),
        (errno.ENOSPC, "storage_full", "the disk is full: paid calls are refused until there is room"),
    ],
)
async def test_a_disk_that_can_not_be_written_takes_no_money(
    proxy: RunningProxy, upstream: ScriptedUpstream, faults: FaultyDisk, error: int, code: str, told: str
) -> None:
    """Noticed within a second, told once, over as soon as it works; reads are served all the while."""
    buyer = Buyer()
    assert await buyer.buy(proxy)
    faults.switch(write_error=error)
    assert await seconds(lambda: is_out(proxy), 5) <= NOTICED_S
    paid = len(upstream.requests)
    for _ in range(10):
        assert not await buyer.buy(proxy)
    assert (await reason(proxy), set(buyer.refused)) == (code, {(503, code)})
    assert await buyer.lost(proxy) == 0
    assert (await proxy.request("GET", "/healthz", key=None))[0] == 200
    assert len(upstream.requests) == paid
    faults.switch()
    assert await seconds(lambda: outside.is_ready(proxy), 10) <= BACK_S
    assert await buyer.buy(proxy)
    assert await buyer.lost(proxy) == 0
    said = await log_of(proxy)
    assert set(said) == {
        (level, message, errno.errorcode[error])
        for level, message in (("critical", told), ("warning", "the disk works again: paid calls are taken"))
    }
    assert len(said) == 4  # data directory and storage


async def test_a_disk_that_fails_under_running_calls_loses_none_of_their_images(
    proxy: RunningProxy, faults: FaultyDisk, data: Path
) -> None:
    """Their clients get them, memory holds them, and a minute later the disk has them after all."""
    buyer = Buyer()
    calls = [
        asyncio.ensure_future(buyer.buy(proxy, n=2, size_bytes=size, stream=stream, wait_s=0.5, take_s=1))
        for size in (3000, 900_000)
        for stream in (False, True)
    ]
    await asyncio.sleep(0.9)
    faults.switch(write_error=errno.EROFS)
    assert all(await asyncio.gather(*calls))
    assert await is_out(proxy)
    faults.switch()
    await outside.settled(data)
    assert await buyer.lost(proxy) == 0
    assert {call["flags"] for call in outside.calls(data)} == {"[]"}


async def fail_every_fsync_once(
    proxy: RunningProxy, upstream: ScriptedUpstream, faults: FaultyDisk, data: Path, numbers: range
) -> Buyer:
    """Let the k-th fsync of a call fail, for each k, then kill the proxy and look at what the next one has."""
    buyer = Buyer()
    for at, number in enumerate(numbers):
        size = (3000, 900_000)[at % 2]
        await eventually(lambda: outside.is_ready(proxy))
        faults.switch(fsync_at=number, fsync_error=errno.EIO)
        while faults.fsyncs < number:
            await buyer.buy(proxy, n=2, size_bytes=size, stream=bool(at // 2 % 2))
        assert await seconds(lambda: is_out(proxy), 5) <= NOTICED_S, number
    await outside.settled(data)
    await outside.kill(proxy)
    async with spawn_proxy(data, upstream.base_url) as again:
        assert await buyer.lost(again) == 0
    return buyer


async def test_an_fsync_that_fails_is_never_taken_for_one_that_did_not(
    proxy: RunningProxy, upstream: ScriptedUpstream, faults: FaultyDisk, data: Path
) -> None:
    """Of images, manifests, folders, storage or index: what was written goes into a fresh file."""
    buyer = await fail_every_fsync_once(proxy, upstream, faults, data, range(1, 8))
    assert len(buyer.had) + 2 * len(buyer.refused) >= 14
    assert {status for status, _ in buyer.refused} <= {503}
    assert {call["flags"] for call in outside.calls(data)} == {"[]"}


async def slow_down(
    proxy: RunningProxy, faults: FaultyDisk, data: Path, *, fsync_ms: int, calls: int
) -> float:
    """Let each fsync take its time; give how long, at the 90th percentile, others waited for two answers."""
    buyer, waits = Buyer(), []
    assert await buyer.buy(proxy, size_bytes=900_000)
    await outside.settled(data)
    (image,) = await outside.gallery(proxy)
    faults.switch(fsync_sleep_ms=fsync_ms)
    slow = [asyncio.ensure_future(buyer.buy(proxy)) for _ in range(calls)]
    while not all(call.done() for call in slow):
        begun = time.monotonic()
        assert (await proxy.request("GET", "/healthz", key=None))[0] == 200
        await outside.content(proxy, image)
        waits.append(time.monotonic() - begun)
        await asyncio.sleep(0.02)
    assert all(await asyncio.gather(*slow))
    faults.switch()
    assert await reason(proxy) is None
    return sorted(waits)[len(waits) * 9 // 10]


async def test_a_slow_disk_slows_nobody_else(proxy: RunningProxy, faults: FaultyDisk, data: Path) -> None:
    """While each fsync takes half a second, images and answers come at once, and paid calls are taken."""
    assert await slow_down(proxy, faults, data, fsync_ms=500, calls=8) <= 0.25


@asynccontextmanager
async def on_small_disk(
    path: Path, megabytes: int, upstream: ScriptedUpstream
) -> AsyncIterator[RunningProxy]:
    """Serve a proxy on a disk of its own."""
    upstream.default(draw)
    with small_disk(path, megabytes):
        async with spawn_proxy(path / "data", upstream.base_url) as running:
            yield running


async def test_a_disk_that_is_too_small_takes_no_money(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Sixty-four megabytes: the proxy starts, says why it takes no call, and calls nobody."""
    buyer = Buyer()
    async with on_small_disk(tmp_path / "disk", 64, upstream) as proxy:
        await asyncio.gather(*[buyer.buy(proxy) for _ in range(100)])
        assert await reason(proxy) == "storage_full"
    assert (set(buyer.refused), len(buyer.refused)) == ({(503, "storage_full")}, 100)
    assert upstream.requests == []


async def fill_at_random(
    disk: Path, megabytes: int, upstream: ScriptedUpstream, *, kills: int, instants: int, seed: int
) -> tuple[Buyer, float]:
    """Let others fill the disk to its last block while calls run, and give it back; every so often a kill comes first.

    A proxy that has only the memory to hold what it owes would lose it then. Gives the longest time that it took to be
    ready again.
    """
    dice, buyer, slowest_s = random.Random(seed), Buyer(), 0.0
    upstream.default(draw)

    async def call(proxy: RunningProxy) -> bool:
        return await buyer.buy(
            proxy,
            n=dice.randint(1, 2),
            size_bytes=dice.choice((3000, 700_000, 1_500_000)),
            stream=dice.random() < 0.4,
            wait_s=dice.random() * 0.2,
            take_s=0.3,
        )

    with small_disk(disk, megabytes):
        for _ in range(kills):
            async with spawn_proxy(disk / "data", upstream.base_url) as proxy:
                for left in reversed(range(instants)):
                    await eventually(lambda: outside.is_ready(proxy))
                    calls = [asyncio.ensure_future(call(proxy)) for _ in range(2)]
                    await asyncio.sleep(dice.random() * 0.7)
                    await asyncio.to_thread(fill, disk)
                    assert all(await asyncio.gather(*calls)), buyer.refused
                    if left == 0:
                        await outside.kill(proxy)
                    unfill(disk)
                    if left:
                        back = seconds(lambda: outside.is_ready(proxy), 15)
                        slowest_s = max(slowest_s, await back)
        async with spawn_proxy(disk / "data", upstream.base_url) as proxy:
            await outside.settled(disk / "data")
            assert await buyer.lost(proxy) == 0
        assert {call["flags"] for call in outside.calls(disk / "data")} == {"[]"}
    return buyer, slowest_s


async def test_a_disk_that_fills_up_under_running_calls_loses_no_image(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure
) -> None:
    """Clients get every byte, all of it is kept, and with room again the next call is served (R42, R43)."""
    buyer, back_s = await fill_at_random(tmp_path / "disk", 256, upstream, kills=2, instants=3, seed=42)
    assert back_s <= 10
    record_figure("R42", instants=6, images=len(buyer.had), violations=0, back_s=back_s, seed=42)


async def test_deleting_works_on_a_full_disk(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """SQLite alone would refuse it: the way out of a full disk must not need room on it (R43)."""
    buyer = Buyer()
    async with on_small_disk(tmp_path / "disk", 256, upstream) as proxy:
        await asyncio.gather(*[buyer.buy(proxy, size_bytes=100_000) for _ in range(4)])
        await outside.settled(tmp_path / "disk" / "data")
        await asyncio.to_thread(fill, tmp_path / "disk")
        await eventually(lambda: is_out(proxy))
        images = await outside.gallery(proxy)
        assert len(images) == 4
        for image in images:
            status, _, body = await proxy.request("DELETE", f"/v1/images/{image['id']}")
            assert status == 200, body
        assert await outside.gallery(proxy) == []
        states = list((tmp_path / "disk/data/storage/images").rglob("state.json"))
        assert len(states) == 4
        assert len(upstream.requests) == 4


async def test_a_storage_that_becomes_read_only_is_told(
    tmp_path: Path, data: Path, upstream: ScriptedUpstream
) -> None:
    """As the kernel does to a file system with errors. What had come by then waits in the spool."""
    upstream.default(draw)
    buyer, disk = Buyer(), tmp_path / "disk"
    with small_disk(disk, 256):
        async with spawn_proxy(data, upstream.base_url, storage={"path": str(disk)}) as proxy:
            assert await buyer.buy(proxy)
            late = asyncio.ensure_future(buyer.buy(proxy, wait_s=0.5))
            await upstream.wait_for_requests(2)
            await asyncio.to_thread(remount, disk, "ro")
            assert await seconds(lambda: is_out(proxy), 5) <= NOTICED_S
            assert not await buyer.buy(proxy)
            assert await late
            assert await buyer.lost(proxy) == 0
            await asyncio.to_thread(remount, disk, "rw")
            assert await seconds(lambda: outside.is_ready(proxy), 10) <= BACK_S
            assert await buyer.buy(proxy)
            await eventually(lambda: outside.is_settled(data), 3)
    assert len(upstream.requests) == 3


async def test_a_storage_that_is_unmounted_is_not_taken_for_empty(
    tmp_path: Path, data: Path, upstream: ScriptedUpstream
) -> None:
    """Nothing is bought, nothing is missing, nothing is written beneath the mount point; mounted again, all is well."""
    upstream.default(draw)
    buyer, place = Buyer(), tmp_path / "storage"
    with small_disk(tmp_path / "disk", 256):
        place.symlink_to(tmp_path / "disk", target_is_directory=True)
        async with spawn_proxy(data, upstream.base_url, storage={"path": str(place)}) as proxy:
            assert await buyer.buy(proxy)
            await eventually(lambda: outside.is_settled(data))
            (image,) = await outside.gallery(proxy)
            late = asyncio.ensure_future(buyer.buy(proxy, wait_s=0.5))
            await upstream.wait_for_requests(2)
            place.unlink()
            place.mkdir()
            assert await seconds(lambda: is_out(proxy), 5) <= NOTICED_S
            assert not await buyer.buy(proxy)
            status, _, body = await proxy.request("GET", f"/v1/images/{image['id']}/content")
            assert (status, orjson.loads(body)["error"]["code"]) == (503, "storage_unavailable")
            assert await late
            assert len(await outside.gallery(proxy)) == 2
            assert list(place.iterdir()) == []
            place.rmdir()
            place.symlink_to(tmp_path / "disk", target_is_directory=True)
            assert await seconds(lambda: outside.is_ready(proxy), 10) <= BACK_S
            await eventually(lambda: outside.is_settled(data), 2)
            assert await buyer.lost(proxy) == 0
    assert len(upstream.requests) == 2


async def test_a_data_directory_that_vanishes_is_noticed(
    proxy: RunningProxy, upstream: ScriptedUpstream, data: Path
) -> None:
    """Open files would go on as if nothing were wrong, into nothing."""
    buyer = Buyer()
    assert await buyer.buy(proxy)
    shutil.rmtree(data / "spool")
    assert await seconds(lambda: is_out(proxy), 5) <= NOTICED_S
    assert not await buyer.buy(proxy)
    assert len(upstream.requests) == 1


@pytest.mark.torture
@pytest.mark.parametrize("numbers", [range(at, at + 10) for at in range(1, 51, 10)], ids=str)
async def test_every_fsync_of_the_first_fifty_fails_once(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    faults: FaultyDisk,
    data: Path,
    record_figure: RecordFigure,
    numbers: range,
) -> None:
    """R10 in full."""
    buyer = await fail_every_fsync_once(proxy, upstream, faults, data, numbers)
    record_figure("R10", failed_fsyncs=len(numbers), images=len(buyer.had), violations=0)


@pytest.mark.torture
@pytest.mark.parametrize("part", range(10))
async def test_the_disk_fills_up_at_two_hundred_instants(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure, part: int
) -> None:
    """R42 in full, a tenth of it at a time."""
    seed = random.randrange(2**32)
    buyer, back_s = await fill_at_random(tmp_path / "disk", 512, upstream, kills=2, instants=10, seed=seed)
    assert back_s <= 10
    record_figure("R42", instants=20, images=len(buyer.had), violations=0, back_s=back_s, seed=seed)


@pytest.mark.torture
async def test_a_disk_with_fsyncs_of_two_seconds(
    proxy: RunningProxy, faults: FaultyDisk, data: Path, record_figure: RecordFigure
) -> None:
    """R45 in full."""
    p90_s = await slow_down(proxy, faults, data, fsync_ms=2000, calls=32)
    record_figure("R45", p90_s=p90_s, violations=int(p90_s > 0.25))
    assert p90_s <= 0.25
