"""The scripted upstream itself: what a test tells it is what a client meets."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Literal

import aiohttp
import pytest
from PIL import Image

from tests.support import pictures
from tests.support.upstream import (
    Exchange,
    Framing,
    ScriptedUpstream,
    body,
    cut,
    error_json,
    head,
    image_json,
    image_sse,
    image_sse_events,
    pause,
    raw,
    stall,
)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize(
    ("data", "kind", "size"),
    [
        (pictures.png(40, 30), "PNG", None),
        (pictures.png(size_bytes=100_001), "PNG", 100_001),
        (pictures.jpeg(size_bytes=200_003), "JPEG", 200_003),
        (pictures.jpeg(size_bytes=66_175), "JPEG", 66_175),
        (pictures.webp(size_bytes=100_000), "WEBP", 100_000),
        (pictures.gif(), "GIF", None),
    ],
)
def test_the_pictures_are_real_files_of_the_size_asked_for(data: bytes, kind: str, size: int | None) -> None:
    """Pillow decodes every padded file, and its length is exact."""
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.format == kind
    assert size is None or len(data) == size


async def test_scripts_are_played_in_turn_and_then_the_default(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    """One queued script is one answer; refusals are not charged; the connection is kept."""
    upstream.script(error_json(429, code="rate_limit_exceeded"))
    upstream.default(image_json(2))
    statuses, counts = [], []
    for _ in range(3):
        async with http.post(f"{upstream.base_url}/images/generations", json={"n": 2}) as answer:
            statuses.append(answer.status)
            counts.append(len((await answer.json()).get("data", [])))
    assert (statuses, counts) == ([429, 200, 200], [0, 2, 2])
    assert (upstream.charged, upstream.connections) == (2, 1)
    assert upstream.requests[0].json() == {"n": 2}


@pytest.mark.parametrize("framing", ["length", "chunked", "eof"])
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_cut_comes_where_the_script_says(
    upstream: ScriptedUpstream, framing: Framing, how: Literal["fin", "rst"]
) -> None:
    """Every byte before the cut arrives, and then an end or a reset, with nothing of the framing's end."""
    upstream.script(head(framing=framing, length=1000), body(b"x" * 500), cut(how))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(upstream.base_url.split(":")[2][:-3]))
    writer.write(b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    got = b""
    try:
        while piece := await reader.read(4096):
            got += piece
        end = "fin"
    except ConnectionResetError:
        end = "rst"
    finally:
        writer.close()
    assert end == how
    assert got.partition(b"\r\n\r\n")[2].removeprefix(b"1f4\r\n").removesuffix(b"\r\n") == b"x" * 500


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_large_forms_are_hashed_and_not_kept(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession, is_chunked: bool
) -> None:
    """Parts are told by name, file name, type, length and hash, in both framings, empty ones too."""
    big, small = pictures.png(size_bytes=9_000_000), pictures.png()
    form = aiohttp.FormData()
    form.add_field("prompt", "a cat\r\n--not a boundary")
    form.add_field("user", "")
    form.add_field("image[]", io.BytesIO(big), filename="a.png", content_type="image/png")
    form.add_field("image[]", io.BytesIO(small), filename="b.png", content_type="application/octet-stream")
    payload = form()
    chunked = True if is_chunked else None
    async with http.post(f"{upstream.base_url}/images/edits", data=payload, chunked=chunked) as answer:
        assert answer.status == 200
    request = upstream.requests[0]
    assert request.body is None
    assert request.size_bytes > 9_000_000
    assert (request.header("transfer-encoding") == "chunked") == is_chunked
    assert [part.name for part in request.parts] == ["prompt", "user", "image[]", "image[]"]
    assert (request.text("prompt"), request.text("user")) == ("a cat\r\n--not a boundary", "")
    assert [(part.filename, part.size_bytes, part.sha256) for part in request.parts[2:]] == [
        ("a.png", len(big), hashlib.sha256(big).hexdigest()),
        ("b.png", len(small), hashlib.sha256(small).hexdigest()),
    ]
    assert (request.parts[2].data, request.parts[3].data) == (None, small)


async def test_events_come_one_by_one(upstream: ScriptedUpstream, http: aiohttp.ClientSession) -> None:
    """A stream is its events' bytes, and an event object holds it where the test wants."""
    gate = asyncio.Event()
    events = image_sse_events(2, partials=1)
    upstream.script(
        head(200, framing="chunked"), body(events[0]), pause(gate), [body(one) for one in events[1:]]
    )
    async with http.post(f"{upstream.base_url}/images/generations", json={}) as answer:
        assert await answer.content.readexactly(len(events[0])) == events[0]
        gate.set()
        assert await answer.content.read() == b"".join(events[1:])
    upstream.script(image_sse(2, partials=1))
    async with http.post(f"{upstream.base_url}/images/generations", json={}) as answer:
        assert await answer.content.read() == b"".join(events)


async def test_stalls_functions_and_raw_bytes_are_steps(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    """Silence lasts until the client goes; a function writes what it likes; raw bytes are not framed."""

    async def echo(exchange: Exchange) -> None:
        data = json.dumps({"path": exchange.request.path}).encode()
        await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))

    upstream.script(stall())
    with pytest.raises(TimeoutError):
        await http.post(upstream.base_url, timeout=aiohttp.ClientTimeout(total=0.05))
    upstream.script(echo)
    async with http.post(f"{upstream.base_url}/echo") as answer:
        assert json.loads(await answer.text()) == {"path": "/v1/echo"}
    upstream.script(raw(b"garbage\r\n\r\n"), before_body=True)
    with pytest.raises(aiohttp.ClientError):
        await http.post(upstream.base_url, data=b"x")
    assert upstream.charged == 2


async def test_it_is_fast_enough_to_drive_a_benchmark(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    """Hundreds of answers a second go out even beside a client in the same process."""
    upstream.default(image_json([pictures.png(size_bytes=20_000)]))

    async def ask(count: int) -> None:
        for _ in range(count):
            async with http.post(f"{upstream.base_url}/images/generations", json={}) as answer:
                await answer.read()

    started = time.perf_counter()
    await asyncio.gather(*[ask(50) for _ in range(8)])
    assert 400 / (time.perf_counter() - started) > 200
