"""Thumbnails: made once by a worker process and kept in the data directory; they can always be made again.

    <data_dir>/thumbnails/<2 last characters of the id>/<image id>-<size>.webp
                                                        <image id>.died     why its worker died

The first look at an image also tells the index what it is: its placeholder, whether it moves, or that it can't be
decoded, and then it is never tried again. After a worker's death that was not its fault, it is, some minutes later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

from pixie_proxy.errors import ProxyError, StorageUnavailable
from pixie_proxy.gallery.library import Library
from pixie_proxy.gallery.thumbnail_worker import Thumbnail
from pixie_proxy.gallery.workers import Unthumbable, WorkerDied, Workers
from pixie_proxy.index import Index, looks
from pixie_proxy.media import sniff
from pixie_proxy.records import ImageRecord
from pixie_proxy.storage import ObjectMissing
from pixie_proxy.tasks import TaskKeeper

log = logging.getLogger(__name__)

MIMES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""What is made smaller. An SVG is small at any size, and is never drawn by us."""

ANSWER_WAIT_S = 20.0
"""How long a client waits for a thumbnail that is being made, or that waits for its turn."""

AGAIN_AFTER_S = 600.0
"""When an image is tried again whose worker died."""

_MOST_UNASKED = 32
"""How many looks wait at once that only an image's placeholder is for."""


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no thumbnail: the image is none that can be made smaller, it failed, or it is not made yet."""

    reason: Literal["unsupported", "failed", "pending"]


class Thumbnails:
    """The cache of thumbnails."""

    def __init__(self, folder: Path, index: Index, library: Library, tasks: TaskKeeper) -> None:
        """Keep them in `folder`; each is made in a task of `tasks`, whoever waits for it."""
        self._folder = folder
        self._index = index
        self._library = library
        self._tasks = tasks
        self._workers = Workers()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._running: dict[tuple[str, int], asyncio.Task[bytes | Missing | ProxyError]] = {}

    async def get(self, record: ImageRecord, size_px: int) -> bytes | Missing:
        """Give the thumbnail of an image as WebP, made now if need be. Raises StorageUnavailable."""
        if record.mime not in MIMES:
            return Missing("unsupported")
        if record.is_undecodable:
            return Missing("failed")
        found = await asyncio.to_thread(self._cached, record.id, size_px)
        if found is not None:
            if not record.is_looked_at and len(self._running) < _MOST_UNASKED:
                _ = self._start(record, size_px)  # it is of a time, or an index, that knew no placeholders
            return found
        task = self._start(record, size_px)
        await asyncio.wait({task}, timeout=ANSWER_WAIT_S)
        made = await task if task.done() else Missing("pending")
        if isinstance(made, ProxyError):
            raise made
        return made

    async def close(self) -> None:
        """End the workers."""
        await self._workers.close()

    def _start(self, record: ImageRecord, size_px: int) -> asyncio.Task[bytes | Missing | ProxyError]:
        """Have it made, if it is not already being made."""
        key = (record.id, size_px)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = self._tasks.run(self._make(record, size_px), "thumbnail")
            task.add_done_callback(lambda _: self._running.pop(key))
        return task

    async def _make(self, record: ImageRecord, size_px: int) -> bytes | Missing | ProxyError:
        async with self._locks.setdefault(record.id, asyncio.Lock()):
            try:
                now = await self._library.look_up(record.id)
                if now is None or now.is_undecodable or await asyncio.to_thread(self._rests, record.id):
                    return Missing("failed")
                return await self._make_now(now, size_px)
            except ProxyError as exc:
                return exc

    async def _make_now(self, record: ImageRecord, size_px: int) -> bytes | Missing:
        """Have it made, and keep it. Raises ProxyError while storage or index is away."""
        try:
            made = await self._ask(record, size_px)
        except WorkerDied as exc:
            log.warning("a thumbnail worker died", extra={"image": record.id, "reason": str(exc)})
            path = self._path(record.id, "died")
            await asyncio.to_thread(_keep, path, str(exc).encode(), time.time() + AGAIN_AFTER_S)
            return Missing("failed")
        except Unthumbable as exc:
            log.warning("a thumbnail could not be made", extra={"image": record.id, "reason": str(exc)})
            await self._note(record, None)
            return Missing("failed")
        await asyncio.to_thread(_keep, self._path(f"{record.id}-{size_px}", "webp"), made.webp)
        await self._note(record, made)
        if await self._library.look_up(record.id) is None:  # it was deleted for good while this was made
            await forget_thumbnails(self._folder, record.id)
        return made.webp

    async def _note(self, record: ImageRecord, made: Thumbnail | None) -> None:
        """Tell the index what an image is, once; where it can't be told, the next thumbnail does it."""
        if record.is_looked_at:
            return
        placeholder, is_animated = (made.placeholder, made.is_animated) if made else (None, False)
        try:
            await self._index.write(
                lambda tx: looks.note(tx, record.id, placeholder, is_animated=is_animated)
            )
        except ProxyError as exc:
            log.debug("a look can't be noted", extra={"image": record.id, "reason": exc.message})

    async def _ask(self, record: ImageRecord, size_px: int) -> Thumbnail:
        """Have it made. Raises Unthumbable, WorkerDied, StorageUnavailable."""
        async with self._workers.one() as worker:
            for _ in range(2):  # the image may move from the spool to storage between two looks
                image = await self._library.open(record)
                pieces = self._library.read(image, 0, record.size_bytes)
                try:
                    return await worker.make(pieces, record.size_bytes, size_px)
                except (ObjectMissing, FileNotFoundError):
                    continue
        message = "The image's bytes can't be read now."
        raise StorageUnavailable(message)

    def _path(self, name: str, extension: Literal["webp", "died"]) -> Path:
        image_id = name.partition("-")[0]
        return self._folder / image_id[-2:] / f"{name}.{extension}"

    def _cached(self, image_id: str, size_px: int) -> bytes | None:
        """Look into the cache. A file that a power cut left empty does not count."""
        try:
            data = self._path(f"{image_id}-{size_px}", "webp").read_bytes()
        except OSError:
            data = b""
        return data if sniff(data[:16]) == "image/webp" else None

    def _rests(self, image_id: str) -> bool:
        """Tell whether an image is let be after its worker died."""
        try:  # the time of this file is when the image may be tried again
            until = self._path(image_id, "died").stat().st_mtime
        except OSError:
            return False
        return time.time() < until


def _keep(path: Path, data: bytes, until: float | None = None) -> None:
    """Write whole or not at all; `until` becomes the file's time. A full disk costs the cache, not the answer."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.write_bytes(data)
        if until is not None:
            os.utime(part, (until, until))
        part.rename(path)
    except OSError as exc:
        log.warning("a thumbnail could not be kept", extra={"reason": str(exc)})
        with suppress(OSError):
            part.unlink(missing_ok=True)


async def forget_thumbnails(folder: Path, image_id: str) -> None:
    """Delete what is kept of an image that is gone for good."""

    def work() -> None:
        for path in (folder / image_id[-2:]).glob(f"{image_id}*"):
            path.unlink(missing_ok=True)

    await asyncio.to_thread(work)
