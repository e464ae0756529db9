"""A scripted upstream: a real HTTP server on a raw socket that does exactly what a test tells it, faults included.

    async with ScriptedUpstream() as upstream:
        upstream.default(image_json(images=[png(size_bytes=2_000_000)]))          # every request
        upstream.script(head(200, framing="chunked"), body(DATA[:500]), cut("rst"))  # only the next one
        ...
        assert upstream.charged == 2

A script is a list of steps; a step is anything with `async run(exchange)`, and so is a plain async function of an
`Exchange`. Requests are answered by queued scripts in the order in which their heads arrive, then by the default.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from tests.support.pictures import png
from tests.support.sockets import flushed, reset

Framing = Literal["length", "chunked", "eof"]
Pairs = Sequence[tuple[str, str]]

KEPT_BYTES = 4 * 1024 * 1024
"""Bodies (and parts) up to this are kept; of larger ones only length and hash."""
_HEAD_LIMIT = 1024 * 1024
_PIECE = 256 * 1024
_NAME = re.compile(rb'[;\s]name="((?:[^"\\]|\\.)*)"')
_FILENAME = re.compile(rb'[;\s]filename="((?:[^"\\]|\\.)*)"')
_CONTENT_TYPE = re.compile(rb"^content-type:\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass(slots=True)
class Part:
    """One part of a multipart body. `data` is None when it is too large to keep."""

    name: str
    filename: str | None
    content_type: str | None
    size_bytes: int = 0
    sha256: str = ""
    data: bytes | None = b""


@dataclass(slots=True)
class Received:
    """One request as it came in. `body` is None when it is too large to keep; `is_whole`: read to its end."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes | None = b""
    size_bytes: int = 0
    sha256: str = ""
    parts: list[Part] = field(default_factory=list)
    is_whole: bool = False

    def header(self, name: str) -> str | None:
        """Give a header's first value, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        """Give the parsed body."""
        return json.loads(self.body or b"null")

    def part(self, name: str) -> Part:
        """Give the first part of a name."""
        return next(part for part in self.parts if part.name == name)

    def text(self, name: str) -> str:
        """Give the text of a part."""
        return (self.part(name).data or b"").decode()


class Closed(Exception):
    """The connection ends here: no further step runs."""


@dataclass(slots=True)
class Exchange:
    """One request and the power over its answer."""

    request: Received
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    upstream: ScriptedUpstream
    steps: Sequence[Step]
    framing: Framing | None = None
    is_charged: bool = False

    async def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        """Send body bytes in the answer's framing (one chunk each)."""
        if self.framing == "chunked" and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        await self.write(data)

    async def close(self, how: Literal["fin", "rst"] = "fin") -> None:
        """End the connection after all that was written has left."""
        await flushed(self.writer)
        if how == "rst":
            reset(self.writer)
        else:
            self.writer.close()
        raise Closed

    async def play(self, *script: Script) -> None:
        """Go on with a script that was made for this request."""
        self.steps = _steps(script)
        for step in self.steps:
            await step.run(self)


class Step(Protocol):
    """One move of a script."""

    async def run(self, exchange: Exchange) -> None:
        """Make the move; raise `Closed` (by `exchange.close`) to end everything."""


Handler = Callable[[Exchange], Awaitable[None]]
Script = Step | Handler | Sequence[Step | Handler]


@dataclass(frozen=True, slots=True)
class _Call:
    handler: Handler

    async def run(self, exchange: Exchange) -> None:
        await self.handler(exchange)


@dataclass(frozen=True, slots=True)
class _Raw:
    data: bytes

    async def run(self, exchange: Exchange) -> None:
        await exchange.write(self.data)


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    headers: tuple[tuple[str, str], ...]
    framing: Framing
    length: int | None

    async def run(self, exchange: Exchange) -> None:
        exchange.framing = self.framing
        exchange.upstream.note_status(exchange, self.status)
        lines = [f"HTTP/1.1 {self.status} Scripted", *[f"{name}: {value}" for name, value in self.headers]]
        if self.framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif self.framing == "length":
            sizes = [len(step.data) for step in exchange.steps if isinstance(step, _Body)]
            lines.append(f"Content-Length: {sum(sizes) if self.length is None else self.length}")
        else:
            lines.append("Connection: close")
        await exchange.write("\r\n".join([*lines, "", ""]).encode("latin-1"))


@dataclass(frozen=True, slots=True)
class _Body:
    data: bytes
    chunk: int
    every_s: float

    async def run(self, exchange: Exchange) -> None:
        for at in range(0, len(self.data), self.chunk):
            if at and self.every_s:
                await asyncio.sleep(self.every_s)
            await exchange.send(self.data[at : at + self.chunk])


@dataclass(frozen=True, slots=True)
class _Pause:
    until: float | asyncio.Event

    async def run(self, exchange: Exchange) -> None:
        if isinstance(self.until, asyncio.Event):
            await self.until.wait()
        else:
            await asyncio.sleep(self.until)


@dataclass(frozen=True, slots=True)
class _Cut:
    how: Literal["fin", "rst"]

    async def run(self, exchange: Exchange) -> None:
        await exchange.close(self.how)


@dataclass(frozen=True, slots=True)
class _Stall:
    is_reading: bool

    async def run(self, exchange: Exchange) -> None:
        if not self.is_reading:
            exchange.writer.transport.pause_reading()  # type: ignore[attr-defined] # of a socket transport
            await asyncio.Event().wait()
        with suppress(ConnectionError):
            while await exchange.reader.read(_PIECE):
                pass
        await exchange.close()


def head(
    status: int = 200,
    headers: Pairs = (("Content-Type", "application/json"),),
    framing: Framing = "length",
    *,
    length: int | None = None,
) -> Step:
    """Send a status line and headers. `length` tells a wrong Content-Length; else the script's bodies are summed."""
    return _Head(status, tuple(headers), framing, length)


def body(data: bytes, chunk: int = _PIECE, *, every_s: float = 0) -> Step:
    """Send body bytes, `chunk` at a time with `every_s` between."""
    return _Body(data, chunk, every_s)


def raw(data: bytes) -> Step:
    """Send bytes as they are: a whole answer, a broken head, a flood of 1xx."""
    return _Raw(data)


def pause(until: float | asyncio.Event) -> Step:
    """Wait so many seconds, or for an event."""
    return _Pause(until)


def cut(how: Literal["fin", "rst"] = "fin") -> Step:
    """Close the connection here, cleanly or not, without the framing's end."""
    return _Cut(how)


def stall(*, is_reading: bool = True) -> Step:
    """Say nothing more until the client goes (or the server ends, if not even reading)."""
    return _Stall(is_reading)


class ScriptedUpstream:
    """The server. `requests` in the order of their heads; `charged` counts what the real service would bill.

    That is every request that was read whole, unless it was answered with a status from 300 up.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.requests: list[Received] = []
        self.charged = 0
        self.connections = 0
        self._host = host
        self._scripts: deque[tuple[list[Step], bool]] = deque()
        self._default: tuple[list[Step], bool] = image_json(), False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    @property
    def base_url(self) -> str:
        """What goes into `upstream.base_url`."""
        assert self._server is not None
        return f"http://{self._host}:{self._server.sockets[0].getsockname()[1]}/v1"

    def script(self, *steps: Script, before_body: bool = False) -> None:
        """Queue the answer of one request; `before_body` gives it before (and without) reading the body."""
        self._scripts.append((_steps(steps), before_body))

    def default(self, *steps: Script, before_body: bool = False) -> None:
        """Set the answer of every request that no queued script is for."""
        self._default = _steps(steps), before_body

    async def wait_for_requests(self, count: int, timeout_s: float = 10) -> None:
        """Return once so many requests have arrived whole."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: sum(one.is_whole for one in self.requests) >= count)

    def note_status(self, exchange: Exchange, status: int) -> None:
        """Take a refused request off the bill."""
        if status >= 300 and exchange.is_charged:
            exchange.is_charged = False
            self.charged -= 1

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, self._host, 0, limit=_HEAD_LIMIT, backlog=1024
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        await asyncio.sleep(0)  # transports say goodbye one turn later

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        writer.transport.set_write_buffer_limits(0)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (Closed, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.close() if writer.is_closing() else writer.transport.abort()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one request and play its script; tell whether the connection lives on."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        pairs = [line.split(":", 1) for line in lines[1:] if line]
        request = Received(method, path, [(name, value.strip()) for name, value in pairs])
        self.requests.append(request)
        steps, before_body = self._scripts.popleft() if self._scripts else self._default
        exchange = Exchange(request, reader, writer, self, steps)
        if not before_body:
            await _read_body(reader, request)
            exchange.is_charged = True
            self.charged += 1
            async with self._arrived:
                self._arrived.notify_all()
        for step in steps:
            await step.run(exchange)
        if exchange.framing == "chunked":
            await exchange.write(b"0\r\n\r\n")
        if (
            exchange.framing in {None, "eof"}
            or not request.is_whole
            or request.header("connection") == "close"
        ):
            await exchange.close()
        return True


def _steps(script: Sequence[Script]) -> list[Step]:
    """Flatten what `script` and `default` take into steps."""
    out: list[Step] = []
    for one in script:
        if isinstance(one, Sequence):
            out += _steps(one)
        elif hasattr(one, "run"):
            out.append(one)
        else:
            out.append(_Call(one))
    return out


async def _read_body(reader: asyncio.StreamReader, request: Received) -> None:
    """Read a body in either framing, hash it, take its parts apart, and keep it if it is small."""
    digest = hashlib.sha256()
    kept = bytearray()
    content_type = request.header("content-type") or ""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    parser = _Multipart(boundary[1].encode()) if boundary else None

    async def take(count: int) -> None:
        while count:
            data = await reader.read(min(count, _PIECE))
            if not data:
                raise asyncio.IncompleteReadError(b"", count)
            count -= len(data)
            request.size_bytes += len(data)
            digest.update(data)
            if request.size_bytes <= KEPT_BYTES:
                kept.extend(data)
            if parser:
                parser.feed(data)

    if (request.header("transfer-encoding") or "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await take(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    else:
        await take(int(request.header("content-length") or 0))
    request.body = bytes(kept) if request.size_bytes <= KEPT_BYTES else None
    request.sha256 = digest.hexdigest()
    request.parts = parser.parts if parser else []
    request.is_whole = True


class _Multipart:
    """Takes a multipart body apart as it arrives, in bounded memory."""

    def __init__(self, boundary: bytes) -> None:
        self.parts: list[Part] = []
        self._mark = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # so that the first boundary looks like the others
        self._digest = hashlib.sha256()
        self._kept = bytearray()
        self._part: Part | None = None

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while True:
            at = self._buffer.find(self._mark)
            if at < 0:
                ready = len(self._buffer) - len(self._mark)
                if ready > 0:
                    self._content(bytes(self._buffer[:ready]))
                    del self._buffer[:ready]
                return
            after = at + len(self._mark)
            head_end = self._buffer.find(b"\r\n\r\n", after)
            is_last = self._buffer[after : after + 2] == b"--"
            if head_end < 0 and not is_last:
                return
            self._content(bytes(self._buffer[:at]))
            self._finish()
            if is_last:
                self._buffer.clear()
                return
            lines = bytes(self._buffer[after:head_end])
            del self._buffer[: head_end + 2]
            # A part's content starts after the blank line; its "\r\n" may open an empty part's closing boundary.
            self._start(lines)

    def _start(self, lines: bytes) -> None:
        name, filename, kind = _NAME.search(lines), _FILENAME.search(lines), _CONTENT_TYPE.search(lines)
        self._part = Part(
            name[1].decode() if name else "",
            filename[1].decode() if filename else None,
            kind[1].decode() if kind else None,
        )
        self._part.size_bytes = -2  # the rest of the blank line comes first

    def _content(self, data: bytes) -> None:
        part = self._part
        if part is None or not data:
            return
        if part.size_bytes < 0:
            skipped = min(len(data), -part.size_bytes)
            data = data[skipped:]
            part.size_bytes += skipped
        part.size_bytes += len(data)
        self._digest.update(data)
        if part.size_bytes <= KEPT_BYTES:
            self._kept += data

    def _finish(self) -> None:
        if self._part is not None:
            self._part.size_bytes = max(0, self._part.size_bytes)
            self._part.sha256 = self._digest.hexdigest()
            self._part.data = bytes(self._kept) if self._part.size_bytes <= KEPT_BYTES else None
            self.parts.append(self._part)
        self._part, self._digest, self._kept = None, hashlib.sha256(), bytearray()


# --- Answers as OpenAI gives them -------------------------------------------------------------------------------------

CREATED = 1_795_000_000
KEY_ORDER = ("created", "background", "data", "output_format", "quality", "size", "usage")
"""The order in which the real service has been seen to write; pass another to `image_json` to vary it."""


def usage_of(images: int, *, text_in: int = 12, image_in: int = 0, each: int = 196) -> dict[str, Any]:
    """The `usage` of an answer of so many pictures."""
    return {
        "input_tokens": text_in + image_in,
        "input_tokens_details": {"image_tokens": image_in, "text_tokens": text_in},
        "output_tokens": each * images,
        "output_tokens_details": {"image_tokens": each * images, "text_tokens": 0},
        "total_tokens": text_in + image_in + each * images,
    }


def image_json_bytes(
    images: Sequence[bytes] | int = 1,
    *,
    usage: bool | dict[str, Any] = True,
    order: Sequence[str] = KEY_ORDER,
    indent: int | None = 2,
    escape_slashes: bool = False,
    **fields: Any,
) -> bytes:
    """The body of a JSON answer. `images` are files, or a count of small PNGs; `fields` replace or add keys."""
    files = [png(seed=seed) for seed in range(images)] if isinstance(images, int) else images
    values: dict[str, Any] = {
        "created": CREATED,
        "background": "opaque",
        "data": [{"b64_json": base64.b64encode(file).decode()} for file in files],
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
        "usage": usage_of(len(files)) if usage is True else usage,
        **fields,
    }
    if usage is False:
        del values["usage"]
    ordered = {key: values[key] for key in (*order, *values) if key in values}
    text = json.dumps(ordered, indent=indent)
    return (text.replace("/", "\\/") if escape_slashes else text).encode()


def image_json(
    images: Sequence[bytes] | int = 1,
    *,
    framing: Framing = "length",
    chunk: int = _PIECE,
    headers: Pairs = (),
    **options: Any,
) -> list[Step]:
    """A whole JSON answer; `options` go to `image_json_bytes`."""
    answer_headers = (("Content-Type", "application/json"), ("x-request-id", "req_scripted"), *headers)
    return [head(200, answer_headers, framing), body(image_json_bytes(images, **options), chunk)]


def image_sse_events(
    images: Sequence[bytes] | int = 1,
    *,
    partials: int = 0,
    kind: Literal["generation", "edit"] = "generation",
    usage: bool | dict[str, Any] = True,
    **fields: Any,
) -> list[bytes]:
    """The events of a stream: `partials` for each picture, then its `completed`; `fields` replace or add keys.

    A `usage` of its own is that of each `completed`.
    """
    files = [png(seed=seed) for seed in range(images)] if isinstance(images, int) else images
    echo = {"size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png", **fields}
    events: list[bytes] = []
    for number, file in enumerate(files):
        for stage in range(partials):
            events.append(  # noqa: PERF401 - two loops read better than one comprehension
                sse_event(
                    {
                        "type": f"image_{kind}.partial_image",
                        "partial_image_index": stage,
                        "b64_json": base64.b64encode(png(seed=1000 + 10 * number + stage)).decode(),
                        "created_at": CREATED,
                        **echo,
                    }
                )
            )
        share = usage_of(1, each=196 + 100 * partials)
        del share["output_tokens_details"]
        share = usage if isinstance(usage, dict) else share
        events.append(
            sse_event(
                {
                    "type": f"image_{kind}.completed",
                    "b64_json": base64.b64encode(file).decode(),
                    "created_at": CREATED,
                    **({} if usage is False else {"usage": share}),
                    **echo,
                }
            )
        )
    return events


def sse_event(data: dict[str, Any], name: str | None = None) -> bytes:
    """One event; its name is its data's type."""
    text = json.dumps(data, separators=(",", ":"))
    return f"event: {name or data.get('type')}\ndata: {text}\n\n".encode()


def image_sse(
    images: Sequence[bytes] | int = 1,
    *,
    framing: Framing = "chunked",
    every_s: float = 0,
    headers: Pairs = (),
    **options: Any,
) -> list[Step]:
    """A whole stream, an event at a time; `options` go to `image_sse_events`."""
    answer_headers = (
        ("Content-Type", "text/event-stream; charset=utf-8"),
        ("x-request-id", "req_scripted"),
        *headers,
    )
    steps: list[Step] = [head(200, answer_headers, framing)]
    for event in image_sse_events(images, **options):
        steps += [body(event), pause(every_s)] if every_s else [body(event)]
    return steps


def error_bytes(
    message: str = "No.",
    *,
    type: str = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
) -> bytes:
    """An error in OpenAI's envelope."""
    return json.dumps({"error": {"message": message, "type": type, "param": param, "code": code}}).encode()


def error_json(status: int, *, headers: Pairs = (), **options: Any) -> list[Step]:
    """A whole error answer; `options` go to `error_bytes`."""
    answer_headers = (("Content-Type", "application/json"), ("x-request-id", "req_scripted"), *headers)
    return [head(status, answer_headers), body(error_bytes(**options))]


def refused_base_url() -> str:
    """Give an address where nobody listens: a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"
