"""What the disk alone allows: the writes and fsyncs that keeping one call takes at the least, and nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

_MANIFEST_BYTES = 1200


def calls_per_s(parent: Path, *, threads: int, image_bytes: int, seconds: float) -> float:
    """Keep calls in that many threads: an image, its manifest and their folder, which is then moved to its place."""
    root = Path(tempfile.mkdtemp(dir=parent))
    (root / "kept").mkdir()
    image = os.urandom(image_bytes)
    deadline = time.perf_counter() + seconds
    counts = [0] * threads

    def keep(thread: int) -> None:
        while time.perf_counter() < deadline:
            name = f"{thread}-{counts[thread]}"
            folder = root / name
            folder.mkdir()
            _write(folder / "0.png", image)
            _write(folder / "request.json", image[:_MANIFEST_BYTES])
            _fsync(folder)
            folder.rename(root / "kept" / name)
            _fsync(root / "kept")
            counts[thread] += 1

    started = time.perf_counter()
    running = [threading.Thread(target=keep, args=(number,)) for number in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    took_s = time.perf_counter() - started
    shutil.rmtree(root)
    return round(sum(counts) / took_s, 1)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
