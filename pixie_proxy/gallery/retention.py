"""Retention: old images go into the trash (`gallery.retention_days`), and from there for good (`gallery.trash_days`).

A wrong clock or a wrong setting must not take the images of a whole team: too many at once are held back, until an
operator lets them go (`pixie retention --apply`, `gallery.purge_at_once`). Nor does one go while storage is away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import Literal, NamedTuple, Protocol

from pixie_proxy.config import GallerySettings
from pixie_proxy.errors import ProxyError
from pixie_proxy.gallery.upkeep import Upkeep
from pixie_proxy.index import Index, Tx, images, states, trash
from pixie_proxy.index.trash import Age, DueImages
from pixie_proxy.metrics import Gauge
from pixie_proxy.records import id_time_us, to_datetime
from pixie_proxy.storage import SENTINEL, ObjectMissing, Storage

log = logging.getLogger(__name__)

EVERY_S = 300.0
ALWAYS_ALLOWED = 100
"""So many images may go at once, or one of a hundred where that is more."""

DAY_US = 24 * 60 * 60 * 1_000_000
_PAGE = 200
_FOLDERS_AT_ONCE = 4


class _Page(Protocol):
    """A work that lets at most so many images go: gives their number, and the requests whose folders must follow."""

    def __call__(self, tx: Tx, *, most: int) -> tuple[int, Iterable[str]]: ...


class DueMonth(NamedTuple):
    """What was made in a month (`2026-11`) and is due for the trash."""

    month: str
    owners: list[DueImages]


class Retention:
    """Fills the trash and empties it."""

    def __init__(
        self,
        index: Index,
        storage: Storage,
        upkeep: Upkeep,
        settings: GallerySettings,
        held: Gauge,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Judge by `clock`, which gives seconds since 1970; `held` shows how many images are held back."""
        self._index = index
        self._storage = storage
        self._upkeep = upkeep
        self._settings = settings
        self._held = held
        self._holding: dict[Literal["fill", "purge"], int] = {}
        self._clock = clock

    async def run(self) -> None:
        """Fill and purge every few minutes, for as long as we live."""
        while True:
            try:
                await self.fill()
                await self.purge()
            except ProxyError as exc:
                log.warning("the trash can't be filled or emptied now", extra={"reason": exc.message})
            await asyncio.sleep(EVERY_S)

    async def fill(self) -> int:
        """Put what is too old into the trash, unless that is too much; return how many images. Raises ProxyError."""
        if (days := self._settings.retention_days) is None:
            return 0
        age = age_of(days, self._clock())
        due, allowed = await self._index.read(lambda tx: _fused(tx, trash.count_due(tx, age)))
        if due > allowed:
            if self._hold("fill", due):
                log.error(
                    "nothing goes into the trash: too many images at once; look at the clock and at "
                    "gallery.retention_days, or let them go: pixie retention --apply",
                    extra={"images": due, "allowed": allowed},
                )
            return 0
        self._hold("fill", 0)
        return await self._put_into_trash(age, due)

    async def fill_all(self, age: Age, advance: Callable[[int], object]) -> int:
        """Put all that is too old into the trash: an operator has looked at it. Raises ProxyError."""
        due = await self._index.read(lambda tx: trash.count_due(tx, age))
        return await self._put_into_trash(age, due, advance)

    async def purge(self) -> int:
        """Delete what is overdue, unless that is too much; return how many images that were. Raises ProxyError."""
        before_us = _us(self._clock()) - self._settings.trash_days * DAY_US
        at_once = self._settings.purge_at_once
        due, allowed = await self._index.read(
            lambda tx: _fused(tx, trash.count_overdue(tx, before_us), at_once)
        )
        if due > allowed:
            if self._hold("purge", due):
                log.error(
                    "nothing is purged: too many images at once; look at the clock and at gallery.trash_days, "
                    "or raise gallery.purge_at_once",
                    extra={"images": due, "allowed": allowed},
                )
            return 0
        self._hold("purge", 0)
        purged = await self._in_pages(partial(_purge, before_us=before_us), due)
        if purged:
            log.info("emptied the trash", extra={"images": purged})
        return purged

    async def _put_into_trash(
        self, age: Age, due: int, advance: Callable[[int], object] = lambda _: None
    ) -> int:
        filled = await self._in_pages(partial(_fill, age=age), due, advance)
        if filled:
            log.info("put old images into the trash", extra={"images": filled})
        return filled

    async def _in_pages(
        self, work: _Page, most: int, advance: Callable[[int], object] = lambda _: None
    ) -> int:
        """Do a work page by page; no page begins without storage."""
        gone = 0
        while gone < most:
            if not await self._has_storage():
                log.error("nothing is deleted: the storage is not there")
                break
            page, requests = await self._index.write(partial(work, most=min(_PAGE, most - gone)))
            if not page:  # somebody else was faster
                break
            await self._follow(requests)
            gone += page
            advance(page)
        return gone

    async def _follow(self, requests: Iterable[str]) -> None:
        """Let folders follow, a few at a time: their notes in the index share commits, and answers have the disk."""
        left = iter(requests)

        async def worker() -> None:
            for request_id in left:
                await self._upkeep.follow(request_id)

        await asyncio.gather(*[worker() for _ in range(_FOLDERS_AT_ONCE)])

    def _hold(self, what: Literal["fill", "purge"], held: int) -> bool:
        """Show how many images are held back; tell whether that is news, for they may be held for months."""
        is_news = not self._holding.get(what)
        self._holding[what] = held
        self._held.value = sum(self._holding.values())
        return is_news

    async def _has_storage(self) -> bool:
        try:
            await self._storage.size(SENTINEL)
        except ObjectMissing:
            return False
        return True


def age_of(days: int, now_s: float) -> Age:
    """Say what is too old now."""
    now_us = _us(now_s)
    return Age(made_before_us=now_us - days * DAY_US, now_us=now_us)


def survey(tx: Tx, age: Age) -> list[DueMonth]:
    """Add up what is due for the trash by month and owner, oldest first."""
    first = trash.first_due(tx, age)
    if first is None:
        return []
    months = []
    month = to_datetime(id_time_us(first)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while (since_us := _us(month.timestamp())) < age.made_before_us:
        after = (month + timedelta(days=31)).replace(day=1)
        owners = trash.due_by_owner(tx, age, since_us, _us(after.timestamp()))
        if owners:
            months.append(DueMonth(f"{month:%Y-%m}", owners))
        month = after
    return months


def allowed_at_once(tx: Tx) -> int:
    """Give how many images may go at once without anybody's word."""
    return max(ALWAYS_ALLOWED, images.count(tx) // 100)


def _fused(tx: Tx, due: int, at_once: int | None = None) -> tuple[int, int]:
    """Give how many images are due, and how many may go; the images are only counted where that matters."""
    if at_once is not None:
        return due, at_once
    return due, ALWAYS_ALLOWED if due <= ALWAYS_ALLOWED else allowed_at_once(tx)


def _fill(tx: Tx, *, age: Age, most: int) -> tuple[int, Iterable[str]]:
    """Put a page of images into the trash, and note that their folders must follow."""
    requests = trash.fill(tx, age, most)
    for request_id in set(requests):
        states.mark(tx, request_id)
    return len(requests), set(requests)


def _purge(tx: Tx, *, before_us: int, most: int) -> tuple[int, Iterable[str]]:
    """Remove a page of rows and note which files are to go with them; give their number and their requests."""
    gone = trash.purge(tx, before_us, most)
    files: dict[str, dict[str, str]] = {}
    for image in gone:
        files.setdefault(image.request_id, {})[image.id] = image.file
    for request_id, purged in files.items():
        states.mark(tx, request_id, purged)
    return len(gone), files


def _us(at_s: float) -> int:
    return round(at_s * 1_000_000)
