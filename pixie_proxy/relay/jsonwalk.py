"""Finds where images begin in JSON text that is still arriving.

`JsonWalk` knows where in the document it is: depth, path, inside a string or not. It looks at tokens with possessive
regular expressions, so a skeleton costs a few dozen steps and no input makes it backtrack. Only valid JSON has to be
understood rightly: whoever walks parses the text without its images once more at the end, and what is no JSON fails
there.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

MORE: Final = 0
"""The text is used up; go on when there is more of it."""
IMAGE: Final = 1
"""At `JsonWalk.at` begins the base64 of an image, behind its opening quote and a data-URL prefix, if there is one."""
CLOSED: Final = 2
"""At `JsonWalk.at` is the `}` that closes the document."""
NO_OBJECT: Final = 3
"""The text is not one JSON object."""

_QUOTE, _COMMA, _COLON, _BACKSLASH = b'",:\\'
_OPEN_OBJECT, _OPEN_ARRAY = b"{["
_ROOT, _TOP, _DATA, _ITEM, _OTHER = range(5)

_STRING_BODY = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_LEAF = rb'[{\[](?:[^"{}\[\]]++|"' + _STRING_BODY + rb'")*+[}\]]'
_PLAIN = rb'[^"{}\[\]]++|'
_SKIP = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"\s*+",
        # In the top object and in items a key that matters stops the match, and so does a string with escapes, which
        # could be such a key in disguise. Containers without containers are skipped whole.
        rb"(?:" + _PLAIN + rb'"(?!data")[^"\\]*+"|' + _LEAF + rb")*+",
        rb'(?:[^",{}\[\]]++|"' + _STRING_BODY + rb'")*+',
        rb"(?:" + _PLAIN + rb'"(?!b64_json")[^"\\]*+"|' + _LEAF + rb")*+",
        rb"(?:" + _PLAIN + rb'"' + _STRING_BODY + rb'"|' + _LEAF + rb")*+",
    )
]
_SKIP_WITH_URLS = [*_SKIP]
_SKIP_WITH_URLS[_ITEM] = re.compile(
    rb'(?:[^",{}\[\]]++|"(?!b64_json"|url")[^"\\]*+"|' + _LEAF + rb")*+", re.DOTALL
)
_BODY = re.compile(_STRING_BODY, re.DOTALL)
_STRING = re.compile(rb'"' + _STRING_BODY + rb'"', re.DOTALL)
_SPACE = _SKIP[_ROOT]
_LONGEST_KEY = 6 * len("b64_json")  # every character as \uXXXX

_PREFIX = re.compile(rb'data:[^,"\r\n]{0,200}+,')
_PREFIX_BEGUN = re.compile(rb'd(?:a(?:t(?:a(?::[^,"\r\n]{0,200}+)?+)?+)?+)?+')


class JsonWalk:
    """Follows one JSON object through text that grows, and stops where an image's base64 begins.

    Images are the non-empty strings at `$.data[i].b64_json`, or at `$.b64_json` when `flat`. With `urls` the walk also
    notes in `cuts` which stretches of the text are `url` members of an object that has an image.
    """

    __slots__ = (
        "_comma", "_early_cuts", "_flat", "_has_image", "_in_value", "_key", "_key_at", "_mode", "_nested",
        "_parent", "_probed", "_saw_colon", "_skip", "_url_at", "_urls", "at", "cuts", "item",
    )  # fmt: skip

    def __init__(self, *, flat: bool, urls: bool) -> None:
        """Begin before the document."""
        self._flat = flat
        self._urls = urls
        self._skip = _SKIP_WITH_URLS if urls else _SKIP
        self._mode = _ROOT
        self._parent = _ROOT
        self._nested = 0  # containers open below the last one that matters
        self._probed = 0  # bytes of the cut string at the text's end that hold no closing quote
        self._key = b""  # a key that matters, until its value begins
        self._key_at = 0
        self._saw_colon = False
        self._in_value = False  # behind the opening quote of a b64_json
        self.at = 0
        self.item = 0
        """Index in `data` of the object that the walk is in."""
        self.cuts: list[tuple[int, int]] = []
        self._early_cuts: list[tuple[int, int]] = []  # they count once the object turns out to have an image
        self._enter_item()

    @property
    def is_in_string(self) -> bool:
        """Whether the text ends within a string, where JSON allows no line end."""
        return self._in_value or self._probed > 0

    def walk(self, text: bytearray, at: int, end: int) -> int:
        """Go on from `at`, where the last call stopped, to `end`; return why it stopped, and where in `self.at`."""
        while True:
            if self._in_value or self._key or self._probed:
                stop = self._finish_token(text, at, end)
                at = self.at
                if stop is not None:
                    return stop
            if (match := self._skip[self._mode].match(text, at, end)) is not None:
                at = match.end()
            if at == end:
                self.at = at
                return MORE
            byte = text[at]
            if self._mode == _ROOT:
                self.at = at
                if byte != _OPEN_OBJECT:
                    return NO_OBJECT
                self._mode = _ITEM if self._flat else _TOP
            elif byte == _QUOTE:
                at = self._string(text, at, end)
                continue
            elif byte == _COMMA:
                self._pass_comma(at)
            elif byte in b"{[":
                self._open(byte)
            elif self._close(at):
                self.at = at
                return CLOSED
            at += 1

    def resume(self, at: int) -> None:
        """Go on behind an image: its closing quote is the first byte of a new text, `at` the byte that comes next."""
        self.at = at
        self.cuts = []
        self._comma = -1

    def _finish_token(self, text: bytearray, at: int, end: int) -> int | None:
        """Go on within a string that was cut, or between a key that matters and its value."""
        if self._probed:
            stop = match.end() if (match := _BODY.match(text, at + self._probed, end)) else end
            self.at = at
            if stop == end or text[stop] != _QUOTE:
                self._probed = stop - at
                return MORE
            self._probed = 0
            return None
        while self._key:
            at = match.end() if (match := _SPACE.match(text, at, end)) else at
            self.at = at
            if at == end:
                return MORE
            if not self._saw_colon:
                if text[at] != _COLON:
                    self._key = b""  # it was a value that looks like a key
                    return None
                self._saw_colon = True
                at += 1
            else:
                at = self._begin_value(text[at], at)
        self.at = at
        return self._begin_image(text, at, end) if self._in_value else None

    def _begin_value(self, byte: int, at: int) -> int:
        """See what a key that matters holds."""
        key, self._key, self._saw_colon = self._key, b"", False
        if key == b"b64_json":
            self._in_value = byte == _QUOTE
            return at + self._in_value
        if key == b"data" and byte == _OPEN_ARRAY:
            self._mode, self.item = _DATA, 0
            return at + 1
        if key == b"url":
            self._url_at = self._key_at
        return at

    def _begin_image(self, text: bytearray, at: int, end: int) -> int | None:
        """Decide where the base64 of the string begins whose content begins at `at`."""
        if at == end:
            return MORE
        if (match := _PREFIX.match(text, at, end)) is not None:
            self.at = match.end()
        elif _PREFIX_BEGUN.fullmatch(text, at, end):
            return MORE
        self._in_value = False
        if text[at] == _QUOTE:  # "" is no image
            self.at = at + 1
            return None
        self._has_image = True
        self.cuts += self._early_cuts
        self._early_cuts = []
        return IMAGE

    def _string(self, text: bytearray, at: int, end: int) -> int:
        """Take a string that the patterns left: one cut by the text's end, a key that matters, or one with escapes."""
        match = _STRING.match(text, at, end)
        if match is None:
            self._probed = 1
            return at
        if self._mode in (_TOP, _ITEM):
            self._key = self._known_key(text, at + 1, match.end() - 1)
            self._key_at = at
        return match.end()

    def _known_key(self, text: bytearray, at: int, end: int) -> bytes:
        """Give the key that a string spells if it matters in this object, else nothing."""
        if end - at > _LONGEST_KEY:
            return b""
        key = bytes(text[at:end])
        if _BACKSLASH in key:
            try:
                key = orjson.loads(b'"' + key + b'"').encode()
            except orjson.JSONDecodeError:
                return b""
        if self._mode == _TOP:
            return key if key == b"data" else b""
        return key if key == b"b64_json" or (key == b"url" and self._urls) else b""

    def _enter_item(self) -> None:
        self._has_image = False
        self._comma = -1  # where the last comma of this object is
        self._url_at = -1  # where the open `url` member begins
        self._early_cuts = []

    def _open(self, byte: int) -> None:
        if self._mode == _OTHER:
            self._nested += 1
        elif self._mode == _DATA and byte == _OPEN_OBJECT:
            self._mode = _ITEM
            self._enter_item()
        else:
            self._parent, self._mode, self._nested = self._mode, _OTHER, 1

    def _close(self, at: int) -> bool:
        """Leave a container; true for the last one."""
        if self._mode == _OTHER:
            self._nested -= 1
            if not self._nested:
                self._mode = self._parent
            return False
        if self._mode == _DATA:
            self._mode = _TOP
            return False
        if self._mode == _ITEM:
            self._end_member(at)
            if not self._flat:
                self._mode = _DATA
                return False
        return True

    def _pass_comma(self, at: int) -> None:
        if self._mode == _DATA:
            self.item += 1
        else:
            self._end_member(at)
            self._comma = at

    def _end_member(self, at: int) -> None:
        """Note a `url` member that ends at a comma or bracket: it goes with the comma that parts it from the image."""
        if self._url_at >= 0:
            if self._has_image:
                self.cuts.append((self._comma, at))
            else:
                self._early_cuts.append((self._url_at, at + 1))
            self._url_at = -1
