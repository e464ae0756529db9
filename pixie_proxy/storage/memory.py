"""Storage in a dictionary: as real as the others for everything but durability."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import MANIFEST, PAGE_FILES, PIECE_BYTES, ObjectMissing, StoredFile
from pixie_proxy.storage.probe import round_trip


class MemoryStorage:
    """Files by ref; gone with the process."""

    def __init__(self) -> None:
        """Start empty."""
        self.disk = None
        self.files: dict[str, bytes] = {}

    async def adopt(self, folder: str, ref: str) -> None:
        """Read the folder's files in, then remove it."""
        if f"{ref}/{MANIFEST}" not in self.files:
            try:
                found = await asyncio.to_thread(
                    lambda: {path.name: path.read_bytes() for path in Path(folder).iterdir()}
                )
            except OSError as exc:
                message = "The folder to take over can't be read."
                raise StorageUnavailable(message) from exc
            self.files.update({f"{ref}/{name}": data for name, data in found.items()})
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def size(self, ref: str) -> int:
        """Measure the bytes."""
        return len(self._get(ref))

    async def read(self, ref: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yield slices."""
        data = memoryview(self._get(ref))[start:stop]
        for at in range(0, len(data), PIECE_BYTES):
            yield bytes(data[at : at + PIECE_BYTES])

    async def walk(self, ref: str) -> AsyncIterator[list[StoredFile]]:
        """Sort the refs. When a file was written is not kept, so all are new."""
        now_us = time.time_ns() // 1000
        found = sorted((name, len(data)) for name, data in self.files.items() if name.startswith(f"{ref}/"))
        for at in range(0, len(found), PAGE_FILES):
            yield [
                StoredFile(ref=name, size_bytes=size_bytes, modified_us=now_us)
                for name, size_bytes in found[at : at + PAGE_FILES]
            ]

    async def put(self, ref: str, data: bytes) -> None:
        """Keep the bytes."""
        self.files[ref] = data

    async def delete(self, ref: str) -> None:
        """Forget the file, or all below the folder."""
        for name in [name for name in self.files if name == ref or name.startswith(f"{ref}/")]:
            del self.files[name]

    async def link(self, ref: str, expires_s: int) -> str | None:
        """Give none: files are read through us."""
        return None

    async def probe(self) -> str | None:
        """Take a small file there and back."""
        return await round_trip(self, self.put)

    async def close(self) -> None:
        """Hold nothing."""

    def _get(self, ref: str) -> bytes:
        try:
            return self.files[ref]
        except KeyError:
            raise ObjectMissing(ref) from None
