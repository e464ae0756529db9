"""Ballast: room that we hold while there is plenty, to give it up when others have filled the disk under paid calls.

It is a file without a name: the kernel frees it with the process, so no crash leaves any behind, and a start on a full
disk has that room. It is one for all calls: a reservation in each call's own file would cost each call.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

MEGABYTE = 1024 * 1024

INDEX_BYTES = 4 * MEGABYTE
"""The last part is the index's: what is in the gallery can be deleted, and the ledger closed, on the fullest disk."""
MOST_BYTES = 512 * MEGABYTE
MOST_SHARE = 16
"""At most one part in so many of the whole file system: a small disk is for images, not for us."""
_STEP_BYTES = 4 * MEGABYTE
_INDEX_STEP_BYTES = MEGABYTE


class Ballast:
    """Room in the file system of a folder. `wanted_bytes` may change at any time; `adjust` follows."""

    def __init__(self, folder: Path) -> None:
        """Hold nothing yet."""
        self.folder = folder
        self.wanted_bytes = 0
        self.size_bytes = 0
        self._file: BinaryIO | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def adjust(self, free_bytes: int, total_bytes: int) -> None:
        """Hold what is wanted, of what is free beyond `free_bytes` at most. Costs a moment: not for the event loop."""
        wanted = min(self.wanted_bytes, MOST_BYTES, total_bytes // MOST_SHARE)
        with self._lock:
            if self._is_closed:
                return
            if self.size_bytes < wanted:
                self._resize(min(wanted, self.size_bytes + max(0, free_bytes)))
            elif self.size_bytes >= 2 * wanted:  # not for every call that ends
                self._resize(wanted)

    def release(self, *, for_index: bool = False) -> bool:
        """Give a piece back to the disk; False if there is none left. A write that met a full disk may then go on."""
        least, step = (0, _INDEX_STEP_BYTES) if for_index else (INDEX_BYTES, _STEP_BYTES)
        with self._lock:
            if self.size_bytes <= least:
                return False
            self._resize(max(least, self.size_bytes - step))
            return True

    def close(self) -> None:
        """Give it all back, and take no more."""
        with self._lock:
            self._is_closed = True
            if self._file is not None:
                self._file.close()
                self._file = None
            self.size_bytes = 0

    def _resize(self, size_bytes: int) -> None:
        """Grow or shrink the file. One that can't grow stays as it is: there is no room, or no such thing here."""
        if self._file is None:
            self._file = TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115 - lives as long as we do
        descriptor = self._file.fileno()
        if size_bytes > self.size_bytes:
            try:
                os.posix_fallocate(descriptor, self.size_bytes, size_bytes - self.size_bytes)
            except (AttributeError, OSError):  # macOS has none
                os.ftruncate(descriptor, self.size_bytes)
                return
        else:
            os.ftruncate(descriptor, size_bytes)
        self.size_bytes = size_bytes
