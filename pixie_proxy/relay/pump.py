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
    is_link,
)
from pixie_proxy.relay.feed import READY_BYTES, Feed
from pixie_proxy.relay.skeleton import Skeleton
from pixie_proxy.spool.call import SpooledCall, StoredName
from pixie_proxy.upstream import UpstreamCut


class Pump:
    """One answer on its way. `names` are the images that came whole, by slot; `events` are those with a final one."""

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
        self._bad_slots: set[int] = set()
        self._is_spoilt = False  # something was given out that can have no good end
        self.names: dict[int, StoredName] = {}
        self.events: list[EventEnded] = []
        self.error_event: dict[str, Any] | None = None
        self.spool_error: OSError | None = None

    async def run(self, chunks: AsyncIterator[bytes]) -> None:
        """Move the answer to its end. Raises AnswerBroken or UpstreamCut when it has none; whole images are named."""
        self._feed.is_between_events = True
        try:
            async for chunk in chunks:
                self._feed.is_between_events = (
                    False  # an event's head goes out long before its end is durable
                )
                await self._take(self._capture.feed(chunk))
                self._feed.is_between_events = self._is_between_events
                self._begin_when_ready()
                await self._relieve()
            await self._take(self._capture.finish())
        except UpstreamCut:
            # A cut behind the last byte that matters is none: finish() tells.
            try:
                pieces = self._capture.finish(was_cut=True)
            except AnswerBroken as broken:
                await self._take(broken.pieces)
                raise
            await self._take(pieces)
        except AnswerBroken as broken:
            await self._take(broken.pieces)
            raise
        finally:
            self._feed.is_between_events = self._is_between_events
        if self._is_spoilt:
            message = "an image is not base64"
            raise AnswerBroken(message)

    async def play(self, skeleton: Skeleton) -> None:
        """Give the client an answer that was made anew, once its images are sealed."""
        self._feed.is_between_events = False
        steps = skeleton.render(self._spooled.read)
        while await self._feed.pull(steps):
            self._begin_when_ready()

    @property
    def _is_between_events(self) -> bool:
        return self._capture.between_events and not self._is_spoilt

    def _begin_when_ready(self) -> None:
        if self._feed.put_bytes >= READY_BYTES:
            self._begin_answer()

    def release(self) -> None:
        """Let go what was held back: the call is durable."""
        for data in self._withheld:
            self._give(data)
        self._withheld.clear()

    def _give(self, data: bytes) -> None:
        # Behind an event that is spoilt nothing can follow: it would end as if it were whole. The rest is kept.
        if not (self._is_spoilt and isinstance(self._capture, SseCapture)):
            self._feed.put(data)

    async def _take(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Relay):
                self._give(piece.data)
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
            self._bad_slots.add(piece.slot)
            self._is_spoilt = self._is_spoilt or isinstance(self._capture, JsonCapture)
            await self._spooled.drop(piece.slot)
            return
        self._spooled.end(piece.slot)
        if isinstance(self._capture, JsonCapture):
            self.name(piece.slot, self._capture.position_of(piece.slot))

    async def _event_ended(self, event: EventEnded) -> None:
        is_bad = event.slot in self._bad_slots
        fields = event.fields or {}
        self._is_spoilt = self._is_spoilt or event.fields is None or (event.kind == "completed" and is_bad)
        if event.kind == "completed" and not is_bad and (event.slot is not None or is_link(fields)):
            if event.slot is not None:
                self.name(event.slot, len(self.events))
            self.events.append(event)
            await self._seal()
        elif event.slot is not None and not is_bad:
            await self._spooled.set_aside(event.slot)
        if event.kind == "error":
            self.error_event = fields
        self.release()

    @property
    def positions(self) -> dict[int, int]:
        """The positions of the images that came whole, by slot."""
        return {slot: name.position for slot, name in self.names.items()}

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
