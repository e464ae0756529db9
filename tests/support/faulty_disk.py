"""A disk that fails on demand: a library in front of the C library's, switched while the proxy runs."""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path

from tests.conftest import require

_FIELDS = ("fsync_at", "fsync_error", "fsync_sleep_ms", "write_error", "fsyncs")
_SOURCE = Path(__file__).with_name("faulty_disk.c")


def build_faults(folder: Path) -> Path:
    """Build the library, which takes a second."""
    library = folder / "faulty_disk.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall"]
    subprocess.run([require("gcc"), *options, "-o", library, _SOURCE, "-ldl"], check=True)
    return library


class FaultyDisk:
    """Faults of all that lies below `under`, for the process that is started with `prefix`."""

    def __init__(self, library: Path, tmp_path: Path, under: Path) -> None:
        """Make its switch, which is off."""
        path = tmp_path / "faulty_disk.control"
        path.write_bytes(bytes(4 * len(_FIELDS)))
        with path.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), 0)
        self.prefix = (
            require("env"),
            f"LD_PRELOAD={library}",
            f"PIXIE_FAULTY_CONTROL={path}",
            f"PIXIE_FAULTY_UNDER={under}",
        )

    def switch(
        self, *, fsync_at: int = 0, fsync_error: int = 0, fsync_sleep_ms: int = 0, write_error: int = 0
    ) -> None:
        """Fail from now on: the fsync of this number (-1: each), everything that writes, or only be slow."""
        struct.pack_into("5i", self._control, 0, fsync_at, fsync_error, fsync_sleep_ms, write_error, 0)

    @property
    def fsyncs(self) -> int:
        """Count the fsyncs since the last switch."""
        return int(struct.unpack_from("5i", self._control)[4])
