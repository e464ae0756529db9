"""An answer given again, byte for byte, from its skeleton and its images, at the pace of whoever reads it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from pixie_proxy.errors import ProxyError, StorageUnavailable
from pixie_proxy.relay.feed import READY_BYTES, FeedBroken
from pixie_proxy.relay.skeleton import Base64, Skeleton, Slot
from pixie_proxy.spool.kept import KeptFile, KeptFiles
from pixie_proxy.spool.partials import Partials
from pixie_proxy.storage import ObjectMissing
from pixie_proxy.tasks import TaskKeeper

log = logging.getLogger(__name__)


class Replay:
    """The bytes of an answer, pulled from disk as they are asked for: a `Source` for a client."""

    is_between_events = False

    def __init__(
        self,
        request_id: str,
        skeleton: Skeleton,
        files: Mapping[int, KeptFile],
        kept: KeptFiles,
        partials: Partials,
        tasks: TaskKeeper,
    ) -> None:
        """Give an answer whose final images are `files` by position; its partial images only if all are still there."""
        self._request_id = request_id
        self._skeleton = skeleton
        self._files = files
        self._kept = kept
        self._partials = partials
        self._tasks = tasks
        self._whole: bytes | None = None
        self._bytes = self._render()
        self._step: asyncio.Task[bytes | FeedBroken | None] | None = None

    async def begin(self) -> None:
        """Fetch a small answer whole. Raises StorageUnavailable."""
        if sum(map(self._size, self._skeleton.steps(partials=False))) > READY_BYTES:
            return
        pieces = []
        try:
            while piece := await self.get():
                pieces.append(piece)
        except FeedBroken:
            message = "The images of this request can't be read now. Please tell the admin."
            raise StorageUnavailable(message, headers={"retry-after": "10"}) from None
        self._whole = b"".join(pieces)

    def take_whole(self) -> bytes | None:
        """Return the answer if it is small enough to go out in one piece."""
        return self._whole

    async def get(self, timeout_s: float | None = None) -> bytes | None:
        """Return the next bytes, None at the end. Raises FeedBroken where an image can't be read to its end."""
        if self._whole is not None:
            whole, self._whole = self._whole, b""
            return whole or None
        # A step is brought to its end though its reader is cancelled: it has files open.
        self._step = self._tasks.run(self._next(), "replay")
        piece = await asyncio.shield(self._step)
        if isinstance(piece, FeedBroken):
            raise piece
        return piece

    def abandon(self) -> None:
        """Do nothing: what nobody asks for is not read."""

    def discard(self) -> None:
        """Close what is open."""
        self._tasks.spawn(self._close(), "replay")

    async def _next(self) -> bytes | FeedBroken | None:
        try:
            return await anext(self._bytes, None)
        except (ProxyError, ObjectMissing, OSError) as exc:
            log.exception("an answer can't be given again", extra={"request_id": self._request_id})
            return FeedBroken(str(exc))

    async def _close(self) -> None:
        if self._step is not None:
            await asyncio.wait({self._step})
        await self._bytes.aclose()

    async def _render(self) -> AsyncGenerator[bytes, None]:
        partial = [slot.number for slot in self._skeleton.slots() if slot.is_partial]
        has_partials = bool(partial) and await self._partials.has(self._request_id, partial)
        for step in self._skeleton.steps(partials=has_partials):
            if isinstance(step, bytes):
                yield step
                continue
            encoder = Base64(step)
            async with aclosing(self._open(step)) as pieces:
                async for piece in pieces:
                    for text in encoder.feed(piece):
                        yield text
            if rest := encoder.finish():
                yield rest

    def _size(self, step: bytes | Slot) -> int:
        return (
            len(step) if isinstance(step, bytes) else -(-self._files[step.number].image.size_bytes // 3) * 4
        )

    def _open(self, slot: Slot) -> AsyncGenerator[bytes, None]:
        if slot.is_partial:
            return self._partials.read(self._request_id, slot.number)
        file = self._files[slot.number]
        return self._kept.read(file, 0, file.image.size_bytes)
