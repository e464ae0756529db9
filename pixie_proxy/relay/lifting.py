"""What the captures of both kinds of answer share: the base64, the caps, the order of pieces."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

import orjson

from pixie_proxy.media import SNIFF_BYTES, sniff
from pixie_proxy.relay.b64scan import STEP_BYTES, Base64Stream
from pixie_proxy.relay.pieces import (
    AnswerBroken,
    AnswerTooLarge,
    AnswerTruncated,
    ImageBytes,
    ImageEnded,
    ImageStarted,
    Piece,
    Relay,
    Withhold,
)
from pixie_proxy.relay.scrubbing import Scrub
from pixie_proxy.relay.skeleton import Skeleton

Link = Callable[[int, str], str]
"""Gives the URL of a final image: its position (index in `data`, or its number among `completed` events) and MIME."""

MAX_BYTES: Final = 1 << 30
MAX_TEXT_BYTES: Final = 4 << 20
WINDOW_BYTES: Final = 8192
"""How much of a chunk is taken as text at once: what turns out to be base64 was copied in vain."""
MAX_SLOTS: Final = 256
"""How many images an answer may hold, partial ones too: far more than can be asked for."""


class Capture(ABC):
    """Feed it an answer in chunks cut anywhere, then `finish` at the upstream's clean end.

    All data of `Relay` and `Withhold` joined are the upstream's bytes, or those with links. Both calls raise
    `AnswerBroken`; after that, the capture is over.
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
        """Begin before the first byte; with `link`, each final image gets a `url` member right behind its base64.

        `mute` captures images and gives out no bytes. `scrub` goes over all text that is given out or told; it gets
        strings whole, wherever the chunks were cut.
        """
        self._link = None if mute else link
        self._is_mute = mute
        self._scrub = scrub
        self._max_bytes = max_bytes
        self._max_text_bytes = max_text_bytes
        self._size = 0
        self._text_size = 0
        self._text = bytearray()  # text that was not given out yet
        self._skeleton = Skeleton()
        self._pieces: list[Piece] = []
        self._passing: list[bytes] = []  # the Relay in the making: one write instead of three
        self._image: Base64Stream | None = None
        self._head: bytes | None = None  # the image's first bytes, until they tell its type
        self._mime = ""
        self._slots = 0
        self._whole: list[int] = []
        self._is_over = False
        self._is_broken = False

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether the answer is whole so far: nothing more has to come."""

    @property
    @abstractmethod
    def between_events(self) -> bool:
        """Whether nothing is given out in part: a comment may be put in, or an event of our own."""

    @property
    def slots(self) -> int:
        """How many images have begun."""
        return self._slots

    @property
    def skeleton(self) -> Skeleton:
        """What was given out, without its images."""
        return self._skeleton

    def feed(self, chunk: bytes) -> list[Piece]:
        """Take the next bytes; an image's bytes come before the relay of the base64 that held them."""
        if self._is_over:
            raise AnswerBroken("nothing can follow the end")
        try:
            self._size += len(chunk)
            if self._size > self._max_bytes:
                raise AnswerTooLarge(f"more than {self._max_bytes} bytes")
            at, end = 0, len(chunk)
            while at < end:
                at = self._read_text(chunk, at) if self._image is None else self._read_image(chunk, at)
            self._pause()
        except AnswerBroken as exc:
            self._fail(exc)
            raise
        return self._take()

    def finish(self, *, was_cut: bool = False) -> list[Piece]:
        """Judge the answer at the end of the upstream's bytes: AnswerTruncated if something is missing.

        `was_cut`: they ended where the framing did not, so only what the answer itself tells counts.
        """
        if self._is_over:
            raise AnswerBroken("nothing can follow the end")
        try:
            if self._image is not None:
                raise AnswerTruncated("the answer ended within an image")
            self._end(was_cut=was_cut)
        except AnswerBroken as exc:
            self._fail(exc)
            raise
        self._is_over = True
        return self._take()

    @abstractmethod
    def _read_text(self, chunk: bytes, at: int) -> int:
        """Read text, up to an image at most; return where to go on in `chunk`."""

    @abstractmethod
    def _give_head(self, begin: int) -> None:
        """Give out the text before an image that begins at `begin`."""

    @abstractmethod
    def _resume_text(self, slot: int) -> None:
        """Go on in the text, with the image's closing quote as its first byte."""

    @abstractmethod
    def _pause(self) -> None:
        """Give out at the end of a chunk what need not wait for the next one."""

    @abstractmethod
    def _end(self, *, was_cut: bool) -> None:
        """Judge the end of the answer."""

    @abstractmethod
    def _check_image_text(self, chunk: bytes, at: int, end: int) -> None:
        """Look for what would end the text within an image; raises AnswerBroken."""

    def _begin_image(self, begin: int, chunk: bytes, at: int) -> int:
        """Turn from text to the image at `begin` of it; the last part of the text is the window at `at` of `chunk`."""
        window = min(WINDOW_BYTES, len(chunk) - at)
        behind = len(self._text) - begin
        # What came before this chunk and was no prefix after all: a `d` that could have begun `data:`.
        early = bytes(self._text[begin : begin + max(0, behind - window)])
        if self._slots == MAX_SLOTS:
            raise AnswerTooLarge(f"more than {MAX_SLOTS} images")
        self._give_head(begin)
        self._text.clear()
        self._check_room()
        self._image = Base64Stream()
        self._head = b""
        self._slots += 1
        if early:
            self._read_image(early, 0)
        return at + max(0, window - behind)

    def _read_image(self, chunk: bytes, at: int) -> int:
        image = self._image
        if image is None:
            return at
        quote = image.find_end(chunk, at)
        end = len(chunk) if quote < 0 else quote
        for step in range(at, end, STEP_BYTES):
            self._add_image_bytes(image.decode(chunk, step, min(end, step + STEP_BYTES)))
        self._check_image_text(chunk, at, end)
        self._relay(chunk[at:end])
        if quote < 0:
            return end
        self._end_image(image)
        return quote + 1

    def _end_image(self, image: Base64Stream) -> None:
        slot = self._slots - 1
        self._add_image_bytes(image.finish())
        self._announce()
        self._pieces.append(ImageEnded(slot, image.is_ok))
        if image.is_ok:
            self._whole.append(slot)
        self._skeleton.add_image(
            slot, is_canonical=image.is_canonical, has_escaped_slashes=image.has_escaped_slashes
        )
        self._image = None
        self._resume_text(slot)

    def _add_image_bytes(self, found: bytes) -> None:
        if not found:
            return
        if self._head is None:
            self._pieces.append(ImageBytes(self._slots - 1, found))
            return
        self._head = self._head + found if self._head else found
        if len(self._head) >= SNIFF_BYTES:
            self._announce()

    def _announce(self) -> None:
        if self._head is None:
            return
        self._mime = sniff(self._head)
        self._pieces.append(ImageStarted(self._slots - 1, self._mime))
        if self._head:
            self._pieces.append(ImageBytes(self._slots - 1, self._head))
        self._head = None

    def _relay(self, data: bytes) -> None:
        if data and not self._is_mute:
            self._passing.append(data)

    def _withhold(self, data: bytes) -> None:
        self._end_relay()
        if data and not self._is_mute:
            self._pieces.append(Withhold(data))

    def _end_relay(self) -> None:
        if self._passing:
            self._pieces.append(Relay(b"".join(self._passing)))
            self._passing.clear()

    def _take(self) -> list[Piece]:
        self._end_relay()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _fail(self, exc: AnswerBroken) -> None:
        self._is_over = self._is_broken = True
        exc.whole = tuple(self._whole)
        exc.pieces = self._take()

    def _cut_text(self, end: int, cuts: list[tuple[int, int]]) -> bytes:
        """Take the text up to `end` out, without the stretches in `cuts`."""
        text = bytes(self._text[:end])
        del self._text[:end]
        self._text_size += end
        for start, stop in reversed(cuts):
            text = text[:start] + text[stop:]
        return self._scrub(text)

    def _check_room(self) -> None:
        if self._text_size + len(self._text) > self._max_text_bytes:
            raise AnswerTooLarge(f"more than {self._max_text_bytes} bytes beside the images")


def url_member(url: str) -> bytes:
    """Write the member that follows an image's base64."""
    return b',"url":' + orjson.dumps(url)


def lift_slot(item: dict[str, Any]) -> int | None:
    """Take `b64_json` out of an object of `Skeleton.document`, where it holds its slot's number behind any prefix."""
    value = item.pop("b64_json", None)
    return int(value.rpartition(",")[2]) if isinstance(value, str) and value else None


def is_link(fields: dict[str, Any]) -> bool:
    """Tell whether an item or event has a link instead of its image."""
    return isinstance(fields.get("url"), str)


def load_json(text: bytes) -> Any:
    """Parse what clients would parse; ValueError if they could not.

    orjson refuses half a surrogate pair, which the clients' own parsers take (a prompt cut in the middle of an emoji):
    it becomes a question mark here, for nothing behind us could write it down.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            # Decoded here: json.loads would also take UTF-16 and a BOM, which the walk did not understand.
            mended = json.dumps(json.loads(text.decode()), ensure_ascii=False, allow_nan=False)
        except RecursionError as exc:
            raise ValueError("nested too deeply") from exc
        return orjson.loads(mended.encode("utf-8", "replace"))
