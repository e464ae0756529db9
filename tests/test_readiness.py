"""/readyz tells the truth while disk, index or bucket are in trouble, and `pixie doctor` names the cause (R100)."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.doctor.asking import has_models, run_doctor
from tests.support import outside
from tests.support.faulty_disk import FaultyDisk, build_faults
from tests.support.figures import RecordFigure
from tests.support.mounts import fill, remount, small_disk, unfill
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.s3_relay import Fault, S3Relay, always, calm
from tests.support.s3_servers import S3Server
from tests.support.sockets import free_port
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

pytestmark = pytest.mark.system

FLIPS_S, BACK_S = 5.0, 10.0


@dataclass(slots=True, kw_only=True)
class House:
    """A proxy in a process of its own, and all that can be broken under it."""

    proxy: RunningProxy
    faults: FaultyDisk | None = None
    relay: S3Relay | None = None
    disk: Path | None = None
    holders: list[sqlite3.Connection] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.proxy.data_dir


Act = Callable[[House], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """How it begins and ends, the reason that /readyz gives, and what the doctor says: which check, and what."""

    begins: Act
    ends: Act
    reason: str
    told: tuple[str, str]
    is_ready: bool = False


def failing(**how: int) -> tuple[Act, Act]:
    """Let a library in front of the C library's fail."""

    def begins(house: House) -> None:
        assert house.faults is not None
        house.faults.switch(**how)

    def ends(house: House) -> None:
        assert house.faults is not None
        house.faults.switch()

    return begins, ends


def away(name: str) -> tuple[Act, Act]:
    """Take a file or folder of the data directory away."""

    def begins(house: House) -> None:
        (house.data / name).rename(house.data.with_name("away"))

    def ends(house: House) -> None:
        house.data.with_name("away").rename(house.data / name)

    return begins, ends


def lock(house: House) -> None:
    holder = sqlite3.connect(house.data / "pixie.db", isolation_level=None, timeout=10)
    holder.execute("BEGIN EXCLUSIVE")
    house.holders.append(holder)


def unlock(house: House) -> None:
    house.holders.pop().close()


def on_disk(act: Callable[..., None], *args: Any) -> Act:
    def done(house: House) -> None:
        assert house.disk is not None
        act(house.disk, *args)

    return done


async def leave(house: House) -> None:
    assert house.relay is not None
    await house.relay.go_away()


async def come_back(house: House) -> None:
    assert house.relay is not None
    await house.relay.come_back()


def relayed(plan: Callable[..., Any]) -> Act:
    def done(house: House) -> None:
        assert house.relay is not None
        house.relay.plan = plan

    return done


def _trouble(acts: tuple[Act, Act], reason: str, told: tuple[str, str], **more: Any) -> Trouble:
    return Trouble(begins=acts[0], ends=acts[1], reason=reason, told=told, **more)


FAILING = {
    "read-only": _trouble(failing(write_error=errno.EROFS), "storage_unavailable", ("data", "(EROFS")),
    "forbidden": _trouble(failing(write_error=errno.EACCES), "storage_unavailable", ("data", "(EACCES")),
    "full": _trouble(failing(write_error=errno.ENOSPC), "storage_full", ("data", "is full")),
    "fails": _trouble(failing(write_error=errno.EIO), "storage_unavailable", ("data", "(EIO")),
    "fsync fails": _trouble(
        failing(fsync_at=-1, fsync_error=errno.EIO), "storage_unavailable", ("data", "(EIO")
    ),
}
GONE = {
    "locked index": _trouble((lock, unlock), "index_unavailable", ("index", "is locked by another program")),
    "spool gone": _trouble(away("spool"), "storage_unavailable", ("server", "(ENOENT)")),
    "index gone": _trouble(away("pixie.db"), "storage_unavailable", ("server", "(ENOENT)")),
    "storage gone": _trouble(away("storage"), "storage_unavailable", ("storage", "is not there")),
    "sentinel gone": _trouble(
        away("storage/.pixie"), "storage_unavailable", ("storage", "has no .pixie file")
    ),
}
MOUNTED = {
    "really full": Trouble(
        begins=on_disk(fill), ends=on_disk(unfill), reason="storage_full", told=("data", "full")
    ),
    "really read-only": Trouble(
        begins=on_disk(remount, "ro"),
        ends=on_disk(remount, "rw"),
        reason="storage_unavailable",
        told=("storage", "(EROFS"),
    ),
}
BUCKET = {
    "bucket away": Trouble(
        begins=leave,
        ends=come_back,
        reason="storage_unavailable",
        told=("storage", "nobody listens"),
        is_ready=True,
    ),
    "bucket silent": Trouble(
        begins=relayed(always(Fault(kind="stall", for_s=60))),
        ends=relayed(calm),
        reason="storage_unavailable",
        told=("storage", "does not answer in time"),
        is_ready=True,
    ),
    "bucket refuses": Trouble(
        begins=relayed(always(Fault(kind="error", status=403, code="AccessDenied"))),
        ends=relayed(calm),
        reason="storage_unavailable",
        told=("storage", "the access key may not do this"),
        is_ready=True,
    ),
}


async def state(proxy: RunningProxy) -> tuple[int, str | None]:
    """Ask /readyz; give its status, and why it is not ready, or not as it should be."""
    status, _, body = await proxy.request("GET", "/readyz", key=None)
    said = orjson.loads(body)
    degraded = said.get("degraded", [])
    return status, degraded[0]["reason"] if degraded else said.get("reason")


async def seconds(proxy: RunningProxy, wanted: tuple[int, str | None], limit_s: float) -> float:
    """Measure how long it takes until /readyz says so; the process has to answer all the while."""
    began_s = time.monotonic()

    async def is_told() -> bool:
        assert (await proxy.request("GET", "/healthz", key=None))[0] == 200
        return await state(proxy) == wanted

    await eventually(is_told, limit_s)
    return time.monotonic() - began_s


async def _done(act: Act, house: House) -> None:
    done = act(house)
    if isinstance(done, Awaitable):
        await done


async def go_through(house: House, trouble: Trouble, prefix: tuple[str, ...] = ()) -> dict[str, float]:
    """Let a trouble begin, be told, be named, and end; give how long it took to tell each."""
    proxy, config = house.proxy, house.data.with_name(f"{house.data.name}.yaml")
    assert await state(proxy) == (200, None)
    await _done(trouble.begins, house)
    wanted = (200 if trouble.is_ready else 503, trouble.reason)
    flips_s = await seconds(proxy, wanted, FLIPS_S)
    told = await run_doctor(config, prefix=prefix)
    check, text = trouble.told
    named = [line for line in told.faults if line.startswith(f"{check}: ") and text in line]
    assert named, told.findings
    assert told.code == 1
    await _done(trouble.ends, house)
    back_s = await seconds(proxy, (200, None), BACK_S)
    well = await run_doctor(config, prefix=prefix)
    assert (well.faults, well.code) == ([], 0)
    return {"flips_s": flips_s, "back_s": back_s, "doctor_s": told.took_s}


@asynccontextmanager
async def serving(data: Path, upstream: ScriptedUpstream, **more: Any) -> AsyncIterator[RunningProxy]:
    """Serve a proxy at a port that its settings name, for the doctor to ask it."""
    has_models(upstream)
    async with spawn_proxy(data, upstream.base_url, server={"port": free_port()}, **more) as proxy:
        yield proxy


def slow(names: dict[str, Trouble], *quick: str) -> list[Any]:
    """Give the names; but for some, `make torture` goes through them."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.torture) for name in names]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_faults(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("name", slow(FAILING, "read-only"))
async def test_a_disk_that_fails_is_told_and_named(
    tmp_path: Path, upstream: ScriptedUpstream, library: Path, record_figure: RecordFigure, name: str
) -> None:
    """Data directory, index and storage lie on it."""
    data = tmp_path / "data"
    faults = FaultyDisk(library, tmp_path, data)
    async with serving(data, upstream, prefix=faults.prefix) as proxy:
        took = await go_through(House(proxy=proxy, faults=faults), FAILING[name], faults.prefix)
    record_figure("R100", faults=1, violations=0, **took)


@pytest.mark.parametrize("name", slow(GONE, "locked index"))
async def test_what_is_gone_or_locked_is_told_and_named(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure, name: str
) -> None:
    """Reads would go on, and so would open files."""
    async with serving(tmp_path / "data", upstream) as proxy:
        took = await go_through(House(proxy=proxy), GONE[name])
    record_figure("R100", faults=1, violations=0, **took)


@pytest.mark.torture
@pytest.mark.parametrize("name", MOUNTED)
async def test_a_disk_of_its_own_that_fails_is_told_and_named(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure, name: str
) -> None:
    """As the kernel tells it."""
    with small_disk(tmp_path / "disk", 256) as disk:
        is_full = name == "really full"  # a disk can't become read-only under files that are open for writing
        data, storage = (disk / "data", None) if is_full else (tmp_path / "data", str(disk / "storage"))
        async with serving(data, upstream, storage={"path": storage}) as proxy:
            took = await go_through(House(proxy=proxy, disk=disk), MOUNTED[name])
            await outside.kill(proxy)
    record_figure("R100", faults=1, violations=0, **took)


@pytest.mark.xdist_group("ceph")
@pytest.mark.parametrize("name", slow(BUCKET, "bucket away"))
async def test_a_bucket_in_trouble_is_told_and_keeps_us_ready(
    tmp_path: Path, upstream: ScriptedUpstream, ceph: S3Server, record_figure: RecordFigure, name: str
) -> None:
    """Answers go on from the spool, so a load balancer must leave us in; who looks closer is told."""
    async with S3Relay(ceph.url) as relay:
        storage = {"kind": "s3", "s3": ceph.bucket(endpoint_url=relay.url)}
        async with serving(tmp_path / "data", upstream, storage=storage) as proxy:
            took = await go_through(House(proxy=proxy, relay=relay), BUCKET[name])
    record_figure("R100", faults=1, violations=0, **took)
