"""Sweep the cache of thumbnails: what it has of images that are gone for good goes, whoever deleted them.

A purge clears the cache of the host that does it. Other hosts have caches of their own, and a crash may come between.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pixie_proxy.errors import ProxyError
from pixie_proxy.index import Index, images

log = logging.getLogger(__name__)

EVERY_S = 30.0
MOST_IMAGES = 2_000
"""So many are looked at in a round: a cache of so many is clean in half a minute, one of a million in four hours."""

_PAGE = 200
_PART_MAX_AGE_S = 600.0
"""What is older was not written to its end: a process died."""

_NAME = re.compile(r"(\.?)(img_[0-9a-v]{26})[-.].+")


class _Cached(NamedTuple):
    """An image of which the cache has something, by the name of its folder and its id: the order of the walk."""

    shelf: str
    image_id: str


class Sweep:
    """A walk through the cache, round by round, and then again from its beginning."""

    def __init__(self, folder: Path, index: Index) -> None:
        """Walk through `folder`, laid out as `thumbnails` does; `index` says which images there are."""
        self._folder = folder
        self._index = index
        self._behind = _Cached("", "")

    async def run(self) -> None:
        """Do a round now and then, for as long as we live."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.once()
            except ProxyError as exc:
                log.debug("the thumbnails can't be swept now", extra={"reason": exc.message})

    async def once(self) -> int:
        """Do a round; give of how many images something was deleted. Raises ProxyError: then it is done again."""
        behind, gone = self._behind, 0
        found = await asyncio.to_thread(lambda: [*islice(_walk(self._folder, behind), MOST_IMAGES)])
        for at in range(0, len(found), _PAGE):
            page = found[at : at + _PAGE]
            ids = [each.image_id for each in page]
            known = await self._index.read(partial(images.known, image_ids=ids))
            lost = [each for each in page if each.image_id not in known]
            await asyncio.to_thread(_remove, self._folder, lost)
            gone += len(lost)
            self._behind = page[-1]
        if len(found) < MOST_IMAGES:
            self._behind = _Cached("", "")
        return gone


def _walk(folder: Path, behind: _Cached) -> Iterator[_Cached]:
    """Give what there is, in order, from behind one; remove parts that nobody writes any more on the way."""
    if not folder.is_dir():
        return
    for shelf in sorted(path for path in folder.iterdir() if path.name >= behind.shelf and path.is_dir()):
        ids = set()
        for path in shelf.iterdir():
            name = _NAME.fullmatch(path.name)
            if name is not None and not (name[1] and _remove_if_abandoned(path)):
                ids.add(name[2])
        for image_id in sorted(ids):
            if (each := _Cached(shelf.name, image_id)) > behind:
                yield each


def _remove(folder: Path, lost: Iterable[_Cached]) -> None:
    for shelf, image_id in lost:
        for path in (folder / shelf).glob(f"*{image_id}*"):
            path.unlink(missing_ok=True)


def _remove_if_abandoned(part: Path) -> bool:
    """Remove a part that a process did not write to its end; tell whether it was one."""
    try:
        if time.time() - part.stat().st_mtime < _PART_MAX_AGE_S:
            return False
    except FileNotFoundError:  # it is whole by now
        return False
    part.unlink(missing_ok=True)
    return True
