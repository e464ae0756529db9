"""An answer without its images: small enough for the ledger, enough to send the same bytes again.

As bytes: `1` (the version), flags, then for each part the length of its text, its image's slot (-1 for none) and its
flags, all little-endian, and the text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from pybase64 import b64encode

_VERSION: Final = 1
_HEAD: Final = struct.Struct("<BB")
_PART: Final = struct.Struct("<IiB")
_NO_IMAGE: Final = -1
_EXACT, _ESCAPED, _PARTIAL = 1, 1, 2

_ENCODE_BYTES: Final = 72 * 1024
"""Image bytes that one step encodes, a multiple of three: with every slash escaped they are 192 KiB at most."""


class Slot(NamedTuple):
    """The place of an image's base64. A partial image is one of a stream's rough stages."""

    number: int
    is_partial: bool
    escapes_slashes: bool


class _Part(NamedTuple):
    """Some text and the image behind it."""

    text: bytes
    slot: int
    flags: int


class Skeleton:
    """The text of an answer in parts, with an image behind each but the last.

    `is_exact` is false if the upstream's base64 was odd (unpadded, line by line, …): then `steps` and `Base64` give the
    same images in proper base64, and not the same bytes.
    """

    __slots__ = ("_parts", "_run", "is_exact")

    def __init__(self) -> None:
        """Begin empty; a capture fills it as the answer passes."""
        self.is_exact = True
        self._parts: list[_Part] = []
        self._run = bytearray()

    @classmethod
    def of_text(cls, text: bytes) -> Skeleton:
        """Make the skeleton of an answer that has no base64 in it."""
        skeleton = cls()
        skeleton.add_text(text)
        return skeleton

    def add_text(self, text: bytes) -> None:
        """Append text that the client gets."""
        self._run += text

    def add_image(self, slot: int, *, is_canonical: bool, has_escaped_slashes: bool) -> None:
        """Append an image, and how its base64 was written."""
        self.is_exact = self.is_exact and is_canonical
        self._parts.append(_Part(bytes(self._run), slot, _ESCAPED if has_escaped_slashes else 0))
        self._run.clear()

    def begin_event(self) -> int:
        """Part what follows from what was before; give the mark for `drop_later`."""
        if self._run:
            self._parts.append(_Part(bytes(self._run), _NO_IMAGE, 0))
            self._run.clear()
        return len(self._parts)

    def end_partial(self, mark: int) -> None:
        """Note that all since `mark` is a partial image's event, which later replays can do without."""
        self.begin_event()
        self._parts[mark:] = [part._replace(flags=part.flags | _PARTIAL) for part in self._parts[mark:]]

    def document(self) -> bytes:
        """Give the text with the number of each image's slot in its place: valid JSON if the answer was."""
        numbered = [part.text + (b"%d" % part.slot if part.slot >= 0 else b"") for part in self._parts]
        return b"".join([*numbered, self._run])

    def numbered(self, positions: Mapping[int, int]) -> Skeleton:
        """Give it with final images numbered by their position in the call, as storage and index know them."""
        skeleton = Skeleton()
        skeleton.is_exact = self.is_exact
        skeleton._parts = [
            part
            if part.slot == _NO_IMAGE or part.flags & _PARTIAL
            else part._replace(slot=positions[part.slot])
            for part in self._parts
        ]
        skeleton._run = self._run
        return skeleton

    def steps(self, *, partials: bool = True) -> Iterator[bytes | Slot]:
        """Give the client's bytes again, in steps of at most 192 KiB, with a slot where an image's base64 has to go."""
        for text, slot, flags in self._all_parts():
            if flags & _PARTIAL and not partials:
                continue
            for at in range(0, len(text), 192 * 1024):
                yield text[at : at + 192 * 1024]
            if slot != _NO_IMAGE:
                yield Slot(slot, bool(flags & _PARTIAL), bool(flags & _ESCAPED))

    def render(self, read_image: Callable[[int], Iterable[bytes]]) -> Iterator[bytes]:
        """Give the client's bytes with the images in them; `read_image` reads that of a slot, and may block."""
        for step in self.steps():
            if isinstance(step, bytes):
                yield step
                continue
            encoder = Base64(step)
            for piece in read_image(step.number):
                yield from encoder.feed(piece)
            if rest := encoder.finish():
                yield rest

    def slots(self, *, partials: bool = True) -> list[Slot]:
        """Name the images in it, in their order."""
        return [step for step in self.steps(partials=partials) if isinstance(step, Slot)]

    @property
    def is_json(self) -> bool:
        """Whether the answer is one document, and not a stream of events."""
        text = b"".join([part.text for part in self._all_parts()[:1]])
        return text.lstrip().startswith(b"{")

    def _all_parts(self) -> list[_Part]:
        return [*self._parts, _Part(bytes(self._run), _NO_IMAGE, 0)] if self._run else self._parts

    def to_bytes(self) -> bytes:
        """Write it for the ledger."""
        out = [_HEAD.pack(_VERSION, _EXACT if self.is_exact else 0)]
        for text, slot, flags in self._all_parts():
            out += (_PART.pack(len(text), slot, flags), text)
        return b"".join(out)

    @classmethod
    def from_bytes(cls, data: bytes) -> Skeleton:
        """Read what `to_bytes` wrote; ValueError if it is anything else."""
        skeleton = cls()
        at = _HEAD.size
        try:
            version, flags = _HEAD.unpack_from(data)
            if version != _VERSION:
                raise ValueError(f"skeleton of version {version}, this program knows {_VERSION}")
            while at < len(data):
                size, slot, part_flags = _PART.unpack_from(data, at)
                at += _PART.size + size
                skeleton._parts.append(_Part(data[at - size : at], slot, part_flags))
        except struct.error as exc:
            raise ValueError("cut skeleton") from exc
        if at != len(data):
            raise ValueError("cut skeleton")
        skeleton.is_exact = bool(flags & _EXACT)
        return skeleton


class Base64:
    """Encodes an image that comes in pieces of any size."""

    __slots__ = ("_escapes_slashes", "_rest")

    def __init__(self, slot: Slot) -> None:
        """Write slashes as the slot's base64 had them."""
        self._escapes_slashes = slot.escapes_slashes
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Encode what came so far, but for a rest of one or two bytes."""
        data = self._rest + piece if self._rest else piece
        whole = len(data) - len(data) % 3
        for at in range(0, whole, _ENCODE_BYTES):
            yield self._encode(memoryview(data)[at : min(at + _ENCODE_BYTES, whole)])
        self._rest = bytes(data[whole:])

    def finish(self) -> bytes:
        """Encode the rest."""
        return self._encode(memoryview(self._rest))

    def _encode(self, data: memoryview) -> bytes:
        text = b64encode(data)
        return text.replace(b"/", b"\\/") if self._escapes_slashes else text
