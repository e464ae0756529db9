"""The pump: moves one answer from the upstream through the capture into the spool and the client's feed.

It reads at the upstream's pace and holds back what must not leave before an image is durable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from pixie_proxy.records import new_id
from pixie_proxy.relay.capture import (
    AnswerBroken,
    EventEnded,
    ImageBytes,
    ImageEnded,
    ImageStarted,
    JsonCapture,
    Piece,
    Relay,
    SseCapture,
    Withhold,
)
from pixie_proxy.relay.feed import READY_BYTES, Feed
from pixie_proxy.spool.call import SpooledCall, StoredName
from pixie_proxy.upstream import UpstreamCut


class Pump:
    """One answer on its way. `names` are the images that came whole, by slot; `events` what each `completed` said."""

    def __init__(
        self,
        capture: JsonCapture | SseCapture,
        spooled: SpooledCall,
        feed: Feed,
        *,
        image_id: Callable[[int], str],
        seal: Callable[[], Awaitable[None]],
        begin_answer: Callable[[], None],
    ) -> None:
        """Wire one answer: `seal` makes what came durable, `begin_answer` lets the client's answer begin."""
        self._capture = capture
        self._spooled = spooled
        self._feed = feed
        self._image_id = image_id
        self._seal = seal
        self._begin_answer = begin_answer
        self._withheld: list[bytes] = []
        self._has_new_images = False
        self.names: dict[int, StoredName] = {}
        self.events: list[dict[str, Any]] = []
        self.error_event: dict[str, Any] | None = None
        self.bad_images = 0
        self.spool_error: OSError | None = None

    async def run(self, chunks: AsyncIterator[bytes]) -> None:
        """Move the answer to its end. Raises AnswerBroken or UpstreamCut when it has none; whole images are named."""
        self._feed.is_between_events = isinstance(self._capture, SseCapture)
        try:
            async for chunk in chunks:
                self._feed.is_between_events = (
                    False  # an event's head goes out long before its end is durable
                )
                await self._take(self._capture.feed(chunk))
                self._after_chunk()
                await self._relieve()
            await self._take(self._capture.finish())
        except UpstreamCut:
            # A cut behind the last byte that matters is none: finish() tells.
            try:
                pieces = self._capture.finish()
            except AnswerBroken as broken:
                await self._take(broken.pieces)
                raise
            await self._take(pieces)
        except AnswerBroken as broken:
            await self._take(broken.pieces)
            raise
        if self.bad_images:
            message = "an image is not base64"
            raise AnswerBroken(message)

    def _after_chunk(self) -> None:
        if isinstance(self._capture, SseCapture):
            self._feed.is_between_events = self._capture.between_events
        elif self._feed.put_bytes >= READY_BYTES:
            self._begin_answer()

    def release(self) -> None:
        """Let go what was held back: the call is durable."""
        for data in self._withheld:
            self._feed.put(data)
        self._withheld.clear()

    async def _take(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Relay):
                self._feed.put(piece.data)
            elif isinstance(piece, ImageBytes):
                if self.spool_error is None:
                    self._spooled.add(piece.slot, piece.data)
            elif isinstance(piece, Withhold):
                self._withheld.append(piece.data)
            elif isinstance(piece, ImageStarted):
                self._spooled.begin(piece.slot, piece.mime)
            elif isinstance(piece, ImageEnded):
                await self._image_ended(piece)
            else:
                await self._event_ended(piece)

    async def _image_ended(self, piece: ImageEnded) -> None:
        if not piece.ok:
            self.bad_images += 1
            await self._spooled.drop(piece.slot)
            return
        self._spooled.end(piece.slot)
        if isinstance(self._capture, JsonCapture):
            self.name(piece.slot, self._capture.position_of(piece.slot))

    async def _event_ended(self, event: EventEnded) -> None:
        if event.kind == "completed" and event.slot is not None:
            self.name(event.slot, len(self.events))
            self.events.append(event.fields)
            await self._seal()
        elif event.slot is not None:
            await self._spooled.drop(event.slot)
        if event.kind == "error":
            self.error_event = event.fields
        self.release()

    def name(self, slot: int, position: int) -> None:
        """Give the image in `slot` its name: it is whole."""
        self.names[slot] = StoredName(self._image_id(position), position)
        self._has_new_images = True

    async def _relieve(self) -> None:
        """Keep memory bounded, and whole images safe from a crash while others are still on their way."""
        try:
            if self._has_new_images and not self._capture.is_complete:
                await self._spooled.keep(self.names)
                self._has_new_images = False
            elif self._spooled.wants_flush:
                await self._spooled.flush()
        except OSError as exc:
            if self._spooled.holds_too_much:
                self.spool_error = exc
        if self._feed.wants_spill:
            await self._feed.spill()


class ImageIds:
    """The ids of a call's images by position, made as they are needed."""

    def __init__(self) -> None:
        """Know none yet."""
        self._ids: dict[int, str] = {}

    def __call__(self, position: int) -> str:
        """Give the id of the image at `position`, always the same."""
        if position not in self._ids:
            self._ids[position] = new_id("img")
        return self._ids[position]
