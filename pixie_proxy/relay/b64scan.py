"""Decodes the base64 inside a JSON string as it arrives, in bounded memory.

Base64 is never looked at byte by byte: its end is a `bytes.find`, its bytes go to pybase64.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from typing import Final

from pybase64 import b64decode

STEP_BYTES: Final = 192 * 1024
"""How much base64 one step should take at most; a multiple of four."""

_BACKSLASH = 0x5C
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_ESCAPE = re.compile(rb"\\(?:u00([0-9a-fA-F]{2})|(.))", re.DOTALL)


def _unescape_one(match: re.Match[bytes]) -> bytes:
    """Give what a JSON escape stands for, nothing for white space; any other one stays, and is no base64."""
    if (code := match[1]) is not None:
        return bytes.fromhex(code.decode())
    return {b"/": b"/", b"n": b"", b"r": b"", b"t": b""}.get(match[2], match[0])


class Base64Stream:
    r"""Decodes the inside of one JSON string of base64 that comes in pieces.

    Escapes (`\/`, `\u002b`) and escaped line ends are understood. After `finish`, `is_ok` tells whether all of it was
    base64, and `is_canonical` whether encoding the bytes again gives the same text, with every `/` written as `\/` if
    `has_escaped_slashes`.
    """

    __slots__ = (
        "_has_plain_slashes", "_is_after_backslash", "_is_padded", "_raw", "_rest", "has_escaped_slashes",
        "is_canonical", "is_ok", "size_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin behind the opening quote."""
        self.is_ok = True
        self.is_canonical = True
        self.has_escaped_slashes = False
        self.size_bytes = 0
        self._has_plain_slashes = False
        self._is_padded = False
        self._is_after_backslash = False
        self._rest = b""  # base64 that fills no four characters yet
        self._raw = b""  # behind it, an escape that is not whole yet

    def find_end(self, chunk: bytes, at: int) -> int:
        """Find the closing quote from `at` on; -1 means that the whole chunk belongs to the image."""
        quote = chunk.find(b'"', at)
        while quote >= 0 and self._is_escaped(chunk, at, quote):
            quote = chunk.find(b'"', quote + 1)
        if quote < 0:
            self._is_after_backslash = self._is_escaped(chunk, at, len(chunk))
        return quote

    def decode(self, chunk: bytes, at: int, end: int) -> bytes:
        """Decode the next piece; nothing comes out any more once it was no base64."""
        if not self.is_ok:
            return b""
        size = (len(self._rest) + end - at) & ~3  # base64 counts in fours
        if not size or self._is_padded or self._raw or self.has_escaped_slashes:
            return self._decode_escaped(chunk[at:end])
        stop = at + size - len(self._rest)
        text: bytes | memoryview = memoryview(chunk)[at:stop]
        if self._rest:
            text = self._rest + text
        try:
            found = b64decode(text, validate=True)
        except ValueError:
            return self._decode_escaped(chunk[at:end])
        if not self._has_plain_slashes:
            self._has_plain_slashes = chunk.find(b"/", at, stop) >= 0
        self._check_padding(size, bytes(text[-4:]), found)
        self._rest = self._unescape(chunk[stop:end]) if stop < end else b""
        return found

    def finish(self) -> bytes:
        """Decode what is left at the closing quote: some write base64 without its padding."""
        found = b""
        if self._raw or len(self._rest) == 1:
            self.is_ok = False
        elif self._rest and self.is_ok:
            self.is_canonical = False
            found = self._decode_fours(self._rest + b"=" * (4 - len(self._rest)))
        self.is_ok = self.is_ok and self.size_bytes > 0
        if not self.is_ok or (self.has_escaped_slashes and self._has_plain_slashes):
            self.is_canonical = False
        return found

    def _is_escaped(self, chunk: bytes, at: int, index: int) -> bool:
        """Whether an odd run of backslashes ends before `index`; it may have begun in the last chunk."""
        first = index
        while first > at and chunk[first - 1] == _BACKSLASH:
            first -= 1
        return (index - first) % 2 != (self._is_after_backslash and first == at)

    def _decode_escaped(self, raw: bytes) -> bytes:
        text = self._unescape(raw)
        if self._is_padded and text:
            self.is_ok = False
            return b""
        text = self._rest + text
        size = len(text) & ~3
        self._rest = text[size:]
        return self._decode_fours(text[:size]) if size else b""

    def _decode_fours(self, text: bytes) -> bytes:
        try:
            found = b64decode(text, validate=True)
        except ValueError:
            self.is_ok = False
            return b""
        self._check_padding(len(text), text[-4:], found)
        return found

    def _unescape(self, raw: bytes) -> bytes:
        """Take JSON's escapes out; one that is not whole yet waits in `_raw`."""
        raw = self._raw + raw
        self._raw = b""
        if (cut := _CUT_ESCAPE.search(raw, max(0, len(raw) - 5))) is not None:
            self._raw = cut[0]
            raw = raw[: cut.start()]
        text = raw.replace(rb"\/", b"/")
        escaped = len(raw) - len(text)
        self.has_escaped_slashes = self.has_escaped_slashes or escaped > 0
        self._has_plain_slashes = self._has_plain_slashes or raw.count(b"/") > escaped
        if b"\\" in text:
            self.is_canonical = False
            return _ESCAPE.sub(_unescape_one, raw)
        return text

    def _check_padding(self, size: int, last: bytes, found: bytes) -> None:
        """Count what was decoded; padding ends the base64, and the bits before it should be zeros."""
        self.size_bytes += len(found)
        missing = size // 4 * 3 - len(found)
        if missing:
            self._is_padded = True
            # binascii: pybase64 gives the interpreter's lock away, which costs far more than three bytes do.
            if b2a_base64(found[missing - 3 :], newline=False) != last:
                self.is_canonical = False
