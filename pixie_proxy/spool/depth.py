"""How much lies in the spool, as an operator wants to know it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pixie_proxy.records import id_time_us
from pixie_proxy.spool.area import calls_in, processes_in


class Depth(NamedTuple):
    """The calls in the spool, how long ago the oldest of them was made, and the room that is left."""

    calls: int
    oldest_s: float
    free_bytes: int


def measure(root: Path) -> Depth:
    """Look through the folders of all processes on this host, dead ones too. Blocks. Raises OSError."""
    calls: list[str] = []
    for process in processes_in(root):
        with suppress(FileNotFoundError):  # gone meanwhile
            calls += [call.name for call in calls_in(process)]
    oldest_s = max(0.0, time.time() - id_time_us(min(calls)) / 1_000_000) if calls else 0.0
    disk = os.statvfs(root)
    return Depth(len(calls), oldest_s, disk.f_bavail * disk.f_frsize)
