"""Captures a stream of server-sent events whose data are JSON objects with an image each.

Lines and events are those of the WHATWG's HTML standard (section 9.2.6): LF, CR and CRLF in any mixture, a BOM,
comments, several `data:` lines in one event. An event passes whole at its blank line, but for its base64, which passes
as it comes.
"""

from __future__ import annotations

from typing import Any, Final

from pixie_proxy.relay.jsonwalk import IMAGE, MORE, JsonWalk
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
from pixie_proxy.relay.outcome import Outcome, kind_of
from pixie_proxy.relay.pieces import AnswerBroken, AnswerTruncated, EventEnded, EventKind
from pixie_proxy.relay.scrubbing import Scrub

_BOM: Final = b"\xef\xbb\xbf"
_DATA: Final = b"data:"
_LF, _CR, _COLON = b"\n\r:"


class SseCapture(Capture):
    """Captures the image at `$.b64_json` of each event; `type` tells partial images from final ones.

    Of an event with a final image, all from the closing quote of its base64 on is withheld. A stream whose last event
    only lacks line ends is mended by `finish`.
    """

    def __init__(
        self,
        *,
        link: Link | None = None,
        mute: bool = False,
        scrub: Scrub = bytes,
        expected: int = 1,
        max_bytes: int = MAX_BYTES,
        max_text_bytes: int = MAX_TEXT_BYTES,
    ) -> None:
        """Begin before the first byte; `link` is asked for `completed` events only, of which `expected` are due."""
        super().__init__(
            link=link, mute=mute, scrub=scrub, max_bytes=max_bytes, max_text_bytes=max_text_bytes
        )
        self._outcome = Outcome(expected)
        self._may_have_bom = True
        self._line_end = b"\n"  # as the upstream writes it
        self._is_after_cr = False  # a LF that comes next belongs to the last line
        self._begin_event()

    @property
    def between_events(self) -> bool:
        """Whether no event is given out in part."""
        return self._is_mute or self._mark is None

    @property
    def is_complete(self) -> bool:
        """Whether all that is due came, an error or `[DONE]`, and no event is open behind it."""
        return self._outcome.is_whole and self._is_idle and not (self._is_broken or self._outcome.is_spoilt)

    @property
    def completed(self) -> int:
        """How many final images, or links to one, have come."""
        return self._outcome.completed

    @property
    def _is_idle(self) -> bool:
        line = self._text[self._line_at : self._line_at + 1]
        return not self._has_lines and self._image is None and bytes(line) in {b"", b":"}

    def _begin_event(self) -> None:
        self._walk = JsonWalk(flat=True, urls=self._link is not None)
        self._is_walking = True
        self._payload = bytearray()  # the data lines, with slot numbers for images
        self._name = b""  # of the event: line
        self._has_lines = False  # any but comments
        self._mark: int | None = None  # where the event begins in the skeleton, once an image began
        self._begin_line(0)

    def _begin_line(self, at: int) -> None:
        self._line_at = at
        self._looked = at  # there is no line end before
        self._is_data: bool | None = None  # None: not enough of the line came
        self._payload_at = at  # what the payload does not have yet

    def _read_text(self, chunk: bytes, at: int) -> int:
        window = chunk[at : at + WINDOW_BYTES]
        self._text += window
        begin = self._read_lines()
        if begin >= 0:
            return self._begin_image(begin, chunk, at)
        self._check_room()
        return at + len(window)

    def _read_lines(self) -> int:
        """Read to the text's end, or to where an image begins, and return that; else -1."""
        while True:
            if self._is_after_cr and self._line_at < len(self._text):
                self._skip_line_feed()
            end = self._find_line_end()
            stop = len(self._text) if end < 0 else end
            if self._is_data is None:
                self._recognise(stop, is_whole=end >= 0)
            if self._is_data and self._is_walking:
                why = self._walk.walk(self._text, self._walk.at, stop)
                if why == IMAGE:
                    return self._walk.at
                self._is_walking = why == MORE
            if end < 0:
                return -1
            self._end_line(end)

    def _find_line_end(self) -> int:
        line_feed = self._text.find(b"\n", self._looked)
        stop = len(self._text) if line_feed < 0 else line_feed
        end = self._text.find(b"\r", self._looked, stop)
        if end < 0:
            end = line_feed
        self._looked = stop
        return end

    def _recognise(self, stop: int, *, is_whole: bool) -> None:
        """Tell a data line from others as soon as its bytes allow."""
        if self._may_have_bom:
            start = bytes(self._text[:3])
            if start != _BOM and _BOM.startswith(start) and not is_whole:
                return
            self._may_have_bom = False
            if start == _BOM:
                self._begin_line(3)
        start = bytes(self._text[self._line_at : min(stop, self._line_at + len(_DATA))])
        if start == _DATA:
            self._is_data = True
            self._payload_at = self._walk.at = self._line_at + len(_DATA)
        elif is_whole or not _DATA.startswith(start):
            self._is_data = False

    def _skip_line_feed(self) -> None:
        self._is_after_cr = False
        if self._text[self._line_at] != _LF:
            self._line_end = b"\r"
            return
        self._line_end = b"\r\n"
        self._begin_line(self._line_at + 1)
        if not self._has_lines:
            self._pass(self._line_at)

    def _end_line(self, end: int) -> None:
        after = end + 1
        if self._text[end] == _LF:
            self._line_end = b"\n"
        elif after == len(self._text):
            self._is_after_cr = True
        elif self._text[after] == _LF:
            self._line_end = b"\r\n"
            after += 1
        else:
            self._line_end = b"\r"
        if end == self._line_at:
            self._end_event(after)
            return
        if self._is_data:
            self._has_lines = True
            self._payload += self._text[self._payload_at : end]
            self._payload += b"\n"
            if self._walk.is_in_string:  # JSON has no strings across lines
                self._is_walking = False
        elif self._text[self._line_at] != _COLON:
            self._has_lines = True
            if self._text.startswith(b"event:", self._line_at, end):
                self._name = bytes(self._text[self._line_at + 6 : end]).strip()
        elif not self._has_lines:
            self._pass(after)
            return
        self._begin_line(after)

    def _pass(self, end: int) -> None:
        """Let comments and stray line ends go at once."""
        text = self._cut_text(end, [])
        self._skeleton.add_text(text)
        self._relay(text)
        self._begin_line(0)

    def _end_event(self, end: int) -> None:
        if not self._has_lines:
            self._pass(end)
            return
        if is_done := self._payload.strip() == b"[DONE]":
            self._outcome.is_done = True
        fields = self._load(bytes(self._payload))
        if fields is None and not is_done:
            # The standard drops an event without data, and SDKs die of it, as of one that is no JSON.
            self._cut_text(end, [])
            self._spoil()
            self._begin_event()
            return
        fields = fields or {}
        kind = kind_of(fields, self._name)
        slot = lift_slot(fields)
        if self._mark is None:
            self._pass(end)
        else:
            self._give_tail(end, kind, slot, fields, self._mark)
        self._outcome.note(kind, has_image=slot is not None or is_link(fields))
        self._end_relay()
        self._pieces.append(EventEnded(kind, slot, fields))
        self._begin_event()

    def _give_tail(
        self, end: int, kind: EventKind, slot: int | None, fields: dict[str, Any], mark: int
    ) -> None:
        """Give out an event's bytes from the closing quote of its image on."""
        cuts = []
        if kind == "completed" and self._link is not None and slot in self._whole:
            member = url_member(self._link(self.completed, self._mime))
            cuts = [(start + len(member), stop + len(member)) for start, stop in self._walk.cuts]
            self._text[1:1] = member
            end += len(member)
            fields.pop("url", None)
        text = self._cut_text(end, cuts)
        self._skeleton.add_text(text)
        if kind == "partial":  # there is nothing to keep, so nothing to wait for
            self._relay(text)
        else:
            self._withhold(text)
        if kind != "completed":
            self._skeleton.end_partial(mark)

    def _give_head(self, begin: int) -> None:
        self._payload += self._text[self._payload_at : begin]
        if self._mark is None:
            self._mark = self._skeleton.begin_event()
        cuts = self._walk.cuts
        if cuts and kind_of(self._load(self._payload + b'"}') or {}, self._name) == "partial":
            cuts = []
        self._payload += b"%d" % self._slots
        text = self._cut_text(begin, cuts)
        self._skeleton.add_text(text)
        self._relay(text)

    def _resume_text(self, slot: int) -> None:
        self._text += b'"'
        self._walk.resume(1)
        self._begin_line(0)
        self._is_data = self._has_lines = True

    def _check_image_text(self, chunk: bytes, at: int, end: int) -> None:
        if chunk.find(b"\n", at, end) >= 0 or chunk.find(b"\r", at, end) >= 0:
            raise AnswerBroken("a line ended within an image")

    def _spoil(self) -> None:
        """Give up an event that was given out in part and has no good end. Its image is good, if it is whole."""
        if self._mark is None:
            return
        self._outcome.is_spoilt = True
        slot = self._slots - 1
        if self._image is None and slot in self._whole and self._looks_final:
            self._pieces.append(EventEnded("completed", slot, None))
        else:
            self._pieces.append(EventEnded("other", slot if self._image is None else None, None))

    @property
    def _looks_final(self) -> bool:
        return self._name.endswith(b".completed") or b'.completed"' in self._payload

    def _fail(self, exc: AnswerBroken) -> None:
        self._spoil()
        super()._fail(exc)

    def _load(self, payload: bytes | bytearray) -> dict[str, Any] | None:
        """Parse an event's data: None for what is no JSON."""
        try:
            fields = load_json(self._scrub(bytes(payload)))
        except ValueError:
            return None
        return fields if isinstance(fields, dict) else {}

    def _pause(self) -> None:
        """Keep an event together: its bytes go out at its blank line."""

    def _end(self, *, was_cut: bool) -> None:
        if not self._is_idle:
            self._mend()
        elif self._text:
            self._pass(len(self._text))
        self._outcome.judge(was_cut=was_cut)

    def _mend(self) -> None:
        """End an event that is whole but for its line ends: clients drop an event without its blank line silently."""
        payload = bytes(self._payload)
        if self._is_data:
            payload += self._text[self._payload_at :]
        if payload.strip() != b"[DONE]":
            kind = kind_of(self._load(payload) or {}, self._name)
            if kind not in {"completed", "error"}:
                raise AnswerTruncated("the stream ended within an event")
        if self._is_after_cr:
            self._text += b"\n"
        elif self._line_at < len(self._text):
            self._text += self._line_end
        self._text += self._line_end
        self._read_lines()
