"""Read a kept image wherever it lies, in the spool or in storage; another's bytes are never given out as whole."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import aiofiles

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.spool.area import Spool
from pixie_proxy.storage import PIECE_BYTES, ObjectMissing, Storage

log = logging.getLogger(__name__)

ELSEWHERE_S = 3.0
"""How long an image is waited for that another host has in its spool: it is on its way from there."""
_LOOK_EVERY_S = 0.1


class KeptImage(NamedTuple):
    """An image as index or manifest know it. `damage` is what `pixie verify` found wrong with its bytes."""

    ref: str
    size_bytes: int
    sha256: str
    damage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """An image whose bytes can be read. `spooled` is where it waits while storage has not got it yet."""

    image: KeptImage
    spooled: Path | None


class KeptFiles:
    """The images that we have."""

    def __init__(self, storage: Storage, spool: Spool, *, spans_hosts: bool = False) -> None:
        """Look into both. What is in neither may be in the spool of another host, if there are any."""
        self._storage = storage
        self._spool = spool
        self._patience_s = ELSEWHERE_S if spans_hosts else 0.0

    async def open(self, image: KeptImage) -> KeptFile:
        """Find an image. Raises StorageUnavailable when it is missing, of another size, or known to be damaged.

        The spool comes first: what moves goes from there to storage, and nobody waits for a storage that is away.
        """
        if image.damage is not None:
            raise _damaged()
        if (spooled := self._find(image)) is not None:
            return KeptFile(image=image, spooled=spooled)
        patience_until = time.monotonic() + self._patience_s
        while (found_bytes := await self._stored_bytes(image)) is None:
            # A disk that could not make the move durable has taken it back.
            if (spooled := self._find(image)) is not None:
                return KeptFile(image=image, spooled=spooled)
            if time.monotonic() > patience_until:
                raise _missing(may_come=self._patience_s > 0)
            await asyncio.sleep(_LOOK_EVERY_S)
        if found_bytes != image.size_bytes:
            raise _found_damaged(image)
        return KeptFile(image=image, spooled=None)

    async def _stored_bytes(self, image: KeptImage) -> int | None:
        try:
            return await self._storage.size(image.ref)
        except ObjectMissing:
            return None

    async def read(self, file: KeptFile, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of `[start, stop)`. Raises StorageUnavailable where they are not the ones that were kept.

        Of a whole image the last piece is held back until the digest is right; a part is compared in its length only.
        """
        image = file.image
        digest = hashlib.sha256() if (start, stop) == (0, image.size_bytes) else None
        held, left_bytes = b"", stop - start
        async with aclosing(self._pieces(file, start, stop)) as pieces:
            async for piece in pieces:
                if digest is not None:
                    digest.update(piece)
                if held:
                    yield held
                held = piece
                left_bytes -= len(piece)
        if left_bytes or (digest is not None and digest.hexdigest() != image.sha256):
            raise _found_damaged(image)
        if held:
            yield held

    async def link(self, file: KeptFile, expires_s: int) -> str | None:
        """Give an address of the storage's own for an image, where storage has it and gives such."""
        return None if file.spooled is not None else await self._storage.link(file.image.ref, expires_s)

    def _find(self, image: KeptImage) -> Path | None:
        request_id, file = image.ref.rsplit("/", 2)[1:]
        return self._spool.find(request_id, file)

    async def _pieces(self, file: KeptFile, start: int, stop: int) -> AsyncGenerator[bytes, None]:
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
        async for piece in self._storage.read(file.image.ref, start, stop):
            yield piece


def _missing(*, may_come: bool) -> StorageUnavailable:
    if may_come:
        message = "The image is not in storage yet: another host has it in its spool. Try again later."
        return StorageUnavailable(message, headers={"retry-after": "10"})
    return StorageUnavailable("The image's bytes are missing in storage. Please tell the admin.")


def _found_damaged(image: KeptImage) -> StorageUnavailable:
    log.error("an image in storage is damaged", extra={"ref": image.ref})
    return _damaged()


def _damaged() -> StorageUnavailable:
    return StorageUnavailable("The image in storage is damaged. Please tell the admin.")
