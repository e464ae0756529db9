"""Look at each new image once, in its own time: then pages have something to show while the image itself loads.

Nobody waits for it. What is missed (more images than are remembered, a restart) is made up for when the image's first
thumbnail is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from pixie_proxy.errors import ProxyError
from pixie_proxy.gallery.library import Library
from pixie_proxy.gallery.thumbnails import Thumbnails
from pixie_proxy.records import CallRecord, Settlement, StoredImage

log = logging.getLogger(__name__)

AFTER_S = 5.0
"""How long a new image is let be. Who waits for it asks for its thumbnail sooner, and that is a look already."""

_MOST = 10_000


class Looking:
    """The images that nobody has looked at yet, oldest first."""

    def __init__(self) -> None:
        """Know of none yet."""
        self._images: asyncio.Queue[tuple[float, str]] = asyncio.Queue(_MOST)

    def call_ended(self, call: CallRecord, settlement: Settlement, images: Sequence[StoredImage]) -> None:
        """Hear of a call whose images are where they stay."""
        due = asyncio.get_running_loop().time() + AFTER_S
        for image in images:
            if not self._images.full():
                self._images.put_nowait((due, image.id))

    async def run(self, library: Library, thumbnails: Thumbnails, size_px: int) -> None:
        """Look at one after the other, by a thumbnail of `size_px`, for as long as we live."""
        loop = asyncio.get_running_loop()
        while True:
            due, image_id = await self._images.get()
            await asyncio.sleep(due - loop.time())
            try:
                record = await library.look_up(image_id)
                if record is not None and not record.is_looked_at:
                    await thumbnails.get(record, size_px)
            except ProxyError as exc:  # storage or index is away
                log.debug("an image can't be looked at now", extra={"image": image_id, "reason": exc.message})
