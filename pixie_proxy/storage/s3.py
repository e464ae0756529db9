"""Images in a bucket: a request's files go up side by side, its manifest last, and then the spool's folder goes.

Nobody but us writes below a request's ref, and the spool's folder stays until the manifest is up. So a start that dies
half way is repeated from the folder: what was up already stays, if it is the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.media import MIMES
from pixie_proxy.storage import MANIFEST, ObjectMissing, StoredFile
from pixie_proxy.storage.bucket import PART_BYTES, Bucket, NotConditional, ObjectExists, OutsideRange
from pixie_proxy.storage.probe import round_trip

UPLOADS = 16
"""Objects that go up at once, as far as UPLOAD_BYTES allows: a server is mostly waited for."""
UPLOAD_BYTES = 4 * PART_BYTES
"""What they may hold in memory together."""
CLOSE_WAIT_S = 5.0
"""How long `close` waits for what is going up; the next start takes up the rest."""


class S3Storage:
    """Storage in a bucket. `redirects`: whether readers may be sent to the bucket itself."""

    def __init__(self, bucket: Bucket, *, redirects: bool = False) -> None:
        """Use a bucket that exists."""
        self.disk = None
        self._bucket = bucket
        self._redirects = redirects
        self._is_conditional = True
        """Whether the server knows conditional PUTs, as far as we have heard."""
        self._uploads = asyncio.Semaphore(UPLOADS)
        self._memory = _Memory(UPLOAD_BYTES)
        self._adopting: dict[str, asyncio.Task[None]] = {}

    async def adopt(self, folder: str, ref: str) -> None:
        """Upload the folder, its manifest last. A caller that is cancelled leaves it going on to its end."""
        task = self._adopting.get(ref)
        if task is None:
            task = self._adopting[ref] = asyncio.create_task(self._adopt(folder, ref), name=f"adopt {ref}")
            task.add_done_callback(lambda _: self._adopting.pop(ref))
        await asyncio.shield(task)

    async def size(self, ref: str) -> int:
        """Ask the server."""
        return (await self._bucket.head(ref)).size_bytes

    async def read(self, ref: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Pass the object's bytes on as they come."""
        if stop is not None and stop <= start:
            await self._bucket.head(ref)
            return
        try:
            async for piece in self._bucket.read(ref, start, stop):
                yield piece
        except OutsideRange:
            return

    def walk(self, ref: str) -> AsyncIterator[list[StoredFile]]:
        """List the bucket, which sorts its keys as refs are sorted."""
        return self._bucket.walk(ref)

    async def put(self, ref: str, data: bytes) -> None:
        """Write an object, which replaces the one before in one step."""
        await self._bucket.put(ref, data, attributes=_attributes(ref, hashlib.sha256(data).hexdigest()))

    async def delete(self, ref: str) -> None:
        """Delete the object and all below it: a manifest first, for without one a folder is none."""
        below = [file.ref async for page in self._bucket.walk(ref) for file in page]
        for key in sorted([ref, *below], key=lambda key: not key.endswith(f"/{MANIFEST}")):
            await self._bucket.delete(key)

    async def link(self, ref: str, expires_s: int) -> str | None:
        """Sign an address of the bucket's, if readers may be sent there."""
        return await self._bucket.presign(ref, expires_s) if self._redirects else None

    async def probe(self) -> str | None:
        """Take a small object there and back, created as those of `adopt` are."""
        return await round_trip(self, self._create)

    async def close(self) -> None:
        """Let what is going up come to its end, within bounds."""
        if running := set(self._adopting.values()):
            _, late = await asyncio.wait(running, timeout=CLOSE_WAIT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _create(self, ref: str, data: bytes) -> str | None:
        """Write a small object where there is none, and tell of a server that can't promise that."""
        try:
            attributes = _attributes(ref, hashlib.sha256(data).hexdigest())
            await self._bucket.put(ref, data, attributes=attributes, creates=True)
        except NotConditional:
            await self.put(ref, data)
            return "it knows no conditional PUT (501), so we look before we write"
        except ObjectExists:  # by an earlier try of ours, whose answer was lost
            pass
        return None

    async def _adopt(self, folder: str, ref: str) -> None:
        """Take a folder over; one that is gone, its manifest up, was taken over by a start that then died."""
        try:
            sizes = await asyncio.to_thread(_sizes, folder)
            if MANIFEST in sizes:
                await self._upload_all(folder, ref, sizes)
                await asyncio.to_thread(_remove, folder)
            elif not await self._has(f"{ref}/{MANIFEST}"):
                raise StorageUnavailable("The folder to take over is not there.")
        except OSError as exc:
            raise StorageUnavailable("The folder to take over can't be read.") from exc
        except ObjectMissing:
            raise StorageUnavailable("The S3 storage has lost what was going up.") from None

    async def _upload_all(self, folder: str, ref: str, sizes: dict[str, int]) -> None:
        """Upload every file, unless the manifest is there. What one PUT can tell by itself costs no question."""
        if self._is_conditional and max(sizes.values()) <= PART_BYTES:
            try:
                await self._upload_in_order(folder, ref, sizes, creates=True)
            except NotConditional:
                self._is_conditional = False
            else:
                return
        if not await self._has(f"{ref}/{MANIFEST}"):
            await self._upload_in_order(folder, ref, sizes, creates=False)

    async def _upload_in_order(self, folder: str, ref: str, sizes: dict[str, int], *, creates: bool) -> None:
        async def upload(name: str) -> None:
            await self._upload(Path(folder, name), f"{ref}/{name}", sizes[name], creates=creates)

        images = [upload(name) for name in sizes if name != MANIFEST]
        # All of them to their end: a part of a broken-off upload would lie in the bucket, unseen and paid for.
        for ended in await asyncio.gather(*images, return_exceptions=True):
            if ended is not None:
                raise ended
        await upload(MANIFEST)

    async def _upload(self, path: Path, key: str, size_bytes: int, *, creates: bool) -> None:
        is_large = size_bytes > PART_BYTES  # then obstore holds two parts of it
        async with self._uploads, self._memory.hold(2 * PART_BYTES if is_large else size_bytes):
            if is_large:
                sha256 = await asyncio.to_thread(_file_sha256, path)
                await self._bucket.put_large(key, path, attributes=_attributes(key, sha256))
                return
            data, sha256 = await asyncio.to_thread(_read, path)
            attributes = _attributes(key, sha256)
            try:
                await self._bucket.put(key, data, attributes=attributes, creates=creates)
            except ObjectExists:
                if not await self._may_stay(key, data):
                    await self._bucket.put(key, data, attributes=attributes)

    async def _may_stay(self, key: str, data: bytes) -> bool:
        """Tell whether an object that is there already is the file itself, or of a folder that is whole.

        It is read back: Ceph refuses a body that was altered on its way, and has then stored it all the same.
        """
        found = await self._bucket.head(key)
        there = b"".join([piece async for piece in self._bucket.read(key)])
        if there == data:
            return True
        folder, _, name = key.rpartition("/")
        if name == MANIFEST:
            return found.sha256 in {None, hashlib.sha256(there).hexdigest()}
        return await self._has(f"{folder}/{MANIFEST}")

    async def _has(self, key: str) -> bool:
        try:
            await self._bucket.head(key)
        except ObjectMissing:
            return False
        return True


class _Memory:
    """Bytes that uploads may hold together, given out in the order in which they are asked for."""

    def __init__(self, free_bytes: int) -> None:
        """Have all of it free."""
        self._free_bytes = free_bytes
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait until there are so many, which can't be more than there are in all, and take them."""
        async with self._turn:
            while self._free_bytes < size_bytes:
                self._freed.clear()
                await self._freed.wait()
            self._free_bytes -= size_bytes
        try:
            yield
        finally:
            self._free_bytes += size_bytes
            self._freed.set()


def _attributes(key: str, sha256: str) -> dict[str, str]:
    """Say what an object is: to browsers that are sent to the bucket, and to whoever checks it."""
    extension = key.rpartition(".")[2]
    mime = "application/json" if extension == "json" else MIMES.get(extension, "application/octet-stream")
    return {"Content-Type": mime, "Cache-Control": "private", "sha256": sha256}


def _sizes(folder: str) -> dict[str, int]:
    """Give the size of each file in a folder; none if the folder is not there. Raises OSError."""
    try:
        with os.scandir(folder) as found:
            return {entry.name: entry.stat().st_size for entry in found}
    except FileNotFoundError:
        return {}


def _read(path: Path) -> tuple[bytes, str]:
    data = path.read_bytes()
    return data, hashlib.sha256(data).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(folder: str) -> None:
    """Remove a folder at one stroke: half of it would look to the next start like a call that was cut."""
    path = Path(folder)
    shutil.rmtree(path.rename(path.with_name(f".{path.name}")), ignore_errors=True)
