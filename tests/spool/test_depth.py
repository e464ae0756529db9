"""How much lies in the spool: every process's calls, what grows and what goes included."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixie_proxy.errors import StorageFull
from pixie_proxy.records import new_id
from pixie_proxy.spool.area import ROOM_PER_IMAGE_BYTES, Spool
from pixie_proxy.spool.depth import DepthGauge
from pixie_proxy.storage import MANIFEST

GIGABYTE = 10**9


def a_folder(process: Path, size_bytes: int, *, is_sealed: bool = True) -> Path:
    """Leave a call in a process's folder; its image is all holes."""
    folder = process / new_id("req")
    folder.mkdir(parents=True)
    with (folder / "0.png").open("wb") as image:
        image.truncate(size_bytes)
    if is_sealed:
        (folder / MANIFEST).write_bytes(b"{}")
    return folder


def test_it_adds_up_what_all_processes_left(spool: Spool) -> None:
    """Dead or alive, sealed or not; uploads and locks are no calls."""
    a_folder(spool.folder, 1000)
    a_folder(spool.root / ("d" * 16), 500, is_sealed=False)
    (spool.uploads / "a").write_bytes(b"x" * 99)
    depth = DepthGauge(spool.root, spool).measure()
    assert (depth.calls, depth.size_bytes, spool.size_bytes) == (2, 1502, 1502)
    assert 0 <= depth.oldest_s < 5


def test_it_follows_what_comes_grows_and_goes(spool: Spool) -> None:
    """A call under way is looked into each time; one that is sealed only once, and no longer than it is there."""
    gauge = DepthGauge(spool.root, spool)
    growing, sealed = a_folder(spool.folder, 100, is_sealed=False), a_folder(spool.folder, 1000)
    assert gauge.measure().size_bytes == 1102
    (growing / "0.png").write_bytes(b"x" * 150)
    assert gauge.measure().size_bytes == 1152
    (growing / MANIFEST).write_bytes(b"{}")
    (sealed / "0.png").unlink()
    assert gauge.measure().size_bytes == 154
    sealed.rename(spool.folder / f".{sealed.name}")
    assert (gauge.measure().calls, gauge.measure().size_bytes) == (1, 152)


@pytest.mark.parametrize(
    ("filled_bytes", "running", "is_open"),
    [
        (0, 0, True),
        (799_999_997, 0, True),
        (799_999_998, 0, False),
        (100, (GIGABYTE - 102) // ROOM_PER_IMAGE_BYTES - 1, True),
        (100, (GIGABYTE - 102) // ROOM_PER_IMAGE_BYTES, False),
    ],
)  # fmt: skip
def test_admission_closes_at_four_fifths_and_where_running_calls_need_the_rest(
    spool: Spool, filled_bytes: int, running: int, is_open: bool
) -> None:
    """Both sides of both limits; without a cap nothing of it counts."""
    spool.take_room(running)
    if filled_bytes:
        a_folder(spool.folder, filled_bytes)
    DepthGauge(spool.root, spool).measure()
    spool.check_room(1)
    spool.max_bytes = GIGABYTE
    if is_open:
        spool.check_room(1)
    else:
        with pytest.raises(StorageFull, match="wait in the proxy's spool") as told:
            spool.check_room(1)
        assert told.value.headers == {"retry-after": "30"}
