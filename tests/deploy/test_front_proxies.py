"""Behind nginx, Caddy and HAProxy with the files of docs/operations/: what is paid for arrives, leaving is seen."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from pixie_proxy.web import attempts
from tests.support.figures import RecordFigure
from tests.support.front_proxies import Front, Kind, front_proxy
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, RunningProxy, run_proxy
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
from tests.web.calling import CAT, files_of, ledger_rows

SSE = [("Content-Type", "text/event-stream")]
PICTURE = png(size_bytes=300_000)
WRONG = "px-wrong-" + "x" * 30
HUGE = [(f"{seed}.png", png(size_bytes=32_000_000, seed=seed)) for seed in (1, 2)]


@pytest.fixture
async def proxy(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[RunningProxy]:
    """As the files say that it is to be set up."""
    trusts = {"trusted_proxies": ["127.0.0.1"], "public_url": "https://pixie.example.com"}
    async with run_proxy(tmp_path / "data", upstream.base_url, server=trusts) as running:
        yield running


@pytest.fixture(params=["nginx", "caddy", "haproxy"])
async def front(request: pytest.FixtureRequest, tmp_path: Path, proxy: RunningProxy) -> AsyncIterator[Front]:
    async with front_proxy(request.param, tmp_path / request.param, proxy.url) as running:
        yield running


async def test_events_arrive_one_by_one(upstream: ScriptedUpstream, front: Front) -> None:
    """Each is with the caller before the next is made."""
    partial, final = image_sse_events([PICTURE], partials=1)
    go = asyncio.Event()
    upstream.script(head(200, SSE, "chunked"), body(partial), pause(go), body(final))
    async with front.sdk(MEMBER_KEY) as sdk:
        types = []
        async for event in await sdk.images.generate(**CAT, stream=True, partial_images=1):
            types.append(event.type)
            go.set()
    assert types == ["image_generation.partial_image", "image_generation.completed"]


async def test_large_uploads_pass(upstream: ScriptedUpstream, front: Front) -> None:
    """64 MB of images arrive upstream as they are."""
    upstream.script(image_json([PICTURE]))
    async with front.sdk(MEMBER_KEY) as sdk:
        answer = await sdk.images.edit(**CAT, image=HUGE)
    assert files_of(answer) == [PICTURE]
    assert [part.size_bytes for part in upstream.requests[0].parts if part.filename] == [32_000_000] * 2


async def test_a_refusal_of_a_large_upload_costs_nothing(upstream: ScriptedUpstream, front: Front) -> None:
    """It arrives as what it is, never as a 502. Caddy may hang up on who is still sending, as Go's servers do."""
    refusals = (openai.AuthenticationError, *([] if front.tls else [openai.APIConnectionError]))
    async with front.sdk(WRONG) as sdk:
        with pytest.raises(refusals):
            await sdk.images.edit(**CAT, image=HUGE)
    assert upstream.requests == []


async def test_who_leaves_is_noticed_and_the_retry_is_free(
    proxy: RunningProxy, upstream: ScriptedUpstream, front: Front
) -> None:
    """The SDK gives up, hangs up and asks again: that is the call that is under way, if the front proxy hung up too."""
    upstream.default(pause(1.5), image_json([PICTURE]))
    async with front.sdk(MEMBER_KEY, max_retries=3, timeout=0.7) as sdk:
        answer = await sdk.images.generate(**CAT)
    assert files_of(answer) == [PICTURE]
    assert (upstream.charged, len(await ledger_rows(proxy))) == (1, 1)


async def test_a_cut_answer_arrives_broken(
    proxy: RunningProxy, upstream: ScriptedUpstream, front: Front
) -> None:
    """Not as a shorter one with a clean end, which Caddy before 2.7.6 makes of it (see docs/operations.md)."""
    answer = image_json_bytes([PICTURE])
    upstream.script(head(200, framing="chunked"), body(answer[:200_000]), cut())
    errors = (openai.APIConnectionError, *([] if front.tls else [json.JSONDecodeError]))
    async with front.sdk(MEMBER_KEY) as sdk:
        with pytest.raises(errors):
            await sdk.images.generate(**CAT)
    assert [row.state for row in await ledger_rows(proxy)] == ["unknown"]


async def test_people_are_told_apart(front: Front) -> None:
    """By the address that the front proxy tells, whatever the client says of itself."""
    for n in range(attempts.PER_ADDRESS):
        assert await sign_in(front, WRONG, "127.0.0.2", f"198.51.100.{n}") == 401
    assert await sign_in(front, MEMBER_KEY, "127.0.0.2", "198.51.100.99") == 429
    assert await sign_in(front, MEMBER_KEY, "127.0.0.3", "127.0.0.2") == 303


async def sign_in(front: Front, key: str, source: str, claimed: str) -> int:
    """Send the form of the sign-in page from an address of this machine, claiming another; give the status."""
    connector = aiohttp.TCPConnector(local_addr=(source, 0), ssl=front.tls or True)
    headers = {"Origin": "https://pixie.example.com", "X-Forwarded-For": claimed}
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(
            f"{front.url}/login", data={"key": key}, headers=headers, allow_redirects=False
        ) as answer,
    ):
        return answer.status


@pytest.mark.parametrize(("count", "silent_s"), [(2, 1), pytest.param(10, 590, marks=pytest.mark.torture)])
async def test_a_generation_may_be_silent_for_ten_minutes(
    tmp_path: Path,
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    record_figure: RecordFigure,
    count: int,
    silent_s: int,
) -> None:
    """R40: JSON and streams, from the first byte to the last; directly, behind nginx, Caddy and HAProxy."""

    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(silent_s)
        if exchange.request.json().get("stream"):
            await exchange.play(
                head(200, SSE, "chunked"), *map(body, image_sse_events([PICTURE], partials=0))
            )
        else:
            await exchange.play(image_json([PICTURE]))

    upstream.default(answer)
    kinds: list[Kind] = ["nginx", "caddy", "haproxy"]
    async with AsyncExitStack() as running:
        fronts = [
            await running.enter_async_context(front_proxy(kind, tmp_path / kind, proxy.url)) for kind in kinds
        ]
        sdks = [
            await running.enter_async_context(each.sdk(MEMBER_KEY))
            for each in (Front(url=proxy.url), *fronts)
        ]
        ways = [(sdk, is_stream, n) for sdk in sdks for is_stream in (False, True) for n in range(count)]
        ended = await asyncio.gather(*[generate(*way) for way in ways], return_exceptions=True)
    good = [each for each in ended if each == PICTURE]
    record_figure("R40", silent_s=float(silent_s), calls=len(ways), violations=len(ways) - len(good))
    assert [each for each in ended if each != PICTURE] == []
    assert upstream.charged == len(ways)


async def generate(sdk: openai.AsyncOpenAI, is_stream: bool, n: int) -> Any:
    """Make a call with the SDK's own patience; give the picture."""
    order: dict[str, Any] = {**CAT, "prompt": f"a cat {id(sdk)} {n}"}
    if not is_stream:
        return files_of(await sdk.images.generate(**order))[0]
    events = [event async for event in await sdk.images.generate(**order, stream=True)]
    return base64.b64decode(events[-1].b64_json)
