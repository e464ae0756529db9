"""Thumbnails: made once by a worker process and kept in the data directory; they can always be made again.

    <data_dir>/thumbnails/<2 last characters of the id>/<image id>-<size>.webp
                                                        <image id>-<size>.failed   why there is none

An image that can't be decoded is tried once. After a worker's death, which may not have been the image's fault, it is
tried again some minutes later.
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

from pixie_proxy.errors import ProxyError, StorageUnavailable
from pixie_proxy.gallery.library import Library
from pixie_proxy.gallery.workers import Unthumbable, WorkerDied, Workers
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

_NEVER_S = 10 * 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no thumbnail: the image is none that can be made smaller, it failed, or it is not made yet."""

    reason: Literal["unsupported", "failed", "pending"]


class Thumbnails:
    """The cache of thumbnails."""

    def __init__(self, folder: Path, library: Library, tasks: TaskKeeper) -> None:
        """Keep them in `folder`; each is made in a task of `tasks`, whoever waits for it."""
        self._folder = folder
        self._library = library
        self._tasks = tasks
        self._workers = Workers()
        self._running: dict[tuple[str, int], asyncio.Task[bytes | Missing | ProxyError]] = {}

    async def get(self, record: ImageRecord, size_px: int) -> bytes | Missing:
        """Give the thumbnail of an image as WebP, made now if need be. Raises StorageUnavailable."""
        if record.mime not in MIMES:
            return Missing("unsupported")
        found = await asyncio.to_thread(self._cached, record.id, size_px)
        if found is not None:
            return found
        key = (record.id, size_px)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = self._tasks.run(self._make(record, size_px), "thumbnail")
            task.add_done_callback(lambda _: self._running.pop(key))
        await asyncio.wait({task}, timeout=ANSWER_WAIT_S)
        made = await task if task.done() else Missing("pending")
        if isinstance(made, ProxyError):
            raise made
        return made

    async def close(self) -> None:
        """End the workers."""
        await self._workers.close()

    async def _make(self, record: ImageRecord, size_px: int) -> bytes | Missing | ProxyError:
        try:
            made = await self._ask(record, size_px)
        except ProxyError as exc:
            return exc
        except (Unthumbable, WorkerDied) as exc:
            log.warning("a thumbnail could not be made", extra={"image": record.id, "reason": str(exc)})
            until = time.time() + (_NEVER_S if isinstance(exc, Unthumbable) else AGAIN_AFTER_S)
            path = self._path(record.id, size_px, "failed")
            await asyncio.to_thread(_keep, path, str(exc).encode(), until)
            return Missing("failed")
        await asyncio.to_thread(_keep, self._path(record.id, size_px, "webp"), made)
        try:
            is_there = await self._library.has(record.id)
        except ProxyError as exc:
            return exc
        if not is_there:  # it was deleted for good while this was made
            await forget_thumbnails(self._folder, record.id)
        return made

    async def _ask(self, record: ImageRecord, size_px: int) -> bytes:
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

    def _path(self, image_id: str, size_px: int, extension: Literal["webp", "failed"]) -> Path:
        return self._folder / image_id[-2:] / f"{image_id}-{size_px}.{extension}"

    def _cached(self, image_id: str, size_px: int) -> bytes | Missing | None:
        """Look into the cache. A file that a power cut left empty does not count."""
        try:
            data = self._path(image_id, size_px, "webp").read_bytes()
        except OSError:
            data = b""
        if sniff(data[:16]) == "image/webp":
            return data
        try:  # the time of this file is when the image may be tried again
            until = self._path(image_id, size_px, "failed").stat().st_mtime
        except OSError:
            return None
        return Missing("failed") if time.time() < until else None


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
        for path in (folder / image_id[-2:]).glob(f"{image_id}-*"):
            path.unlink(missing_ok=True)

    await asyncio.to_thread(work)
