"""Lifts the images out of an upstream's answer while its bytes pass; pure: bytes in, pieces out.

`JsonCapture` reads one document, `SseCapture` a stream of events.
"""

from __future__ import annotations

from typing import Any

from pixie_proxy.relay.jsonwalk import CLOSED, IMAGE, NO_OBJECT, JsonWalk
from pixie_proxy.relay.lifting import (
    MAX_BYTES,
    MAX_TEXT_BYTES,
    WINDOW_BYTES,
    Capture,
    Link,
    is_link,
    lift_slot,
    load_json,
    url_member,
)
from pixie_proxy.relay.pieces import (
    AnswerBroken,
    AnswerTooLarge,
    AnswerTruncated,
    EventEnded,
    EventKind,
    ImageBytes,
    ImageEnded,
    ImageStarted,
    Piece,
    Relay,
    Withhold,
)
from pixie_proxy.relay.scrubbing import Scrub
from pixie_proxy.relay.skeleton import Skeleton
from pixie_proxy.relay.sse import SseCapture

__all__ = [
    "AnswerBroken",
    "AnswerTooLarge",
    "AnswerTruncated",
    "Capture",
    "EventEnded",
    "EventKind",
    "ImageBytes",
    "ImageEnded",
    "ImageStarted",
    "JsonCapture",
    "Link",
    "Piece",
    "Relay",
    "Skeleton",
    "SseCapture",
    "Withhold",
    "is_link",
]


class JsonCapture(Capture):
    """Captures one document whose images are the strings at `$.data[i].b64_json`.

    Nothing is given out before the first image begins, so a wrong answer can still become a proper error, and nothing
    at all if there is none: then, and if it is mute, the answer is to be made from `fields`.
    """

    def __init__(
        self,
        *,
        link: Link | None = None,
        mute: bool = False,
        scrub: Scrub = bytes,
        max_bytes: int = MAX_BYTES,
        max_text_bytes: int = MAX_TEXT_BYTES,
    ) -> None:
        """Begin before the first byte."""
        super().__init__(
            link=link, mute=mute, scrub=scrub, max_bytes=max_bytes, max_text_bytes=max_text_bytes
        )
        self._stays_mute = mute
        self._walk = JsonWalk(flat=False, urls=self._link is not None)
        self._is_mute = True  # until the first image
        self._is_closed = False
        self._positions: list[int] = []
        self.fields: dict[str, Any] = {}
        """The document without its `b64_json` members, as soon as its last `}` came."""
        self.slot_of_item: list[int | None] = []
        """The slot of each item of `data`, None where it has no image."""

    @property
    def skeleton(self) -> Skeleton:
        """What was given out, without its images; empty if nothing was."""
        return Skeleton() if self._is_mute else self._skeleton

    @property
    def is_complete(self) -> bool:
        """Whether the document is closed and valid, with nothing but white space behind it."""
        return self._is_closed and not self._is_broken

    @property
    def between_events(self) -> bool:
        """Whether nothing was given out."""
        return self._is_mute

    def position_of(self, slot: int) -> int:
        """Give the index in `data` of an image that has begun."""
        return self._positions[slot]

    def _read_text(self, chunk: bytes, at: int) -> int:
        window = chunk[at : at + WINDOW_BYTES]
        self._text += window
        if self._is_closed:
            if window.strip():
                raise AnswerBroken("bytes behind the end of the document")
            self._check_room()
            return at + len(window)
        stop = self._walk.walk(self._text, self._walk.at, len(self._text))
        if stop == IMAGE:
            return self._begin_image(self._walk.at, chunk, at)
        if stop == CLOSED:
            self._close()
        elif stop == NO_OBJECT:
            raise AnswerBroken("the answer is no JSON object")
        self._check_room()
        return at + len(window)

    def _give_head(self, begin: int) -> None:
        self._positions.append(self._walk.item)
        self._is_mute = self._stays_mute
        self._give(begin)

    def _give(self, end: int) -> None:
        text = self._cut_text(end, self._walk.cuts)
        self._walk.resume(self._walk.at - end)
        self._skeleton.add_text(text)
        self._relay(text)

    def _resume_text(self, slot: int) -> None:
        self._text += b'"'
        if self._link is not None and slot in self._whole:
            self._text += url_member(self._link(self._positions[slot], self._mime))
        self._walk.resume(len(self._text))

    def _pause(self) -> None:
        if self._is_closed:
            text = self._cut_text(len(self._text), [])
            self._skeleton.add_text(text)
            self._withhold(text)
        elif self._positions and self._link is None and self._image is None:
            self._give(self._walk.at)

    def _close(self) -> None:
        self._give(self._walk.at)
        if self._text[1:].strip():
            raise AnswerBroken("bytes behind the end of the document")
        self._is_closed = True
        try:
            self.fields = load_json(self._skeleton.document() + self._text[:1])
            data = self.fields.get("data")
            items = data if isinstance(data, list) else []
            self.slot_of_item = [self._lift(item) for item in items]
        except ValueError as exc:
            raise AnswerBroken(f"the answer is no JSON: {exc}") from exc

    def _lift(self, item: Any) -> int | None:
        if not isinstance(item, dict):
            return None
        slot = lift_slot(item)
        if slot is not None and self._link is not None:
            item.pop("url", None)
        return slot

    def _check_image_text(self, chunk: bytes, at: int, end: int) -> None:
        """Leave it to the decoder: what is no base64 makes a bad image, not a broken answer."""

    def _end(self, *, was_cut: bool) -> None:
        if not self._is_closed:
            raise AnswerTruncated("the answer ended before its last bracket")
