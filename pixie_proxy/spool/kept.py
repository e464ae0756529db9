"""Read a kept image wherever it lies: in storage, or in the spool until storage has it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import aiofiles

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.spool.area import Spool
from pixie_proxy.storage import PIECE_BYTES, ObjectMissing, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """An image whose bytes can be read. `spooled` is where it waits while storage has not got it yet."""

    ref: str
    size_bytes: int
    spooled: Path | None


class KeptFiles:
    """The images that we have."""

    def __init__(self, storage: Storage, spool: Spool) -> None:
        """Look into both."""
        self._storage = storage
        self._spool = spool

    async def open(self, ref: str, size_bytes: int) -> KeptFile:
        """Find an image. Raises StorageUnavailable when it is not where it must be, or of another size."""
        found_bytes = await self._size(ref)
        if found_bytes is None:
            request_id, file = ref.rsplit("/", 2)[1:]
            path = self._spool.find(request_id, file)
            if path is not None:
                return KeptFile(ref=ref, size_bytes=size_bytes, spooled=path)
            found_bytes = await self._size(ref)  # it may have moved between the two looks
        if found_bytes is None:
            message = "The image's bytes are missing in storage. Please tell the admin."
            raise StorageUnavailable(message)
        if found_bytes != size_bytes:
            message = "The image in storage is damaged. Please tell the admin."
            raise StorageUnavailable(message)
        return KeptFile(ref=ref, size_bytes=size_bytes, spooled=None)

    async def read(self, file: KeptFile, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of `[start, stop)`."""
        if file.spooled is not None:
            try:
                async with aiofiles.open(file.spooled, "rb") as opened:
                    await opened.seek(start)
                    while start < stop and (piece := await opened.read(min(PIECE_BYTES, stop - start))):
                        start += len(piece)
                        yield piece
                return
            except FileNotFoundError:  # storage took it over after `open`
                pass
        async for piece in self._storage.read(file.ref, start, stop):
            yield piece

    async def _size(self, ref: str) -> int | None:
        try:
            return await self._storage.size(ref)
        except ObjectMissing:
            return None
