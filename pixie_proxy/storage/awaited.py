"""A storage that was away at the start: before it has shown that it is the index's own, nothing is read or written.

A restart must not turn an outage of the bucket into one of the proxy: calls go on from the spool.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from pixie_proxy.disk.watch import Disk
from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import Storage, StoredFile, sentinel

log = logging.getLogger(__name__)


class AwaitedStorage:
    """The storage of that id, once it is there."""

    def __init__(self, storage: Storage, storage_id: str) -> None:
        """Wait for it: whoever asks it for something first looks at its id."""
        self.disk: Disk | None = storage.disk
        self._storage = storage
        self._id = storage_id
        self._is_known = self._is_told = False

    async def adopt(self, folder: str, ref: str) -> None:
        """Take a folder over, once it is known whose storage this is; the same below."""
        await self._know()
        await self._storage.adopt(folder, ref)

    async def size(self, ref: str) -> int:
        """Give the size of a file."""
        await self._know()
        return await self._storage.size(ref)

    async def read(self, ref: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of a file."""
        await self._know()
        async for piece in self._storage.read(ref, start, stop):
            yield piece

    async def walk(self, ref: str) -> AsyncIterator[list[StoredFile]]:
        """Yield the files of a folder."""
        await self._know()
        async for page in self._storage.walk(ref):
            yield page

    async def put(self, ref: str, data: bytes) -> None:
        """Write a small file."""
        await self._know()
        await self._storage.put(ref, data)

    async def delete(self, ref: str) -> None:
        """Delete a file or a folder."""
        await self._know()
        await self._storage.delete(ref)

    async def link(self, ref: str, expires_s: int) -> str | None:
        """Give an address."""
        await self._know()
        return await self._storage.link(ref, expires_s)

    async def probe(self) -> str | None:
        """Write, read back and delete a small file."""
        await self._know()
        return await self._storage.probe()

    async def close(self) -> None:
        """Release what is held."""
        await self._storage.close()

    async def _know(self) -> None:
        """See whose it is. Raises StorageUnavailable while it is away, or another's."""
        if self._is_known:
            return
        if await sentinel(self._storage) != self._id:
            if not self._is_told:
                log.critical("the storage that came back is another one than the index knows")
                self._is_told = True
            raise StorageUnavailable(
                "The storage is another one than the index knows. Please tell the admin."
            )
        self._is_known = True
