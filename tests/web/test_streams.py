"""`stream: true`: what the upstream sends is what the client gets, event by event, and what is final is kept."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import openai
import pytest

from tests.support.pictures import png
from tests.support.proxy import RunningProxy
from tests.support.upstream import (
    Received,
    ScriptedUpstream,
    body,
    error_json,
    head,
    image_json,
    image_sse,
    image_sse_events,
    pause,
    sse_event,
    usage_of,
)
from tests.web.calling import (
    CAT,
    EDITS,
    GENERATIONS,
    AnySdk,
    dial,
    form,
    http,
    kept,
    ledger_rows,
    listed,
    raw_call,
    read_answer,
    read_until,
)

SSE = [("Content-Type", "text/event-stream")]
STREAM: dict[str, Any] = {**CAT, "stream": True}
COMMENT = b": keep-alive\n\n"


EVENT_USAGE = {**usage_of(1, each=396)}
del EVENT_USAGE["output_tokens_details"]  # events don't tell it


def asks_for_stream(request: Received) -> bool:
    if request.parts:
        return request.text("stream") == "true"
    return request.json()["stream"] is True


@pytest.mark.parametrize("kind", ["generation", "edit"])
async def test_partial_and_final_images_arrive(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk, kind: Literal["generation", "edit"]
) -> None:
    """The SDK sees each event; the final image is kept, the partial ones are not listed."""
    upstream.script(image_sse(partials=2, kind=kind))
    method, more = ("generate", {}) if kind == "generation" else ("edit", {"image": png(seed=7)})
    events = await sdk.images(method, **STREAM, **more, partial_images=2)
    partial, completed = f"image_{kind}.partial_image", f"image_{kind}.completed"
    assert [event.type for event in events] == [partial, partial, completed]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert asks_for_stream(upstream.requests[0])
    assert await kept(proxy) == [png()]
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.call.is_stream, row.usage) == ("done", True, EVENT_USAGE)


@pytest.mark.parametrize("kind", ["generation", "edit"])
async def test_the_events_are_the_upstreams_bytes(
    proxy: RunningProxy, upstream: ScriptedUpstream, kind: Literal["generation", "edit"]
) -> None:
    """Not one byte is added, left out or written differently."""
    files = [png(size_bytes=300_000), png(size_bytes=5_000, seed=2)]
    upstream.script(image_sse(files, partials=3, kind=kind))
    if kind == "edit":
        headers = {"Content-Type": "multipart/form-data; boundary=xXx"}
        sent = form(("image", png(), "a.png"), ("prompt", b"hat"), ("stream", b"true"))
        status, answer, got = await proxy.request("POST", EDITS, data=sent, headers=headers)
    else:
        status, answer, got = await proxy.request("POST", GENERATIONS, json=STREAM)
    assert (status, answer["Content-Type"]) == (200, "text/event-stream")
    assert (answer["Cache-Control"], answer["X-Accel-Buffering"]) == ("no-cache", "no")
    assert got == b"".join(image_sse_events(files, partials=3, kind=kind))
    assert await kept(proxy) == files


async def test_each_event_passes_when_it_comes(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A partial image is with the client while the upstream still draws, and before the next is made."""
    first, second, final = image_sse_events(partials=2)
    go = [asyncio.Event(), asyncio.Event()]
    upstream.script(
        head(200, SSE, "chunked"), body(first), pause(go[0]), body(second), pause(go[1]), body(final)
    )
    async with dial(proxy.url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, http(body=STREAM))
        seen = await read_until(sock, first)
        go[0].set()
        seen += await read_until(sock, second)
        go[1].set()
        answer = await read_answer(sock, seen)
    assert (answer.body, answer.end) == (first + second + final, "whole")


async def test_two_final_images_are_two_images(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk
) -> None:
    """With n=2 each `completed` is an image at the next position, and the call's usage is their sum."""
    upstream.script(image_sse(2, partials=1))
    events = await sdk.images("generate", **STREAM, n=2, partial_images=1)
    assert len(events) == 4
    assert await kept(proxy) == [png(seed=0), png(seed=1)]
    assert sorted(image["index"] for image in await listed(proxy)) == [0, 1]
    (row,) = await ledger_rows(proxy)
    assert row.usage is not None
    assert row.usage["output_tokens"] == 2 * 296
    assert row.usage["input_tokens_details"]["text_tokens"] == 24


async def test_an_error_before_the_first_event_is_an_ordinary_error(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk
) -> None:
    """A refusal of a stream comes with its own status, as one of a plain call would."""
    upstream.script(
        error_json(400, type="image_generation_user_error", code="moderation_blocked", message="no")
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.images("generate", **STREAM)
    assert caught.value.code == "moderation_blocked"
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.cost_micros) == ("failed", 0)


@pytest.mark.parametrize("images", [0, 1])
async def test_an_error_inside_a_stream_arrives_with_its_code(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk, images: int
) -> None:
    """It ends the stream cleanly; what was final before is kept and paid, else the call cost nothing."""
    said = {
        "type": "image_generation_user_error",
        "code": "moderation_blocked",
        "message": "no",
        "param": None,
    }
    event = sse_event({"type": "error", "error": said, "sequence_number": 0})
    partial, *_, final = image_sse_events(partials=1)
    upstream.script(head(200, SSE, "chunked"), body(final if images else partial), body(event))
    with pytest.raises(openai.APIError) as caught:
        await sdk.images("generate", **STREAM)
    assert (caught.value.code, caught.value.type) == ("moderation_blocked", "image_generation_user_error")
    assert await kept(proxy) == [png()] * images
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.cost_micros == 0) == (("done", False) if images else ("failed", True))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
async def test_comments_and_done_pass(
    proxy: RunningProxy, upstream: ScriptedUpstream, line_end: bytes
) -> None:
    """What else a stream may hold, in any kind of line, goes through as it is."""
    (final,) = image_sse_events()
    sent = (b": hello\n\n" + final + b"data: [DONE]\n\n").replace(b"\n", line_end)
    upstream.script(head(200, SSE, "chunked"), body(sent, chunk=1000))
    assert (await proxy.request("POST", GENERATIONS, json=STREAM))[2] == sent
    assert await kept(proxy) == [png()]


@pytest.fixture
def quick_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixie_proxy.web.answers.KEEP_ALIVE_S", 0.03)


@pytest.mark.usefixtures("quick_comments")
async def test_silence_between_events_is_filled_with_comments(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Before the first event and between two, for proxies and clients give up on a silent connection."""
    partial, final = image_sse_events(partials=1)
    go = [asyncio.Event(), asyncio.Event()]
    upstream.script(head(200, SSE, "chunked"), pause(go[0]), body(partial), pause(go[1]), body(final))
    async with dial(proxy.url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, http(body=STREAM))
        seen = await read_until(sock, COMMENT)
        go[0].set()
        seen += await read_until(sock, partial)
        seen += await read_until(sock, COMMENT)
        go[1].set()
        answer = await read_answer(sock, seen)
    before, between = answer.body.split(partial)
    assert answer.end == "whole"
    assert set(before.split(COMMENT)) == {b""}
    assert set(between.removesuffix(final).split(COMMENT)) == {b""}


@pytest.mark.usefixtures("quick_comments")
async def test_silence_within_an_event_stays_silence(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A comment in the middle of an event would break it, wherever the upstream falls silent."""
    (final,) = image_sse_events([png(size_bytes=3_000)])
    cuts = [10, 60, 2_000, len(final) - 30, len(final) - 1]
    pieces = [final[start:end] for start, end in zip([0, *cuts], [*cuts, len(final)], strict=True)]
    steps: list[Any] = [head(200, SSE, "chunked")]
    for piece in pieces:
        steps += [body(piece), pause(0.08)]
    upstream.script(*steps)
    answer = await raw_call(proxy.url, http(body=STREAM))
    assert final in answer.body
    assert answer.body.replace(COMMENT, b"") == final


@pytest.mark.usefixtures("quick_comments")
async def test_no_comment_breaks_an_event_that_waits_for_the_disk(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the end of a `completed` event is held back for a slow disk, nothing is put into it."""
    from pixie_proxy.generation.keeping import Keeping

    seal = Keeping.seal

    async def slow(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.1)
        return await seal(*args, **options)

    monkeypatch.setattr(Keeping, "seal", slow)
    first, second = image_sse_events(2)
    go = asyncio.Event()
    upstream.script(head(200, SSE, "chunked"), body(first), pause(go), body(second))
    async with dial(proxy.url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, http(body=STREAM))
        seen = await read_until(sock, first[-40:])
        go.set()
        answer = await read_answer(sock, seen)
    assert answer.body.replace(COMMENT, b"") == first + second
    assert first in answer.body
    assert second in answer.body


@pytest.mark.usefixtures("quick_comments")
async def test_json_gets_no_comments(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A plain answer waits in silence, and starts when there is something to say."""
    done = asyncio.Event()
    upstream.script(pause(done), image_json())
    call = asyncio.create_task(proxy.request("POST", GENERATIONS, json=CAT))
    await upstream.wait_for_requests(1)
    await asyncio.sleep(0.1)
    done.set()
    status, _, answer = await call
    assert (status, answer[:1]) == (200, b"{")
