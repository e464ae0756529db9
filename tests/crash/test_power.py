"""A power cut takes no image whose last byte had left (R2, L7): real file systems, shut down without a log flush."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import get_args

import pytest

from tests.support import outside
from tests.support.powercut import Disk, FileSystem, disk
from tests.support.proxy import spawn_proxy
from tests.support.traffic import Traffic
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

Record = Callable[..., None]
CUTS_PER_DISK = 50
both = pytest.mark.parametrize("kind", get_args(FileSystem))


def is_intact(data_dir: Path) -> bool:
    return outside.rows(data_dir, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


@both
@pytest.mark.parametrize("cuts", [2, pytest.param(25, marks=pytest.mark.torture)])
async def test_a_power_cut_loses_nothing_that_a_client_got(
    tmp_path: Path, upstream: ScriptedUpstream, kind: FileSystem, cuts: int, record_figure: Record
) -> None:
    """The whole proxy under mixed load, cut at random instants; each start has every image, and a sound index."""
    traffic = Traffic(seed=cuts, pause_s=0.005)
    upstream.default(traffic.answer)
    with disk(tmp_path, kind) as power:
        data = power.path / "data"
        for _ in range(cuts):
            async with spawn_proxy(data, upstream.base_url) as proxy:
                await traffic.check(proxy, data)
                assert is_intact(data)
                clients = [asyncio.ensure_future(traffic.client(proxy)) for _ in range(6)]
                enough = len(traffic.received) + traffic.random.randint(5, 25)
                await eventually(lambda enough=enough: len(traffic.received) >= enough)  # type: ignore[misc]
                traffic.is_cut = True
                acknowledged = set(traffic.received), set(traffic.links)
                power.cut_power()
                await outside.kill(proxy)
                await asyncio.gather(*clients)
                traffic.is_cut = False
                traffic.received, traffic.links = acknowledged
            power.remount()
        async with spawn_proxy(data, upstream.base_url) as proxy:
            await traffic.check(proxy, data)
            assert is_intact(data)
            await outside.terminate(proxy)
        record_figure(
            "R2", file_system=kind, whole_proxy=True, cuts=cuts, images=len(traffic.received), lost=0
        )


@both
@pytest.mark.parametrize("cuts", [5, pytest.param(500, marks=pytest.mark.torture)])
async def test_hundreds_of_power_cuts_lose_nothing(
    tmp_path: Path, kind: FileSystem, cuts: int, record_figure: Record
) -> None:
    """Spool, index, storage and recovery alone, as fast as the disk allows; a new disk every fifty cuts."""
    images = 0
    for number in range(0, cuts, CUTS_PER_DISK):
        (tmp_path / str(number)).mkdir()
        with disk(tmp_path / str(number), kind) as power:
            async with lives_on(power, seed=number) as lives:
                for _ in range(min(cuts - number, CUTS_PER_DISK)):
                    await lives.one()
                lives.fresh = lives.said.keys()
                await lives.one()  # finds what the last cut took, and whether any later one took more
            images += sum(map(len, lives.said.values()))
    assert images >= 5 * cuts
    record_figure("R2", file_system=kind, whole_proxy=False, cuts=cuts, images=images, lost=0)


@asynccontextmanager
async def lives_on(power: Disk, seed: int) -> AsyncIterator[Lives]:
    """Start the keeper; nothing of it has the disk open when this ends."""
    keeper = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.keeper", str(power.path / "data"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield Lives(power, keeper, seed)
    finally:
        os.killpg(keeper.pid, signal.SIGKILL)
        await keeper.communicate()


class Lives:
    """The keeper's lives on one disk. `said` are the hashes of the images that it acknowledged, by request."""

    def __init__(self, power: Disk, keeper: asyncio.subprocess.Process, seed: int) -> None:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        self.said: dict[str, set[str]] = {}
        self.fresh: Collection[str] = ()
        """Requests whose bytes the next life compares: at first those of the life before it."""
        self._power = power
        self._data = power.path / "data"
        self._stdin, self._stdout = keeper.stdin, keeper.stdout
        self._random = Random(seed)

    async def one(self) -> None:
        """Recover, see that nothing is missing, make calls, and cut the power in the middle of them."""
        self._stdin.write(b"live\n")
        word, pid = (await self._line()).split()
        assert word == "ready"
        self._check()
        await asyncio.sleep(self._random.uniform(0.02, 0.3))
        self._power.cut_power()
        os.kill(int(pid), signal.SIGKILL)
        before = set(self.said)
        while (line := await self._line()) != "gone":
            request, sha256 = line.split()
            self.said.setdefault(request, set()).add(sha256)
        self.fresh = self.said.keys() - before
        self._power.remount()

    def _check(self) -> None:
        """Find every acknowledged image in the index, and its bytes in storage."""
        found: dict[str, set[str]] = {}
        if not (self._data / "pixie.db").exists():
            return
        for row in outside.rows(self._data, "SELECT request_id, ref, sha256 FROM images"):
            path = self._data / "storage" / row["ref"]
            if row["request_id"] in self.fresh:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"], row
            found.setdefault(row["request_id"], set()).add(row["sha256"])
        assert {
            request for request, hashes in self.said.items() if not hashes <= found.get(request, set())
        } == set()
        assert is_intact(self._data)

    async def _line(self) -> str:
        line = await asyncio.wait_for(self._stdout.readline(), 30)
        assert line
        return line.decode().strip()
