"""The storage folder: what must be on disk before anything is called durable."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pixie_proxy import disk
from pixie_proxy.disk import SharedSync
from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import MANIFEST, SENTINEL, ObjectMissing
from pixie_proxy.storage.local import LocalStorage
from tests.storage.folders import FILES, a_folder, content, files_of

Journal = list[tuple[str, str]]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Write down every fsync, rename and removal, with paths below `tmp_path`."""
    seen: Journal = []
    fsync, rename, mkdir, rmtree = os.fsync, os.rename, os.mkdir, shutil.rmtree

    def note(what: str, path: object) -> None:
        seen.append((what, os.path.relpath(str(path), tmp_path)))

    def noting_fsync(descriptor: int) -> None:
        fsync(descriptor)
        note("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())

    def noting_rename(source: str, target: str, **options: int) -> None:
        rename(source, target, **options)
        note("rename", target)

    def noting_mkdir(path: str, mode: int = 0o777, **options: int) -> None:
        mkdir(path, mode, **options)
        note("mkdir", path)

    def noting_rmtree(path: str, ignore_errors: bool = False, **options: object) -> None:
        rmtree(path, ignore_errors)
        note("rmtree", path)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "rename", noting_rename)
    monkeypatch.setattr(os, "mkdir", noting_mkdir)
    monkeypatch.setattr(shutil, "rmtree", noting_rmtree)
    return seen


@pytest.fixture
def other_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Give a switch after which the spool lies on another device than the storage."""

    def switch() -> None:
        rename = os.rename

        def refusing(source: str, target: str, **options: int) -> None:
            if str(source).startswith(str(tmp_path / "spool")):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source)
            rename(source, target, **options)

        monkeypatch.setattr(os, "rename", refusing)

    return switch


def unsynced(journal: Journal) -> set[str]:
    """Give the directories that gained an entry and were not fsynced after it."""
    open_ones: set[str] = set()
    for what, path in journal:
        if what in {"rename", "mkdir"}:
            open_ones.add(str(Path(path).parent))
        elif what == "fsync":
            open_ones.discard(path)
    return open_ones


async def test_every_directory_that_gains_an_entry_is_fsynced(
    local: LocalStorage, tmp_path: Path, journal: Journal
) -> None:
    """From the storage's root down to the day; the second image of the day costs one fsync."""
    (first, ref), (second, other) = a_folder(tmp_path), a_folder(tmp_path)
    journal.clear()
    await local.adopt(str(first), ref)
    day = str(Path(f"storage/{ref}").parent)
    made = [path for what, path in journal if what == "mkdir"]
    assert made == ["storage/images", *["/".join(day.split("/")[:depth]) for depth in (3, 4, 5)]]
    assert unsynced(journal) == set()
    journal.clear()
    await local.adopt(str(second), other)
    assert journal == [("rename", f"storage/{other}"), ("fsync", day)]


async def test_directories_that_are_there_are_not_taken_for_durable(
    local: LocalStorage, tmp_path: Path, journal: Journal
) -> None:
    """Their maker, another thread or a process that died, may not have come to its fsync."""
    folder, ref = a_folder(tmp_path)
    day = Path(f"storage/{ref}").parent
    (tmp_path / day).mkdir(parents=True)
    journal.clear()
    await local.adopt(str(folder), ref)
    fsynced = {path for what, path in journal if what == "fsync"}
    assert fsynced == {str(day), *map(str, list(day.parents)[:-1])}


async def test_put_is_durable(local: LocalStorage, tmp_path: Path, journal: Journal) -> None:
    """The new file first, then its name."""
    await local.put(SENTINEL, b"id")
    await local.put("a/b", b"x")
    fsynced = [re.sub(r"\.\w{8}\.part$", ".part", path) for what, path in journal if what == "fsync"]
    assert fsynced == ["storage/..pixie.part", "storage", "storage", "storage/a/.b.part", "storage/a"]
    assert sorted(path.name for path in (tmp_path / "storage").rglob("*")) == [SENTINEL, "a", "b"]


async def test_two_may_put_the_same_file_at_once(local: LocalStorage, tmp_path: Path) -> None:
    """One of them wins, whole; neither finds the other's half-written file under its hands."""
    texts = [bytes([65 + at]) * 200_000 for at in range(8)]
    await asyncio.gather(*[local.put("a/state", text) for text in texts])
    assert await content(local, "a/state") in texts
    assert [path.name for path in (tmp_path / "storage" / "a").iterdir()] == ["state"]


async def test_a_deletion_is_durable(local: LocalStorage, tmp_path: Path, journal: Journal) -> None:
    """A power cut must not bring back what its owner was told is gone: file or folder."""
    folder, ref = a_folder(tmp_path)
    await local.adopt(str(folder), ref)
    for gone in (f"{ref}/0.png", ref):
        journal.clear()
        await local.delete(gone)
        assert journal[-1] == ("fsync", str(Path(f"storage/{gone}").parent))
        await local.delete(gone)
    with pytest.raises(ObjectMissing):
        await local.size(f"{ref}/{MANIFEST}")


async def test_nothing_is_written_or_deleted_where_nothing_is_mounted(
    local: LocalStorage, tmp_path: Path
) -> None:
    """What went into the empty folder would be out of sight afterwards, and what is deleted there still exists."""
    (folder, ref), (second, other) = a_folder(tmp_path), a_folder(tmp_path)
    await local.adopt(str(folder), ref)
    (tmp_path / "storage").rename(tmp_path / "unmounted")
    (tmp_path / "storage").mkdir()
    for work in (local.adopt(str(second), other), local.put(f"{ref}/state.json", b"{}"), local.delete(ref)):
        with pytest.raises(StorageUnavailable, match="ENOENT"):
            await work
    assert list((tmp_path / "storage").iterdir()) == []
    (tmp_path / "storage").rmdir()
    (tmp_path / "unmounted").rename(tmp_path / "storage")
    await local.adopt(str(second), other)
    assert await files_of(local, ref) == await files_of(local, other) == FILES


@pytest.mark.usefixtures("other_device")
async def test_another_device_gets_a_copy(
    local: LocalStorage, tmp_path: Path, other_device: Callable[[], None]
) -> None:
    """A rename can't cross devices: the same files, and the spool's are gone."""
    folder, ref = a_folder(tmp_path)
    other_device()
    await local.adopt(str(folder), ref)
    assert await files_of(local, ref) == FILES
    assert not folder.exists()
    assert list((tmp_path / "storage" / ".incoming").iterdir()) == []


async def test_the_copy_is_durable_before_the_spools_is_removed(
    local: LocalStorage, tmp_path: Path, other_device: Callable[[], None], journal: Journal
) -> None:
    """Files, their folder, its name; a power cut in between must find one of the two."""
    folder, ref = a_folder(tmp_path)
    other_device()
    journal.clear()
    await local.adopt(str(folder), ref)
    incoming = f"storage/.incoming/{folder.name}"
    steps = [step for step in journal if step[0] != "mkdir"]
    renamed = steps.index(("rename", f"storage/{ref}"))
    removed = steps.index(("rmtree", f"spool/{folder.name}"))
    before = {path for what, path in steps[:renamed] if what == "fsync"}
    assert {incoming, *[f"{incoming}/{name}" for name in FILES]} <= before
    assert ("fsync", str(Path(f"storage/{ref}").parent)) in steps[renamed:removed]


async def test_a_copy_that_was_cut_off_is_made_anew(
    local: LocalStorage, tmp_path: Path, other_device: Callable[[], None]
) -> None:
    """What an earlier start left under `.incoming` counts for nothing."""
    folder, ref = a_folder(tmp_path)
    half = tmp_path / "storage" / ".incoming" / folder.name
    half.mkdir(parents=True)
    (half / "0.png").write_bytes(b"half")
    (half / "9.png").write_bytes(b"?")
    other_device()
    await local.adopt(str(folder), ref)
    assert await files_of(local, ref) == FILES
    assert not (tmp_path / "storage" / ref / "9.png").exists()


async def test_a_storage_that_can_not_be_written_says_so(local: LocalStorage, tmp_path: Path) -> None:
    """The spool keeps the images; when the fault is mended, the same call succeeds."""
    folder, ref = a_folder(tmp_path)
    (tmp_path / "storage" / "images").write_text("in the way")
    with pytest.raises(StorageUnavailable, match="ENOTDIR"):
        await local.adopt(str(folder), ref)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    (tmp_path / "storage" / "images").unlink()
    await local.adopt(str(folder), ref)
    assert await files_of(local, ref) == FILES


async def test_a_file_that_can_not_be_read_is_not_missing(local: LocalStorage, tmp_path: Path) -> None:
    """A fault of the disk must not look like an image that never was."""
    loop = tmp_path / "storage" / "loop"
    loop.symlink_to(loop)
    with pytest.raises(StorageUnavailable, match="ELOOP"):
        await local.size("loop")
    reading = local.read("loop")
    with pytest.raises(StorageUnavailable, match="ELOOP"):
        await anext(reading)


async def test_what_is_written_is_for_the_owner_only(local: LocalStorage, tmp_path: Path) -> None:
    """Prompts and pictures are nobody else's on this host."""
    await local.put("a/b", b"x")
    assert (tmp_path / "storage/a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "storage/a/b").stat().st_mode & 0o777 == 0o600


def test_those_who_wait_together_share_an_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that began after each had asked: the first pays alone, all others together."""
    started, go_on = threading.Event(), threading.Event()
    calls: list[str] = []

    def slow(path: str) -> None:
        calls.append(path)
        started.set()
        assert go_on.wait(10)

    monkeypatch.setattr(disk, "fsync_directory", slow)
    sync = SharedSync()
    threads = [threading.Thread(target=sync, args=(str(tmp_path),)) for _ in range(6)]
    threads[0].start()
    assert started.wait(10)
    for thread in threads[1:]:
        thread.start()
    while sync._directories[str(tmp_path)].asked < 6:
        pass
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(calls) == 2


def test_a_failed_fsync_fails_for_all_who_waited_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports a lost write once; asking again would tell the others that all is well."""
    calls: list[str] = []
    outcomes: list[str] = []

    def failing_once(path: str) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise OSError(errno.EIO, "lost")

    def ask() -> None:
        try:
            sync(path)
        except OSError:
            outcomes.append("failed")
        else:
            outcomes.append("durable")

    monkeypatch.setattr(disk, "fsync_directory", failing_once)
    sync, path = SharedSync(), str(tmp_path)
    turns = sync._directories.setdefault(path, disk._Turns())
    waiting = [threading.Thread(target=ask) for _ in range(3)]
    with turns.syncing:
        for thread in waiting:
            thread.start()
        while turns.asked < 3:
            pass
    for thread in waiting:
        thread.join(10)
    ask()
    assert outcomes == ["failed"] * 3 + ["durable"]
    assert len(calls) == 2


@pytest.mark.parametrize("is_other_device", [False, True])
async def test_an_fsync_that_failed_is_not_made_good_by_a_later_one(
    local: LocalStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    journal: Journal,
    is_other_device: bool,
) -> None:
    """Whichever of them fails: the next try makes anew what it was to make durable, and then all is there."""
    if is_other_device:
        request.getfixturevalue("other_device")()
    fsync, seen, failing = os.fsync, 0, 0

    def failing_at(descriptor: int) -> None:
        nonlocal seen
        seen += 1
        if seen == failing:
            raise OSError(errno.EIO, "lost")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing_at)
    for number in range(1, 20):
        failing = number
        folder, ref = a_folder(tmp_path)
        shutil.rmtree(tmp_path / "storage" / "images", ignore_errors=True)
        local._durable.clear()
        seen = 0
        try:
            await local.adopt(str(folder), ref)
        except StorageUnavailable:
            assert {path.name for path in folder.iterdir()} == set(FILES), "the spool keeps it until then"
            assert not (tmp_path / "storage" / ref).exists()
            journal.clear()
            await local.adopt(str(folder), ref)
            assert unsynced(journal) <= {"storage/.incoming"}
            assert ("rename", f"storage/{ref}") in journal
        else:
            break
        assert await files_of(local, ref) == FILES
    assert failing == (11 if is_other_device else 6)
