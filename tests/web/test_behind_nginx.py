"""Behind nginx as it comes: `proxy_pass` speaks HTTP/1.0 to us, so an answer without a length ends with its connection.

There a cut answer looks like a whole one to whoever only waits for the end; ours must not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import require
from tests.support.front_proxies import serving
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, RunningProxy
from tests.support.sockets import free_port
from tests.support.upstream import (
    Exchange,
    ScriptedUpstream,
    body,
    cut,
    head,
    image_json,
    image_json_bytes,
    image_sse_events,
    pause,
)
from tests.web.broken_answers import FAULTS, ask_of
from tests.web.calling import CAT, dial, files_of, http, kept, ledger_rows, raw_call, read_answer, read_until
from tests.web.faulty_calls import ASKS, by_sdk, check_sdk

SSE = [("Content-Type", "text/event-stream")]
BIG = png(size_bytes=1_500_000)
CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off; client_max_body_size 100m;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_http_version 1.0; proxy_pass {target}; }} }}
}}
"""


@pytest.fixture
async def nginx(tmp_path: Path, proxy: RunningProxy) -> AsyncIterator[str]:
    """Run nginx in front of the proxy and give its address."""
    program, folder = require("nginx"), tmp_path / "nginx"
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, target=proxy.url))
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(config)]
    async with serving(command, port, {}):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("size_bytes", [1_000, 3_000_000])
async def test_json_arrives_whole(
    proxy: RunningProxy, upstream: ScriptedUpstream, nginx: str, size_bytes: int
) -> None:
    """With a length where there is one, and up to the end of the connection where there is none."""
    upstream.script(image_json([png(size_bytes=size_bytes)]))
    answer = await raw_call(nginx, http(body=CAT))
    assert (answer.status, answer.end) == (200, "whole")
    assert answer.body == image_json_bytes([png(size_bytes=size_bytes)])
    assert answer.headers["server"].startswith("nginx")


async def test_the_sdk_edits_through_it(proxy: RunningProxy, upstream: ScriptedUpstream, nginx: str) -> None:
    """A large form goes up, a large answer comes down."""
    upstream.script(image_json([BIG]))
    async with openai.AsyncOpenAI(base_url=f"{nginx}/v1", api_key=MEMBER_KEY, max_retries=0) as client:
        answer = await client.images.edit(model="gpt-image-2", prompt="hat", image=("a.png", BIG))
    assert files_of(answer) == [BIG]
    assert upstream.requests[0].part("image").size_bytes == len(BIG)


async def test_events_are_not_collected(proxy: RunningProxy, upstream: ScriptedUpstream, nginx: str) -> None:
    """Each event is with the client before the next is made, and the stream ends cleanly."""
    partial, final = image_sse_events([BIG], partials=1)
    go = asyncio.Event()
    upstream.script(head(200, SSE, "chunked"), body(partial), pause(go), body(final))
    async with dial(nginx) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, http(body={**CAT, "stream": True}))
        seen = await read_until(sock, partial)
        go.set()
        answer = await read_answer(sock, seen)
    assert (answer.body, answer.end) == (partial + final, "whole")


CUT: list[tuple[str, list[Any]]] = [
    ("json", [head(200, framing="chunked"), body(image_json_bytes([BIG])[:1_000_000]), cut()]),
    ("json", [head(200, length=9_000_000), body(image_json_bytes([BIG])[:-2]), cut("rst")]),
    ("stream", [head(200, SSE, "chunked"), body(image_sse_events([BIG])[0][:1_000_000]), cut()]),
    ("stream", [head(200, SSE, "chunked"), body(image_sse_events([BIG])[0][:-20]), cut()]),
]


@pytest.mark.parametrize(("kind", "script"), CUT)
async def test_a_cut_answer_arrives_broken(
    proxy: RunningProxy, upstream: ScriptedUpstream, nginx: str, kind: str, script: list[Any]
) -> None:
    """Not as a shorter answer with a clean end."""
    upstream.script(script)
    answer = await raw_call(nginx, http(body={**CAT, "stream": kind == "stream"}))
    assert (answer.status, answer.end in {"fin", "rst"}) == (200, True)
    assert [row.state for row in await ledger_rows(proxy)] == ["unknown"]


FAULTY = [
    *("FIN in chunks", "RST in a length", "FIN without framing", "no framing", "half of it, ended well"),
    *("cut in the second picture", "cut behind the first picture", "an end without framing behind the first"),
    *("the second is no base64", "no UTF-8", "a broken chunk", "a line of 5 MB behind a picture"),
    *("the other form", "the other form, cut", "an error under 200", "502 from a gateway"),
]


@pytest.mark.parametrize("name", FAULTY)
async def test_a_fault_is_no_better_behind_it(
    proxy: RunningProxy, upstream: ScriptedUpstream, nginx: str, name: str
) -> None:
    """R31, R32: the SDK gets its pictures or an error, as it does without nginx."""
    fault = FAULTS[name]

    async def answer(exchange: Exchange) -> None:
        await exchange.play(fault.script(ask_of(exchange.request)))

    upstream.default(answer)
    async with openai.AsyncOpenAI(base_url=f"{nginx}/v1", api_key=MEMBER_KEY, max_retries=0) as sdk:
        for ask in ASKS:
            check_sdk(await by_sdk(sdk, ask), fault, ask)


@pytest.mark.parametrize("path", ["/i/", "/v1/images/"])
async def test_an_image_arrives_whole(
    proxy: RunningProxy, upstream: ScriptedUpstream, nginx: str, path: str
) -> None:
    """By key and by link."""
    upstream.script(image_json([BIG]))
    await proxy.sdk().images.generate(**CAT)
    (image,) = (await proxy.get("/v1/images"))["data"]
    where = image["content_url"] if path == "/v1/images/" else "/i/" + image["url"].rpartition("/")[2]
    answer = await raw_call(nginx, http(where, method="GET"))
    assert (answer.end, answer.body == BIG) == ("whole", True)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("size_bytes", [1_000, 3_000_000])
async def test_both_versions_of_http_frame_the_same_answer(
    proxy: RunningProxy, upstream: ScriptedUpstream, version: str, size_bytes: int
) -> None:
    """Chunks are for HTTP/1.1 only: an older client would take them for the answer's text."""
    upstream.script(image_json([png(size_bytes=size_bytes)]))
    answer = await raw_call(proxy.url, http(body=CAT, version=version))
    assert (answer.end, answer.body) == ("whole", image_json_bytes([png(size_bytes=size_bytes)]))
    assert ("transfer-encoding" in answer.headers) == (version == "1.1" and size_bytes > 65536)
    assert await kept(proxy) == [png(size_bytes=size_bytes)]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_without_nginx_a_cut_answer_is_a_reset(
    proxy: RunningProxy, upstream: ScriptedUpstream, version: str
) -> None:
    """An HTTP/1.0 client has nothing else to tell it by."""
    upstream.script(CUT[0][1])
    answer = await raw_call(proxy.url, http(body=CAT, version=version))
    assert (answer.status, answer.end) == (200, "rst")
