"""Ballast: room that is held while there is plenty, and given up piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixie_proxy.disk.ballast import INDEX_BYTES, MEGABYTE, Ballast

PLENTY = 10**12


@pytest.fixture
def ballast(tmp_path: Path) -> Iterator[Ballast]:
    made = Ballast(tmp_path)
    yield made
    made.close()


def allocated(ballast: Ballast) -> int:
    assert ballast._file is not None
    return os.fstat(ballast._file.fileno()).st_blocks * 512


def test_it_takes_real_room_and_follows_what_is_wanted(ballast: Ballast, tmp_path: Path) -> None:
    """Blocks, not a file with a hole; no name that a crash could leave; smaller only when it is twice too large."""
    for wanted, held in ((16, 16), (20, 20), (12, 20), (10, 10)):
        ballast.wanted_bytes = wanted * MEGABYTE
        ballast.adjust(PLENTY, PLENTY)
        assert ballast.size_bytes == held * MEGABYTE
        assert held * MEGABYTE <= allocated(ballast) <= (held + 1) * MEGABYTE
    assert list(tmp_path.iterdir()) == []
    ballast.close()
    assert ballast.size_bytes == 0


def test_it_takes_no_room_that_others_need(ballast: Ballast) -> None:
    """Only what is free beyond the floor, and a small part of a small disk."""
    ballast.wanted_bytes = 64 * MEGABYTE
    ballast.adjust(-5, PLENTY)
    assert ballast.size_bytes == 0
    ballast.adjust(7 * MEGABYTE, PLENTY)
    assert ballast.size_bytes == 7 * MEGABYTE
    ballast.adjust(PLENTY, 160 * MEGABYTE)
    assert ballast.size_bytes == 10 * MEGABYTE


def test_its_last_part_is_the_indexs(ballast: Ballast) -> None:
    """Images can't use up what deletions need on a full disk."""
    ballast.wanted_bytes = 10 * MEGABYTE
    ballast.adjust(PLENTY, PLENTY)
    assert [ballast.release() for _ in range(3)] == [True, True, False]
    assert ballast.size_bytes == allocated(ballast) == INDEX_BYTES
    released = 0
    while ballast.release(for_index=True):
        released += 1
    assert (released, ballast.size_bytes) == (4, 0)


def test_a_disk_that_can_not_hold_any_has_none(ballast: Ballast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full, or a file system that can't: no ballast is no fault."""

    def refuses(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuses)
    ballast.wanted_bytes = 8 * MEGABYTE
    ballast.adjust(PLENTY, PLENTY)
    assert (ballast.size_bytes, allocated(ballast), ballast.release()) == (0, 0, False)
