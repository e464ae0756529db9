"""The library: find, list and open images under the visibility rules. What one may not see does not exist."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiofiles

from pixie_proxy.errors import NotFound, StorageUnavailable
from pixie_proxy.gallery.sharing import LinkSigner, parse_link
from pixie_proxy.index import Index, images
from pixie_proxy.media import EXTENSIONS
from pixie_proxy.records import ImageRecord, User, is_id
from pixie_proxy.spool.area import Spool
from pixie_proxy.storage import PIECE_BYTES, ObjectMissing, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenImage:
    """An image whose bytes can be read. `spooled` is where it waits while storage has not got it yet."""

    record: ImageRecord
    spooled: Path | None


class Library:
    """The team's images."""

    def __init__(self, index: Index, storage: Storage, spool: Spool, links: LinkSigner) -> None:
        """Look images up in the index, and read them from storage or, until they are there, from the spool."""
        self._index = index
        self._storage = storage
        self._spool = spool
        self._links = links

    async def get(self, image_id: str, viewer: User) -> ImageRecord:
        """Find an image that `viewer` may see. Raises NotFound for any other, whether or not it exists."""
        record = await self._find(image_id)
        if record is None or record.deleted_us is not None or not may_see(record, viewer):
            raise _not_found(image_id)
        return record

    async def get_by_link(self, name: str) -> ImageRecord:
        """Find the image of a link. Raises NotFound when the link is not (or no longer) good."""
        parsed = parse_link(name)
        record = await self._find(parsed[0]) if parsed else None
        if parsed is None or record is None or record.deleted_us is not None:
            raise _not_found("This link")
        is_valid = self._links.is_valid(record.id, parsed[1], record.link_epoch)
        if not is_valid or not name.endswith(f".{EXTENSIONS[record.mime]}"):
            raise _not_found("This link")
        return record

    async def open(self, record: ImageRecord) -> OpenImage:
        """Find an image's bytes. Raises StorageUnavailable when they are not where they must be, or of another size."""
        size_bytes = await self._size(record.ref)
        if size_bytes is None:
            path = self._spool.find(record.request_id, record.ref.rsplit("/", 1)[-1])
            if path is not None:
                return OpenImage(record=record, spooled=path)
            size_bytes = await self._size(record.ref)  # it may have moved between the two looks
        if size_bytes is None:
            message = "The image's bytes are missing in storage. Please tell the admin."
            raise StorageUnavailable(message)
        if size_bytes != record.size_bytes:
            message = "The image in storage is damaged. Please tell the admin."
            raise StorageUnavailable(message)
        return OpenImage(record=record, spooled=None)

    async def read(self, image: OpenImage, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes of `[start, stop)`."""
        if image.spooled is not None:
            try:
                async with aiofiles.open(image.spooled, "rb") as file:
                    await file.seek(start)
                    while start < stop and (piece := await file.read(min(PIECE_BYTES, stop - start))):
                        start += len(piece)
                        yield piece
                return
            except FileNotFoundError:  # storage took it over after `open`
                pass
        async for piece in self._storage.read(image.record.ref, start, stop):
            yield piece

    def url(self, record: ImageRecord) -> str:
        """Give the link of an image, as it is good now."""
        return self._links.url(record.id, record.mime, record.link_epoch)

    async def _size(self, ref: str) -> int | None:
        try:
            return await self._storage.size(ref)
        except ObjectMissing:
            return None

    async def _find(self, image_id: str) -> ImageRecord | None:
        if not is_id(image_id, "img"):
            return None
        return await self._index.read(lambda tx: images.get(tx, image_id))


def may_see(record: ImageRecord, viewer: User) -> bool:
    """Apply the visibility rule: private for owner and admins, team and public for everyone who is signed in."""
    return viewer.is_admin or record.owner_id == viewer.id or record.visibility != "private"


def _not_found(what: str) -> NotFound:
    message = f"{what} does not exist."
    return NotFound(message)
