"""What a capture finds in an upstream's answer, and how it says that the answer is broken.

AnswerBroken            no valid answer: it must never end cleanly for the client
├── AnswerTruncated     it ended too early
└── AnswerTooLarge      it is larger than its cap, or its text without images is
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

EventKind = Literal["partial", "completed", "error", "other"]


class Relay(NamedTuple):
    """Bytes that may go to the client now."""

    data: bytes


class Withhold(NamedTuple):
    """Bytes that may go to the client once the call is durable."""

    data: bytes


class ImageStarted(NamedTuple):
    """An image begins, of the type that its first bytes show. Slots count an answer's images from 0."""

    slot: int
    mime: str


class ImageBytes(NamedTuple):
    """The next decoded bytes of an image."""

    slot: int
    data: bytes


class ImageEnded(NamedTuple):
    """The closing quote of an image came; `ok` is false if there was anything but base64 before it."""

    slot: int
    ok: bool


class EventEnded(NamedTuple):
    """An SSE event is whole, and its bytes were given out; `fields` is its JSON without the image.

    Without `fields` it is spoilt: given out in part, and with no end that could follow.
    """

    kind: EventKind
    slot: int | None
    fields: dict[str, Any] | None


Piece = Relay | Withhold | ImageStarted | ImageBytes | ImageEnded | EventEnded


class AnswerBroken(Exception):
    """The answer is not what it should be; `whole` are the slots of the images that came whole all the same."""

    def __init__(self, message: str) -> None:
        """Say what is wrong; the capture fills in the rest."""
        super().__init__(message)
        self.whole: tuple[int, ...] = ()
        self.pieces: list[Piece] = []
        """What the failing call had found before: images in it are as good as any."""


class AnswerTruncated(AnswerBroken):
    """The upstream's bytes ended before the answer did."""


class AnswerTooLarge(AnswerBroken):
    """More bytes than a cap allows."""
