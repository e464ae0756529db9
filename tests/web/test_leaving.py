"""Clients that leave, and clients that read slowly: the upstream is read to its end, and every image is kept."""

from __future__ import annotations

import asyncio
import hashlib
import random
from contextlib import suppress
from typing import Any, Literal

import aiohttp
import pytest

from tests.support.pictures import png
from tests.support.proxy import RunningProxy
from tests.support.upstream import (
    Exchange,
    ScriptedUpstream,
    body,
    cut,
    error_json,
    head,
    image_json,
    image_json_bytes,
    image_sse,
    image_sse_events,
    pause,
)
from tests.support.waiting import eventually
from tests.web.calling import (
    CAT,
    EDITS,
    FORM_TYPE,
    account,
    context_of,
    dial,
    files_of,
    form,
    http,
    kept,
    ledger_rows,
    read_answer,
    read_until,
)

SSE = [("Content-Type", "text/event-stream")]
BIG = png(size_bytes=2_000_000)


async def left_after(
    proxy: RunningProxy,
    fields: dict[str, Any],
    mark: bytes | None,
    gone: asyncio.Event,
    upstream: ScriptedUpstream,
) -> None:
    """Make a call, read up to `mark` (None: only until the upstream has it), and leave with a reset."""
    async with dial(proxy.url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, http(body=fields))
        await upstream.wait_for_requests(1)
        if mark is not None:
            await read_until(sock, mark)
    gone.set()


WHOLE = image_json_bytes([BIG, png(seed=1)])
EVENTS = image_sse_events([BIG, png(seed=1)], partials=1)


@pytest.mark.parametrize(
    ("fields", "mark", "before", "after"),
    [
        (CAT, None, b"", WHOLE),
        (CAT, b"iVBOR", WHOLE[:600_000], WHOLE[600_000:]),
        ({**CAT, "stream": True}, None, b"", b"".join(EVENTS)),
        ({**CAT, "stream": True}, b"partial_image", EVENTS[0], b"".join(EVENTS[1:])),
        (
            {**CAT, "stream": True},
            b"completed",
            EVENTS[0] + EVENTS[1][:600_000],
            EVENTS[1][600_000:] + b"".join(EVENTS[2:]),
        ),
    ],
    ids=["before JSON", "in JSON", "before a stream", "between events", "in an event"],
)
async def test_a_client_may_leave_at_any_time(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    fields: dict[str, Any],
    mark: bytes | None,
    before: bytes,
    after: bytes,
) -> None:
    """What it paid for is read to the end, kept, and billed at what the upstream reported; its slot is free."""
    gone, read = asyncio.Event(), asyncio.Event()

    async def note(_: Exchange) -> None:
        read.set()

    headers = SSE if "stream" in fields else [("Content-Type", "application/json")]
    upstream.script(head(200, headers, "chunked"), body(before), pause(gone), body(after), note)
    await left_after(proxy, fields, mark, gone, upstream)
    await asyncio.wait_for(read.wait(), 10)
    assert await kept(proxy) == [BIG, png(seed=1)]
    (row,) = await ledger_rows(proxy)
    assert row.state == "done"
    assert row.cost_micros
    assert (await account(proxy)).in_flight == 0


async def test_an_sdk_call_that_is_cancelled_is_kept(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A task that is cancelled, or times out, closes its connection: no more than that."""
    go = asyncio.Event()
    upstream.script(pause(go), image_json([png(seed=3)]))
    call = asyncio.create_task(proxy.sdk().images.generate(**CAT))
    await upstream.wait_for_requests(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.set()
    assert await kept(proxy) == [png(seed=3)]


async def test_an_edit_whose_client_left_keeps_its_files_for_the_upstream(
    proxy: RunningProxy, upstream: ScriptedUpstream, no_backoff: list[int]
) -> None:
    """They are sent again where that is called for, although nobody waits any more."""
    go = asyncio.Event()
    upstream.script(pause(go), error_json(429, headers=[("retry-after-ms", "1")]))
    upstream.script(image_json([png(seed=4)]))
    async with dial(proxy.url) as sock:
        sent = form(("prompt", b"hat"), ("image", BIG, "a.png"))
        await asyncio.get_running_loop().sock_sendall(sock, http(EDITS, sent, headers=FORM_TYPE))
        await upstream.wait_for_requests(1)
    go.set()
    assert await kept(proxy) == [png(seed=4)]
    assert [request.part("image").sha256 for request in upstream.requests] == [
        hashlib.sha256(BIG).hexdigest()
    ] * 2


@pytest.mark.parametrize("kind", ["json", "stream"])
@pytest.mark.parametrize("leaves", [False, True])
async def test_a_slow_reader_does_not_slow_the_upstream(
    proxy: RunningProxy, upstream: ScriptedUpstream, kind: Literal["json", "stream"], leaves: bool
) -> None:
    """The upstream is through, and the image kept, while the client has read next to nothing of 16 MB.

    Then the client gets the exact bytes, or leaves, and nothing of what waited for it stays on the disk.
    """
    picture, read = png(size_bytes=12_000_000), asyncio.Event()

    async def note(_: Exchange) -> None:
        read.set()

    script = image_json([picture]) if kind == "json" else image_sse([picture])
    expected = image_json_bytes([picture]) if kind == "json" else image_sse_events([picture])[0]
    upstream.script(script, note)
    async with dial(proxy.url, receive_buffer=4096) as sock:
        fields = {**CAT, "stream": kind == "stream"}
        await asyncio.get_running_loop().sock_sendall(sock, http(body=fields))
        seen = await read_until(sock, b"iVBOR")
        await asyncio.wait_for(read.wait(), 10)
        assert await kept(proxy) == [picture]
        assert len(seen) < 200_000
        if not leaves:
            answer = await read_answer(sock, seen)
            assert (answer.end, answer.body == expected) == ("whole", True)
    await eventually(lambda: not context_of(proxy).generation._tasks)
    (row,) = await ledger_rows(proxy)
    assert row.state == "done"


async def test_many_clients_leave_at_once(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Twenty calls whose clients drop in mid-answer: twenty images, twenty rows, no slot lost."""
    go = asyncio.Event()
    answers = [image_json_bytes([png(size_bytes=150_000, seed=seed)]) for seed in range(20)]
    for answer in answers:
        upstream.script(
            head(200, framing="chunked"), body(answer[:120_000]), pause(go), body(answer[120_000:])
        )

    async def leave(number: int) -> None:
        fields = {**CAT, "user": str(number)}  # a call equal to a lost one would take that over
        async with dial(proxy.url) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, http(body=fields))
            await read_until(sock, b"iVBOR")

    await asyncio.gather(*[leave(number) for number, _ in enumerate(answers)])
    go.set()
    assert set(await kept(proxy)) == {png(size_bytes=150_000, seed=seed) for seed in range(20)}
    assert [row.state for row in await ledger_rows(proxy)] == ["done"] * 20
    assert (await account(proxy)).in_flight == 0


async def test_the_client_that_stays_is_not_disturbed(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """One leaves, the other reads on: calls share nothing but the proxy."""
    go = asyncio.Event()
    upstream.default(head(200, framing="chunked"), body(WHOLE[:600_000]), pause(go), body(WHOLE[600_000:]))
    staying = asyncio.create_task(proxy.sdk().images.generate(**CAT))
    async with dial(proxy.url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, http(body=CAT))
        await read_until(sock, b"iVBOR")
    go.set()
    assert files_of(await staying) == [BIG, png(seed=1)]
    assert len(await kept(proxy)) == 4


@pytest.mark.parametrize("seed", range(3))
async def test_slots_are_free_after_random_aborts(
    proxy: RunningProxy, upstream: ScriptedUpstream, seed: int
) -> None:
    """Sixty clients leave at random instants, of calls that end well, badly or not at all: nothing stays in use."""
    chance = random.Random(seed)
    endings = (
        image_json([png(64, 64)]),
        [head(500), body(b"no")],
        [head(200), body(b'{"data": [{"b64'), cut("rst")],
    )

    async def leave() -> None:
        with suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(chance.uniform(0, 0.2)):
                await proxy.request("POST", "/v1/images/generations", json=CAT)

    upstream.default(pause(0.05), *chance.choice(endings))
    await asyncio.gather(*[leave() for _ in range(60)])
    await eventually(lambda: _nothing_in_use(proxy))


async def _nothing_in_use(proxy: RunningProxy) -> bool:
    used = await account(proxy)
    return (used.in_flight, used.held_micros) == (0, 0)
