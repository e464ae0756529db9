"""How much lies in the spool: what an operator wants to know, and what may close admission."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pixie_proxy.records import id_time_us, is_id
from pixie_proxy.spool.area import Spool, processes_in
from pixie_proxy.storage import MANIFEST

EVERY_S = 1.0
"""How often a spool that has a cap is measured."""
WAITS_LONG_S = 3600
"""No call takes an hour: what is older waits for storage, or for a start."""
_LEAST_PAUSE = 20
"""How much longer than a measurement the pause behind it is: a very full spool must not cost the processor."""


class Depth(NamedTuple):
    """The calls in the spool, how long ago the oldest of them was made, their bytes, and the room that is left."""

    calls: int
    oldest_s: float
    size_bytes: int
    free_bytes: int


class DepthGauge:
    """Measures the folders of all processes on this host, dead ones too.

    A sealed folder does not change any more, so it is looked into once: 10,000 of them take 40 ms.
    """

    def __init__(self, root: Path, spool: Spool | None = None) -> None:
        """Measure the spool at `root`, and tell our own part of it."""
        self._root = root
        self._spool = spool
        self._sealed: dict[str, tuple[int, int]] = {}
        """Time of its last change, and bytes, of each sealed folder by its path."""
        self._lock = threading.Lock()

    def measure(self) -> Depth:
        """Look through it, and tell admission. Blocks. Raises OSError."""
        with self._lock:
            known, self._sealed = self._sealed, {}
            calls: list[str] = []
            size_bytes = 0
            for process in processes_in(self._root):
                with suppress(FileNotFoundError):  # gone meanwhile
                    for folder in _folders(process):
                        calls.append(folder.name)
                        size_bytes += self._call_bytes(folder, known.get(folder.path))
        if self._spool is not None:
            self._spool.size_bytes = size_bytes
        oldest_s = max(0.0, time.time() - id_time_us(min(calls)) / 1_000_000) if calls else 0.0
        disk = os.statvfs(self._root)
        return Depth(len(calls), oldest_s, size_bytes, disk.f_bavail * disk.f_frsize)

    async def watch(self) -> None:
        """Measure for as long as we live."""
        while True:
            began = time.monotonic()
            with suppress(OSError):  # the disk is away, and stops paid calls by itself
                await asyncio.to_thread(self.measure)
            await asyncio.sleep(max(EVERY_S, _LEAST_PAUSE * (time.monotonic() - began)))

    def _call_bytes(self, folder: os.DirEntry[str], known: tuple[int, int] | None) -> int:
        """Add up the files of a call; none if it goes home at this moment."""
        try:
            changed_ns = folder.stat().st_mtime_ns
            if known is None or known[0] != changed_ns:
                with os.scandir(folder) as found:
                    files = {entry.name: entry.stat().st_size for entry in found}
                known = (changed_ns, sum(files.values()))
                if MANIFEST not in files:
                    return known[1]
        except FileNotFoundError:
            return 0
        self._sealed[folder.path] = known
        return known[1]


def _folders(process: Path) -> list[os.DirEntry[str]]:
    with os.scandir(process) as found:
        return [entry for entry in found if is_id(entry.name, "req") and entry.is_dir()]
