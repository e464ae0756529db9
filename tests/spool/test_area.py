"""The spool's folders: whose they are, and when there is room in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixie_proxy.errors import StorageFull
from pixie_proxy.records import new_id
from pixie_proxy.spool import area
from pixie_proxy.spool.area import Spool, calls_in
from tests.spool.conftest import OpenSpool, die


def a_call_in(spool: Spool) -> Path:
    folder = spool.folder / new_id("req")
    folder.mkdir()
    (folder / "0.png").write_bytes(b"x")
    return folder


def dead(spool: Spool) -> list[Path]:
    with spool.dead_processes() as folders:
        return list(folders)


def test_a_live_process_is_never_recovered(open_spool: OpenSpool) -> None:
    """Its lock says that it lives, and its own folder is nobody's to recover."""
    first, second = open_spool(), open_spool()
    assert first.process != second.process
    assert dead(first) == dead(second) == []


def test_a_dead_process_is_recovered_by_one(open_spool: OpenSpool) -> None:
    """The kernel frees its lock; of two starts, one gets it."""
    died, first, second = open_spool(), open_spool(), open_spool()
    die(died)
    with first.dead_processes() as folders:
        assert folders == [died.folder]
        assert dead(second) == []
    assert dead(second) == [died.folder]


def test_a_folder_has_its_name_only_when_it_is_locked(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start at the very moment of another one's must not take it for dead."""
    watching = open_spool()
    seen: list[list[Path]] = []
    take_lock = area._take_lock

    def looking(path: Path) -> int:
        if path.parent.name.startswith("."):
            seen.append(dead(watching))
            descriptor = take_lock(path)
            seen.append(dead(watching))
            return descriptor
        return take_lock(path)

    monkeypatch.setattr(area, "_take_lock", looking)
    open_spool()
    assert seen == [[], []]
    assert dead(watching) == []


def test_a_process_leaves_nothing_behind(open_spool: OpenSpool, tmp_path: Path) -> None:
    """Neither its folder nor its uploads."""
    spool = open_spool()
    (spool.uploads / "req").mkdir()
    spool.close()
    assert [path for path in (tmp_path / "spool").rglob("*") if path.name != area.UPLOADS] == []


@pytest.mark.parametrize("has_call", [True, False])
def test_what_has_not_ended_is_left_for_the_next_start(open_spool: OpenSpool, has_call: bool) -> None:
    """A call's folder, or only the knowledge that a row is open: the folder of the process stays, without its lock."""
    spool, other = open_spool(), open_spool()
    if has_call:
        a_call_in(spool)
    spool.close(keeps_folder=not has_call)
    assert dead(other) == [spool.folder]


def test_forget_removes_what_holds_no_call(open_spool: OpenSpool) -> None:
    """A call that could not be recovered stays where it is; uploads never do."""
    empty, full, spool = open_spool(), open_spool(), open_spool()
    call = a_call_in(full)
    for gone in (empty, full):
        (gone.uploads / "req").mkdir()
        die(gone)
        spool.forget(gone.folder)
        assert not gone.uploads.exists()
    assert not empty.folder.exists()
    assert calls_in(full.folder) == [call]


def test_calls_are_listed_oldest_first(spool: Spool) -> None:
    """And nothing else that may lie there."""
    calls = [a_call_in(spool) for _ in range(3)]
    (spool.folder / "req_x").mkdir()
    (spool.folder / new_id("req")).write_text("a file")
    (spool.folder / new_id("img")).mkdir()
    assert calls_in(spool.folder) == sorted(calls)


def test_an_image_is_found_in_the_folder_of_any_process(open_spool: OpenSpool) -> None:
    """Also of one that died: until storage has it, this is where it is read."""
    died, spool = open_spool(), open_spool()
    ours, theirs = a_call_in(spool), a_call_in(died)
    die(died)
    assert spool.find(ours.name, "0.png") == ours / "0.png"
    assert spool.find(theirs.name, "0.png") == theirs / "0.png"
    assert spool.find(ours.name, "1.png") is None


def test_room_is_set_aside_before_money_is_spent(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is under way counts, and comes back."""
    spool = open_spool()
    free = area.ROOM_FLOOR_BYTES + 10 * area.ROOM_PER_IMAGE_BYTES
    monkeypatch.setattr(area, "_free_bytes", lambda _: free)
    spool.take_room(6)
    spool.check_room(4)
    with pytest.raises(StorageFull) as refused:
        spool.take_room(5)
    assert refused.value.headers["retry-after"] == "30"
    spool.give_room(6)
    spool.take_room(10)


def test_the_spool_must_be_writable(tmp_path: Path, spool: Spool) -> None:
    """A file in its way is told as the OSError that it is."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Spool(tmp_path / "file", spool._writers).open()


def test_folders_are_durable_before_the_first_call(
    open_spool: OpenSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is as durable as the least durable name above it."""
    synced: list[Path] = []
    monkeypatch.setattr(area, "fsync_directory", lambda path: synced.append(Path(path)))
    open_spool()
    assert synced == [tmp_path / "spool", tmp_path]
