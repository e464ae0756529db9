"""Connections to the upstream that idle: none is used again that has an end or a word of its own to read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest

from pixie_proxy.config import Settings
from pixie_proxy.upstream import UpstreamCut, UpstreamRequest, connections
from pixie_proxy.upstream.openai import OpenAIUpstream
from tests.support.upstream import Exchange, ScriptedUpstream, body, head, pause, raw


@pytest.fixture
async def client(upstream: ScriptedUpstream) -> AsyncIterator[OpenAIUpstream]:
    """Give our side of the connection."""
    settings = Settings.model_validate({"upstream": {"base_url": upstream.base_url, "api_key": "x"}})
    opened = OpenAIUpstream(settings.upstream)
    yield opened
    await opened.close()


async def call(client: OpenAIUpstream, number: int = 0) -> bytes:
    """Make a call and give its answer."""
    request = UpstreamRequest(path="/x", request_id=f"req_{number}", json=b"{}")
    async with client.send(request) as response:
        return b"".join([chunk async for chunk in response.chunks()])


async def test_a_quiet_connection_is_used_again(upstream: ScriptedUpstream, client: OpenAIUpstream) -> None:
    """One call after the other on one connection, for handshakes take time."""
    upstream.default(head(200), body(b"{}"))
    for _ in range(5):
        assert await call(client) == b"{}"
    assert upstream.connections == 1


@pytest.mark.parametrize("late_s", [0, 0.02])
async def test_an_answer_that_nobody_asked_for_is_nobodys(
    upstream: ScriptedUpstream, client: OpenAIUpstream, late_s: float
) -> None:
    """The next call, of whichever user, would take it for its own: it gets a connection of its own instead."""
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanyone"
    upstream.script(head(200), body(b"mine"), pause(late_s), raw(stray))
    upstream.default(head(200), body(b"yours"))
    assert await call(client) == b"mine"
    await asyncio.sleep(3 * late_s)
    assert [await call(client) for _ in range(3)] == [b"yours"] * 3


async def test_a_connection_that_has_ended_is_not_used(
    upstream: ScriptedUpstream, client: OpenAIUpstream
) -> None:
    """Not even if its end came this very moment, and our loop has not looked yet."""

    async def end(exchange: Exchange) -> None:
        exchange.writer.close()

    upstream.default(head(200), body(b"{}"), end)
    for _ in range(20):
        assert await call(client) == b"{}"
        await asyncio.sleep(0)
    assert upstream.charged == 20


async def answered(
    client: OpenAIUpstream, upstream: ScriptedUpstream, calls: int, idle_s: float, spread_s: float
) -> int:
    """Make calls just when the upstream closes idle connections; give how many had no answer. None is sent twice."""

    async def answer(exchange: Exchange) -> None:
        await exchange.play(head(200), body(b"{}"))
        asyncio.get_running_loop().call_later(idle_s, exchange.writer.close)

    upstream.default(answer)
    rng, unknown, todo = random.Random(18), 0, iter(range(calls))

    async def lane() -> None:
        nonlocal unknown
        for number in todo:
            try:
                await call(client, number)
            except UpstreamCut:
                unknown += 1
            await asyncio.sleep(idle_s + rng.uniform(-spread_s, spread_s))

    await asyncio.gather(*[lane() for _ in range(20)])
    seen = [request.header("x-client-request-id") for request in upstream.requests]
    assert len(seen) == len(set(seen))
    assert len(seen) >= calls - unknown
    return unknown


async def test_idle_connections_are_left_before_servers_end_them(
    upstream: ScriptedUpstream, client: OpenAIUpstream
) -> None:
    """R18: an upstream that ends them after 1.5 s never meets a call of ours; and nothing is sent twice."""
    assert await answered(client, upstream, 60, 1.5, 0.005) == 0


@pytest.mark.torture
async def test_a_call_is_sent_once_even_into_a_closing_connection(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, record_figure: Callable[..., None]
) -> None:
    """R18: with connections kept far too long and calls just as they end: some have no answer, none is sent twice."""
    monkeypatch.setattr(connections, "KEEPALIVE_S", 60)
    settings = Settings.model_validate({"upstream": {"base_url": upstream.base_url, "api_key": "x"}})
    client = OpenAIUpstream(settings.upstream)
    unknown = await answered(client, upstream, 1000, 0.5, 0.002)
    await client.close()
    record_figure("R18", calls=1000, sent_twice=0, unknown=unknown)
