"""Everything that an upstream can do wrong, as a table: what it sends for what was asked, and what must come of it."""

# ruff: noqa: ARG005 - what is sent may depend on what was asked, and mostly does not

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.support.pictures import png
from tests.support.upstream import (
    Exchange,
    Handler,
    Received,
    Script,
    body,
    cut,
    error_bytes,
    head,
    image_json_bytes,
    image_sse_events,
    pause,
    raw,
    sse_event,
    stall,
)

PICTURES = [png(size_bytes=60_000, seed=seed) for seed in (1, 2)]
"""What is asked for, and what a good answer holds: together more than what is handed over in one piece."""

End = Literal["images", "unknown", "failed", "any"]
"""What becomes of a call: its pictures, an error and perhaps a charge, an error and none; any: one of the first two."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What the client asked for."""

    is_stream: bool
    is_edit: bool

    @property
    def kind(self) -> Literal["generation", "edit"]:
        return "edit" if self.is_edit else "generation"

    @property
    def parts(self) -> list[bytes]:
        """A good answer, in as many parts as it has pictures (a stream has a partial image before each)."""
        if self.is_stream:
            events = image_sse_events(PICTURES, partials=1, kind=self.kind)
            return [events[0] + events[1], events[2] + events[3]]
        whole = image_json_bytes(PICTURES)
        at = whole.index(b'"', whole.index(b"b64_json") + 20) + 1
        return [whole[:at], whole[at:]]

    @property
    def whole(self) -> bytes:
        return b"".join(self.parts)

    def upto(self, share: float) -> bytes:
        """Give a good answer up to somewhere: 0.5 is near the end of its first picture."""
        return self.whole[: int(len(self.whole) * share)]

    @property
    def type(self) -> str:
        return "text/event-stream" if self.is_stream else "application/json"

    @property
    def other(self) -> Ask:
        """The same in the form that was not asked for."""
        return Ask(not self.is_stream, self.is_edit)


def ask_of(request: Received) -> Ask:
    """See what a request asks for, even if only its first bytes were read."""
    is_stream = re.search(rb'"stream":true|name="stream"\r\n\r\ntrue', request.body or b"") is not None
    return Ask(is_stream, request.path.endswith("edits"))


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, and what comes of it.

    `kept`: how many pictures each call leaves behind; `code`: the error's; `gives`: the pictures that come; `sends`:
    how often each call is sent; `is_slow`: only a bound in time ends it.
    """

    script: Callable[[Ask], Script]
    end: End = "unknown"
    kept: int = 0
    code: str | None = "upstream_outcome_unknown"
    gives: tuple[bytes, ...] = tuple(PICTURES)
    before_body: bool = False
    sends: int = 1
    is_slow: bool = False


def good(data: bytes, ask: Ask, *, framing: Any = "chunked", status: int = 200, **headers: str) -> list[Any]:
    """Answer with `data`; headers are written with `_`, and `content_type=""` leaves the type out."""
    told = {"content_type": ask.type, **headers}
    pairs = [(name.replace("_", "-"), value) for name, value in told.items() if value]
    return [head(status, pairs, framing), body(data)]


def long(data: bytes, ask: Ask, length: int = 10**6) -> list[Any]:
    """Answer with `data` and promise `length` bytes of it."""
    return [head(200, [("Content-Type", ask.type)], length=length), body(data)]


def refusing(status: int, **fields: Any) -> Callable[[Ask], Script]:
    return lambda ask: [head(status), body(error_bytes(**fields))]


def page(status: int, text: bytes = b"<html>Bad gateway</html>") -> Callable[[Ask], Script]:
    return lambda ask: [head(status, [("Content-Type", "text/html")]), body(text)]


def forever(data: bytes, every_s: float = 0) -> Handler:
    """Send the same bytes for ever, or until nobody takes them any more."""

    async def run(exchange: Exchange) -> None:
        while True:
            await exchange.send(data)
            await asyncio.sleep(every_s)

    return run


def raw_forever(data: bytes, every_s: float = 0) -> Handler:
    async def run(exchange: Exchange) -> None:
        while True:
            await exchange.write(data)
            await asyncio.sleep(every_s)

    return run


def spoilt(ask: Ask) -> bytes:
    """Put something that is no base64 into the second final picture."""
    where = ask.whole.rindex(b"iVBOR") + 5000
    return ask.whole[:where] + b"*" + ask.whole[where + 1 :]


def with_field(ask: Ask, text: bytes) -> bytes:
    """Add a member to the document, or to each event."""
    return ask.whole.replace(b'"size":', b'"x":' + text + b',"size":')


def documents_of(ask: Ask, *files: bytes) -> bytes:
    if ask.is_stream:
        return b"".join(image_sse_events(files, kind=ask.kind))
    return image_json_bytes(files)


def early(ask: Ask) -> bytes:
    """Send partial images behind the final ones."""
    if not ask.is_stream:
        return image_json_bytes(PICTURES, order=("data", "usage", "created"))
    events = image_sse_events(PICTURES, partials=1, kind=ask.kind)
    return events[1] + events[0] + events[3] + events[2]


def never(ask: Ask) -> bytes:
    """Send partial images only; or items without anything in them, in a document that is no JSON."""
    if not ask.is_stream:
        return b'{"created":1,"data":[{"b64_json":null},{"b64_json":""},]}'
    events = image_sse_events(PICTURES, partials=2, kind=ask.kind)
    return events[0] + events[1] + events[3] + events[4]


def line_ends(ask: Ask, *ends: bytes) -> bytes:
    lines = ask.whole.split(b"\n")
    return b"".join(line + ends[i % len(ends)] for i, line in enumerate(lines[:-1])) + lines[-1]


def flood(ask: Ask, count: int) -> bytes:
    return (b": still there %s\n\n" % (b"." * 90) if ask.is_stream else b" " * 105 + b"\n") * count


def tiny_pictures(ask: Ask) -> bytes:
    partial = {"type": f"image_{ask.kind}.partial_image", "b64_json": "QUJD"}
    return (sse_event(partial) if ask.is_stream else b',{"b64_json":"QUJD"}') * 300


def error_told(ask: Ask) -> bytes:
    error = {
        "type": "image_generation_user_error",
        "code": "moderation_blocked",
        "message": "no",
        "param": None,
    }
    if ask.is_stream:
        return sse_event({"type": "error", "error": error, "sequence_number": 0})
    return json.dumps({"error": error}).encode()


def gzipped(ask: Ask) -> bytes:
    return gzip.compress(ask.whole, 1)


UPGRADE = b"HTTP/1.1 101 Up\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
LONG = b"x" * 5_000_000
FAULTS: dict[str, Fault] = {
    # The connection and the head.
    "closed at once": Fault(lambda ask: cut(), before_body=True),
    "reset at once": Fault(lambda ask: cut("rst"), before_body=True),
    "closed without an answer": Fault(lambda ask: cut()),
    "reset without an answer": Fault(lambda ask: cut("rst")),
    "silent without reading": Fault(lambda ask: stall(is_reading=False), before_body=True, is_slow=True),
    "silent before the head": Fault(lambda ask: stall(), is_slow=True),
    "silent within the head": Fault(lambda ask: [raw(b"HTTP/1.1 200 OK\r\nContent-"), stall()], is_slow=True),
    "cut within the head": Fault(lambda ask: [raw(b"HTTP/1.1 200 OK\r\nContent-"), cut()]),
    "a head that drips": Fault(lambda ask: [raw(b"HTTP/1.1 200 OK\r\nX: "), raw_forever(b"x", 0.05)], is_slow=True),
    "a head without end": Fault(lambda ask: [raw(b"HTTP/1.1 200 OK\r\n"), raw_forever(b"X: y\r\n" * 999)]),
    "a header of 200 kB": Fault(lambda ask: good(ask.whole, ask, x_big="x" * 200_000)),
    "no HTTP": Fault(lambda ask: [raw(b"SSH-2.0-OpenSSH\r\n\r\n"), cut()]),
    "a status that is no number": Fault(lambda ask: [raw(b"HTTP/1.1 abc OK\r\n\r\n"), cut()]),
    "another protocol": Fault(lambda ask: [raw(UPGRADE), cut()]),
    "two lengths": Fault(lambda ask: good(ask.whole, ask, framing="length", content_length="7")),
    "a length and chunks": Fault(lambda ask: good(ask.whole, ask, content_length="7")),
    "1xx without end": Fault(lambda ask: raw_forever(b"HTTP/1.1 102 Processing\r\n\r\n" * 20, 0.01)),
    "1xx for a while": Fault(
        lambda ask: [raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 500), *good(ask.whole, ask)], "images", 2
    ),
    "an id in no alphabet": Fault(
        lambda ask: good(ask.whole, ask, x_request_id="\xe4\xff" + "x" * 900), "images", 2
    ),
    "an answer before the request": Fault(
        lambda ask: good(ask.whole, ask, connection="close"), "images", 2, before_body=True
    ),
    # Cuts, by both ends, in every framing.
    "FIN in a length": Fault(lambda ask: [*long(ask.upto(0.2), ask), cut()]),
    "FIN in chunks": Fault(lambda ask: [*good(ask.upto(0.2), ask), cut()]),
    "FIN without framing": Fault(lambda ask: good(ask.upto(0.2), ask, framing="eof")),
    "RST in a length": Fault(lambda ask: [*long(ask.upto(0.2), ask), cut("rst")]),
    "RST in chunks": Fault(lambda ask: [*good(ask.upto(0.2), ask), cut("rst")]),
    "RST without framing": Fault(lambda ask: [*good(ask.upto(0.2), ask, framing="eof"), cut("rst")]),
    "cut in the second picture": Fault(lambda ask: [*good(ask.upto(0.8), ask), cut()], kept=1),
    "cut behind the first picture": Fault(lambda ask: [*good(ask.parts[0], ask), cut()], kept=1),
    "an end without framing behind the first": Fault(lambda ask: good(ask.parts[0], ask, framing="eof"), kept=1),
    "half of it, ended well": Fault(lambda ask: good(ask.upto(0.8), ask), kept=1),
    "too short a length": Fault(
        lambda ask: long(ask.whole, ask, len(ask.whole) - 9), kept=2
    ),
    "a broken chunk": Fault(lambda ask: [*good(ask.upto(0.8), ask), raw(b"zz\r\nmore"), pause(5)], kept=1),
    "chunks without their end": Fault(lambda ask: [*good(ask.whole, ask), cut()], "images", 2),
    "a reset behind the whole": Fault(lambda ask: [*good(ask.whole, ask), cut("rst")], "images", 2),
    "too long a length": Fault(
        lambda ask: [*long(ask.whole, ask), cut()], "images", 2
    ),
    "no framing": Fault(lambda ask: good(ask.whole, ask, framing="eof"), "images", 2),
    "empty lines behind the end": Fault(
        lambda ask: [*good(ask.whole, ask, framing="length"), raw(b"\r\n\r\n")], "images", 2
    ),
    "another answer behind the end": Fault(
        lambda ask: [*good(ask.whole, ask, framing="length"), raw(b"HTTP/1.1 200 OK\r\n\r\n")], "any"
    ),
    # Silence and drips within the body.
    "silent behind the head": Fault(lambda ask: [*good(b"", ask), stall()], is_slow=True),
    "silent in a picture": Fault(lambda ask: [*good(ask.upto(0.8), ask), stall()], kept=1, is_slow=True),
    "silent between pictures": Fault(lambda ask: [*good(ask.parts[0], ask), stall()], kept=1, is_slow=True),
    "a picture that drips": Fault(lambda ask: [*good(ask.upto(0.8), ask), forever(b"A", 0.05)], kept=1, is_slow=True),
    "comments that drip": Fault(
        lambda ask: [*good(ask.parts[0], ask), forever(flood(ask, 1), 0.05)], kept=1, is_slow=True
    ),
    # Floods.
    "a line of 5 MB": Fault(lambda ask: good(b'{"x":"' + LONG if not ask.is_stream else b"data: " + LONG, ask)),
    "a line of 5 MB behind a picture": Fault(lambda ask: good(ask.parts[0] + b'"' + LONG, ask), kept=1),
    "a line without end": Fault(lambda ask: [*good(ask.parts[0], ask), forever(LONG[:100_000])], kept=1),
    "comments without end": Fault(lambda ask: [*good(b"", ask), forever(flood(ask, 1000))]),
    "comments for a while": Fault(lambda ask: good(flood(ask, 1000) + ask.whole, ask), "images", 2),
    "pictures without end": Fault(lambda ask: [*good(ask.parts[0], ask), forever(tiny_pictures(ask))], kept=1),
    # The wrong type or form.
    "text/plain": Fault(lambda ask: good(ask.whole, ask, content_type="text/plain"), "images", 2),
    "octets": Fault(lambda ask: good(ask.whole, ask, content_type="application/octet-stream"), "images", 2),
    "no type": Fault(lambda ask: good(ask.whole, ask, content_type=""), "images", 2),
    "the other form": Fault(lambda ask: good(ask.other.whole, ask.other), "images", 2),
    "the other form under this type": Fault(lambda ask: good(ask.other.whole, ask), "images", 2),
    "this form under the other type": Fault(lambda ask: good(ask.whole, ask.other), "images", 2),
    "the other form, byte by byte": Fault(
        lambda ask: [*good(b"", ask.other), body(ask.other.whole[:300], 1), body(ask.other.whole[300:])],
        "images", 2,
    ),
    "the other form, cut": Fault(lambda ask: [*good(ask.other.upto(0.8), ask.other), cut()], kept=1),
    "the other form, spoilt": Fault(lambda ask: good(spoilt(ask.other), ask.other), kept=1),
    "201": Fault(lambda ask: good(ask.whole, ask, status=201), "images", 2),
    "204": Fault(lambda ask: [raw(b"HTTP/1.1 204 No Content\r\n\r\n"), cut()]),
    "206": Fault(lambda ask: good(ask.upto(0.8), ask, status=206), kept=1),
    "an empty 200": Fault(lambda ask: good(b"", ask, framing="length")),
    "a page": Fault(page(200)),
    "plain words": Fault(page(200, b"fine")),
    "a list": Fault(lambda ask: good(b"[]", ask)),
    "zipped": Fault(lambda ask: good(gzipped(ask), ask, content_encoding="gzip"), "images", 2),
    "zipped and cut": Fault(lambda ask: good(gzipped(ask)[:-30_000], ask, content_encoding="gzip"), kept=1),
    "said to be zipped": Fault(lambda ask: good(ask.whole, ask, content_encoding="gzip")),
    "coded by nobody knows what": Fault(lambda ask: good(ask.whole, ask, content_encoding="x-pixie"), "images", 2),
    # What is inside.
    "no data": Fault(lambda ask: good(b'{"created":1}' if not ask.is_stream else b": nothing\n\n", ask)),
    "the second is no base64": Fault(lambda ask: good(spoilt(ask), ask), kept=1),
    "twice": Fault(
        lambda ask: good(documents_of(ask, *PICTURES, *PICTURES), ask), "images", 4, gives=(*PICTURES, *PICTURES)
    ),
    "final before partial": Fault(lambda ask: good(early(ask), ask), "images", 2),
    "never a final one": Fault(lambda ask: good(never(ask), ask)),
    "half an event": Fault(lambda ask: good(ask.parts[0] + b"event: image_gen", ask), kept=1),
    "CRLF": Fault(lambda ask: good(line_ends(ask, b"\r\n"), ask), "images", 2),
    "CR": Fault(lambda ask: good(line_ends(ask, b"\r"), ask), "images", 2),
    "any line ends": Fault(lambda ask: good(line_ends(ask, b"\r\n", b"\n", b"\r\n"), ask), "images", 2),
    "a BOM": Fault(lambda ask: good(b"\xef\xbb\xbf" + ask.whole, ask), "images", 2),
    "split characters": Fault(
        lambda ask: [*good(b"", ask), body(with_field(ask, '"é€🦊"'.encode())[:-1], 1000), body(ask.whole[-1:])],
        "images", 2,
    ),
    "half a character, escaped": Fault(lambda ask: good(with_field(ask, b'"\\ud83d"'), ask), "images", 2),
    "no UTF-8": Fault(lambda ask: good(with_field(ask, b'"\xff"'), ask), kept=2),
    "not a number": Fault(lambda ask: good(with_field(ask, b"NaN"), ask), kept=2),
    "two thousand brackets": Fault(lambda ask: good(with_field(ask, b"[" * 2000 + b"]" * 2000), ask), kept=2),
    "DONE": Fault(lambda ask: good(ask.whole + b"data: [DONE]\n\n" * ask.is_stream, ask), "images", 2),
    "events without data": Fault(lambda ask: good(b"event: ping\n\n" * ask.is_stream + ask.whole, ask), "images", 2),
    "events of no JSON": Fault(lambda ask: good(b"data: {oh\n\n" * ask.is_stream + ask.whole, ask), "images", 2),
    # Refusals.
    "a redirect": Fault(
        lambda ask: [head(307, [("Location", "/v2")]), body(b"")], "failed", code="upstream_unreachable"
    ),
    "401": Fault(refusing(401), "failed", code="upstream_rejected_credentials"),
    "403": Fault(refusing(403), "failed", code="upstream_rejected_credentials"),
    "400": Fault(refusing(400, code="moderation_blocked"), "failed", code="moderation_blocked"),
    "400 before the request": Fault(
        lambda ask: [head(400, [("Connection", "close")]), body(error_bytes(code="too_large"))],
        "failed", code="too_large", before_body=True,
    ),
    "404 without an envelope": Fault(page(404), "failed", code=None),
    "400 without framing": Fault(
        lambda ask: [head(400, framing="eof"), body(error_bytes(code="busy"))], "failed", code="busy"
    ),
    "429": Fault(refusing(429, code="rate_limit_exceeded"), "failed", code="rate_limit_exceeded"),
    "500": Fault(refusing(500, code="image_generation_failed"), "failed", code="image_generation_failed"),
    "500, cut": Fault(lambda ask: [head(500, length=999), body(error_bytes()[:-3]), cut()]),
    "502 from a gateway": Fault(page(502)),
    "504 from a gateway": Fault(page(504)),
    "503, too busy": Fault(refusing(503, code="slow_down"), "failed", code="slow_down", sends=3),
    "999": Fault(page(999)),
    "an error under 200": Fault(lambda ask: good(error_told(ask), ask), "failed", code="moderation_blocked"),
    "an error in the other form": Fault(
        lambda ask: good(error_told(ask.other), ask.other), "failed", code="moderation_blocked"
    ),
}  # fmt: skip
