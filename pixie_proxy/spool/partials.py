"""The partial images of streams, kept for a while so that a retry sees every event that the first client saw.

    <data_dir>/spool/partials/<request id>/<slot>

They are no images of the call: never fsynced, never listed, and a replay does without them once they are gone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncGenerator, Collection, Iterable
from pathlib import Path

import aiofiles

from pixie_proxy.disk import write_all
from pixie_proxy.storage import PIECE_BYTES

KEEP_S = 30 * 60.0
"""How long a call's last partial image is kept: 15 minutes after the call's end, which comes within 15 of it."""

MOST_BYTES = 512 * 1024 * 1024
"""How much disk they may take together; what comes on top of that is not kept."""

_SWEEP_S = 60.0


class Partials:
    """The folder of them, which all processes share."""

    def __init__(self, root: Path) -> None:
        """Keep them in `root`, made when it is needed."""
        self._root = root
        self._size_bytes = 0

    def keep(
        self, request_id: str, slot: int, rest: Iterable[bytes], part: Path | None, size_bytes: int
    ) -> None:
        """Keep one: what was written to the file `part`, if anything was, and the rest. Raises OSError. Blocks."""
        if self._size_bytes + size_bytes > MOST_BYTES:
            if part is not None:
                part.unlink()
            return
        folder = self._root / request_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = folder / str(slot)
        descriptor = os.open(part or target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for data in rest:
                write_all(descriptor, data)
        finally:
            os.close(descriptor)
        if part is not None:
            part.rename(target)
        self._size_bytes += size_bytes

    async def has(self, request_id: str, slots: Iterable[int]) -> bool:
        """Whether all of these are there."""
        folder = self._root / request_id
        return await asyncio.to_thread(lambda: all((folder / str(slot)).is_file() for slot in slots))

    async def read(self, request_id: str, slot: int) -> AsyncGenerator[bytes, None]:
        """Yield one piece by piece. Raises FileNotFoundError."""
        async with aiofiles.open(self._root / request_id / str(slot), "rb") as file:
            while piece := await file.read(PIECE_BYTES):
                yield piece

    def forget(self, request_ids: Collection[str]) -> None:
        """Delete those of calls, whatever their age. Blocks."""
        for folder in self._root.iterdir() if self._root.is_dir() else ():
            if folder.name in request_ids:
                shutil.rmtree(folder, ignore_errors=True)

    async def run(self) -> None:
        """Sweep what is old, for as long as we live."""
        while True:
            await asyncio.to_thread(self.sweep)
            await asyncio.sleep(_SWEEP_S)

    def sweep(self) -> None:
        """Delete what is old, and see how much is left. Blocks."""
        oldest, left_bytes = time.time() - KEEP_S, 0
        for folder in self._root.iterdir() if self._root.is_dir() else ():
            try:
                if folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    left_bytes += sum(file.stat().st_size for file in folder.iterdir())
            except FileNotFoundError:  # another process sweeps as well
                continue
        self._size_bytes = left_bytes
