"""Retention: images that lie in the trash for longer than `gallery.trash_days` are deleted for good.

A wrong clock or a wrong setting must not empty the trash of a whole team: more than a few images at once stop the
purge, until an operator allows them (`gallery.purge_at_once`). Nor is anything purged while storage is away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from pixie_proxy.config import GallerySettings
from pixie_proxy.errors import ProxyError
from pixie_proxy.gallery.upkeep import Upkeep
from pixie_proxy.index import Index, Tx, images, states
from pixie_proxy.storage import SENTINEL, ObjectMissing, Storage

log = logging.getLogger(__name__)

PURGE_EVERY_S = 300.0
ALWAYS_ALLOWED = 100
"""So many images may go at once, or one of a hundred where that is more."""

_PAGE = 200
_DAY_US = 24 * 60 * 60 * 1_000_000


class Retention:
    """Empties the trash."""

    def __init__(
        self,
        index: Index,
        storage: Storage,
        upkeep: Upkeep,
        settings: GallerySettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Judge by `clock`, which gives seconds since 1970."""
        self._index = index
        self._storage = storage
        self._upkeep = upkeep
        self._settings = settings
        self._clock = clock

    async def run(self) -> None:
        """Purge every few minutes, for as long as we live."""
        while True:
            try:
                await self.purge()
            except ProxyError as exc:
                log.warning("the trash can't be emptied now", extra={"reason": exc.message})
            await asyncio.sleep(PURGE_EVERY_S)

    async def purge(self) -> int:
        """Delete what is overdue, page by page; return how many images that were. Raises ProxyError."""
        before_us = round(self._clock() * 1_000_000) - self._settings.trash_days * _DAY_US
        due, allowed = await self._index.read(lambda tx: self._count(tx, before_us))
        if due == 0:
            return 0
        if due > allowed:
            log.error(
                "nothing is purged: too many images at once; look at the clock and at gallery.trash_days, "
                "or raise gallery.purge_at_once",
                extra={"images": due, "allowed": allowed},
            )
            return 0
        if not await self._has_storage():
            log.error("nothing is purged: the storage is not there")
            return 0
        purged, page = 0, _PAGE
        while page == _PAGE and purged < allowed:
            most = min(_PAGE, allowed - purged)
            page, requests = await self._index.write(partial(_purge, before_us=before_us, most=most))
            purged += page
            for request_id in requests:
                await self._upkeep.follow(request_id)
        log.info("emptied the trash", extra={"images": purged})
        return purged

    def _count(self, tx: Tx, before_us: int) -> tuple[int, int]:
        """Give how many images are overdue, and how many may go at once."""
        due = images.count_overdue(tx, before_us)
        if self._settings.purge_at_once is not None:
            return due, self._settings.purge_at_once
        return due, ALWAYS_ALLOWED if due <= ALWAYS_ALLOWED else max(ALWAYS_ALLOWED, images.count(tx) // 100)

    async def _has_storage(self) -> bool:
        try:
            await self._storage.size(SENTINEL)
        except ObjectMissing:
            return False
        return True


def _purge(tx: Tx, before_us: int, most: int) -> tuple[int, list[str]]:
    """Remove a page of rows and note which files are to go with them; give their number and their requests."""
    gone = images.purge(tx, before_us, most)
    files: dict[str, dict[str, str]] = {}
    for image in gone:
        files.setdefault(image.request_id, {})[image.id] = image.file
    for request_id, purged in files.items():
        states.mark(tx, request_id, purged)
    return len(gone), list(files)
