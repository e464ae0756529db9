"""The watch over a disk: what it finds, when it looks, and what it makes of what others tell it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pixie_proxy.disk import watch
from pixie_proxy.disk.watch import Disk
from pixie_proxy.errors import StorageFull, StorageUnavailable
from tests.support.waiting import eventually


@pytest.fixture
async def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Disk]:
    """Watch a folder with a mark in it, ten times as often as usual."""
    monkeypatch.setattr(watch, "EVERY_S", 0.05)
    monkeypatch.setattr(watch, "DISTRUST_S", 0.3)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mark").touch()
    made = Disk("test", tmp_path / "there", marks=[tmp_path / "there" / "mark"])
    watching = asyncio.ensure_future(made.run())
    await asyncio.sleep(0)
    await made.fresh()
    yield made
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@pytest.fixture
def fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note when an fsync was made."""
    seen: list[float] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(time.monotonic())

    monkeypatch.setattr(os, "fsync", noting)
    return seen


def is_out(disk: Disk) -> bool:
    try:
        disk.check()
    except (StorageFull, StorageUnavailable):
        return True
    return False


async def test_what_is_gone_is_noticed_and_back_when_it_is(disk: Disk, tmp_path: Path) -> None:
    """The folder, or only the file that says whose it is: then another one is in its place."""
    backs: list[str] = []
    disk.on_back.append(lambda: backs.append("back"))
    for gone in (tmp_path / "there" / "mark", tmp_path / "there"):
        gone.rename(tmp_path / "away")
        await eventually(lambda: is_out(disk), 1)
        with pytest.raises(StorageUnavailable, match="ENOENT") as refused:
            disk.check()
        assert str(tmp_path) not in refused.value.message
        (tmp_path / "away").rename(gone)
        await eventually(lambda: not is_out(disk), 1)
    assert backs == ["back", "back"]


async def test_an_idle_disk_is_not_written(
    disk: Disk, fsyncs: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may sleep; once somebody asks, it is written until nobody has asked for a while, and leaves nothing."""
    monkeypatch.setattr(watch, "_WRITES_FOR_S", 0.2)
    await asyncio.sleep(0.6)
    fsyncs.clear()
    await asyncio.sleep(0.3)
    assert fsyncs == []
    disk.check()
    await asyncio.sleep(0.5)
    assert 1 <= len(fsyncs) <= 6
    assert [path.name for path in disk.folder.iterdir()] == ["mark"]


async def test_a_fault_that_others_met_counts_at_once_and_for_a_while(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """An fsync that failed is told to one only: that our own works proves little. The log has it once, and its end."""
    await asyncio.to_thread(disk.suspect, OSError(errno.EIO, "lost"))
    await eventually(lambda: is_out(disk), 0.3)
    begun = time.monotonic()
    await asyncio.to_thread(disk.suspect, OSError(errno.EIO, "lost"))
    await eventually(lambda: not is_out(disk), 2)
    assert time.monotonic() - begun >= 0.25
    assert [(record.levelno, record.__dict__["reason"]) for record in caplog.records] == [
        (logging.CRITICAL, "EIO"),
        (logging.WARNING, "EIO"),
    ]


async def test_what_is_no_fault_of_the_disks_takes_nobody_out(disk: Disk) -> None:
    """A file that is in the way, for one: that is looked at, and found to be no fault."""
    disk.suspect(OSError(errno.ENOTDIR, "in the way"))
    for _ in range(20):
        assert not is_out(disk)
        await asyncio.sleep(0.01)


async def test_a_disk_that_does_not_answer_is_out_but_a_slow_one_is_not(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for news does not wait for it."""
    monkeypatch.setattr(watch, "HUNG_S", 0.4)
    fsync, go_on = os.fsync, threading.Event()

    def hangs(descriptor: int) -> None:
        assert go_on.wait(10)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", hangs)
    monkeypatch.setattr(disk, "_wrote_at", float("-inf"))
    disk.check()
    begun = time.monotonic()
    await disk.fresh()
    assert time.monotonic() - begun < 1
    await eventually(lambda: is_out(disk), 3)
    with pytest.raises(StorageUnavailable, match="ETIMEDOUT"):
        disk.check()
    go_on.set()
    await eventually(lambda: not is_out(disk), 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"f_flag": os.ST_RDONLY}, errno.EROFS),
        ({"f_bavail": 10}, errno.ENOSPC),
        ({"f_favail": 0}, errno.ENOSPC),
    ],
)
async def test_read_only_and_full_are_seen_without_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, int], reason: int
) -> None:
    """Also when there is room, but not for one more name."""
    statvfs: Callable[..., os.statvfs_result] = os.statvfs

    def changed(path: object) -> object:
        found = statvfs(path)
        fields = {name: getattr(found, name) for name in dir(found) if name.startswith("f_")}
        return type("Status", (), {**fields, "f_files": 10, "f_favail": 10, **change})()

    disk = Disk("test", tmp_path, least_bytes=1024 * 1024)
    assert disk.examine(writes=False) is None
    monkeypatch.setattr(os, "statvfs", changed)
    found = disk.examine(writes=False)
    assert found is not None
    assert found.errno == reason


async def test_two_that_watch_one_folder_do_not_meet(tmp_path: Path) -> None:
    """Processes of two containers may have the same id: neither takes the other's probe away."""
    watches = [Disk("test", tmp_path) for _ in range(2)]

    def examine(disk: Disk) -> list[OSError | None]:
        return [disk.examine(writes=True) for _ in range(50)]

    found = await asyncio.gather(*[asyncio.to_thread(examine, disk) for disk in watches])
    assert found == [[None] * 50] * 2
    assert list(tmp_path.iterdir()) == []
