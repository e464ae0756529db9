"""Answers that break off upstream: no client takes one for whole, and what came whole of it is kept."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import openai
import pytest

from tests.support.pictures import png
from tests.support.proxy import RunningProxy
from tests.support.upstream import (
    ScriptedUpstream,
    body,
    cut,
    head,
    image_json_bytes,
    image_sse_events,
    sse_event,
    stall,
)
from tests.web.calling import CAT, AnySdk, error_of, http, kept, ledger_rows, raw_call
from tests.web.conftest import ProxyWith

SSE = [("Content-Type", "text/event-stream")]
PICTURES = [png(size_bytes=150_000, seed=seed) for seed in range(3)]
WHOLE = image_json_bytes(PICTURES)
THIRD = WHOLE.rindex(b"iVBOR")
EVENTS = image_sse_events(PICTURES, partials=1)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("at", "whole"),
    [
        (100, 0),
        (150_000, 0),
        (THIRD - 200_000, 1),
        (THIRD + 1_000, 2),
        (len(WHOLE) - 300, 3),
        (len(WHOLE) - 1, 3),
    ],
)
async def test_a_cut_answer_never_ends_cleanly(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    how: Literal["fin", "rst"],
    framing: Literal["length", "chunked"],
    at: int,
    whole: int,
) -> None:
    """The connection is reset, or an error comes instead; the images that came whole are kept, the call is unknown."""
    upstream.script(head(200, framing=framing, length=len(WHOLE)), body(WHOLE[:at]), cut(how))
    answer = await raw_call(proxy.url, http(body={**CAT, "n": 3}))
    if at < 50_000:
        assert (answer.status, answer.end) == (502, "whole")
        assert error_of(answer.body)["code"] == "upstream_outcome_unknown"
    else:
        assert (answer.status, answer.end) == (200, "rst")
        assert WHOLE.startswith(answer.body)
    assert await kept(proxy) == PICTURES[:whole]
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.cost_micros) == ("unknown", row.call.hold_micros)


async def test_an_sdk_raises_for_a_cut_answer(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk
) -> None:
    """And does not get an answer without its last images."""
    upstream.script(head(200, length=len(WHOLE)), body(WHOLE[: THIRD + 1000]), cut())
    with pytest.raises(openai.APIConnectionError):
        await sdk.images("generate", **CAT, n=3)
    assert len(upstream.requests) == 1
    assert await kept(proxy) == PICTURES[:2]


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize(
    ("sent", "whole"),
    [
        (b"", 0),
        (EVENTS[0], 0),
        (EVENTS[0] + EVENTS[1][:1000], 0),
        (b"".join(EVENTS[:3]) + EVENTS[3][:1000], 1),
        (b"".join(EVENTS)[:-30], 3),
    ],
    ids=["nothing", "a partial", "in the first", "in the second", "near the end"],
)
async def test_a_cut_stream_ends_with_an_error_and_a_reset(
    proxy: RunningProxy, upstream: ScriptedUpstream, how: Literal["fin", "rst"], sent: bytes, whole: int
) -> None:
    """Whoever reads events sees the error, whoever reads bytes the reset; final images that came whole are kept.

    Within an event that was given out in part there is only the reset: words would end it, as if it were whole.
    """
    upstream.script(head(200, SSE, "chunked"), body(sent), cut(how))
    answer = await raw_call(proxy.url, http(body={**CAT, "n": 3, "stream": True}))
    assert (answer.status, answer.end) == (200, "rst")
    is_told = answer.body.endswith(b"\n\n") and b'"code":"upstream_outcome_unknown"' in answer.body
    assert is_told == (sent in {b"", EVENTS[0]})
    assert is_told or sent.startswith(answer.body)
    assert await kept(proxy) == PICTURES[:whole]
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.cost_micros) == ("unknown", row.call.hold_micros)


async def test_an_sdk_raises_for_a_cut_stream(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk
) -> None:
    """With the code that tells it from a refusal."""
    upstream.script(head(200, SSE, "chunked"), body(EVENTS[0]), cut())
    with pytest.raises(openai.APIError) as caught:
        await sdk.images("generate", **CAT, n=3, stream=True)
    assert caught.value.code == "upstream_outcome_unknown"


@pytest.mark.parametrize("tail", [b"", b"\n", b"data: [DONE]", b": bye"])
async def test_a_stream_that_was_cut_behind_its_last_event_is_whole(
    proxy: RunningProxy, upstream: ScriptedUpstream, tail: bytes
) -> None:
    """All that was asked for has come: the end is clean, and the missing line ends are put in."""
    whole = b"".join(EVENTS).removesuffix(b"\n") if tail == b"" else b"".join(EVENTS) + tail
    upstream.script(head(200, SSE, "chunked"), body(whole), cut("rst" if tail else "fin"))
    answer = await raw_call(proxy.url, http(body={**CAT, "n": 3, "stream": True}))
    assert (answer.end, answer.body.startswith(b"".join(EVENTS))) == ("whole", True)
    assert await kept(proxy) == PICTURES
    assert [row.state for row in await ledger_rows(proxy)] == ["done"]


async def test_an_answer_that_was_cut_behind_its_last_bracket_is_whole(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """A wrong length or a missing last chunk takes nothing from a document that is complete."""
    upstream.script(head(200, framing="chunked"), body(WHOLE), cut("rst"))
    upstream.script(head(200, length=len(WHOLE) + 10), body(WHOLE), cut())
    for _ in range(2):
        answer = await raw_call(proxy.url, http(body={**CAT, "n": 3}))
        assert (answer.end, answer.body == WHOLE) == ("whole", True)
    assert [row.state for row in await ledger_rows(proxy)] == ["done", "done"]


BROKEN: dict[str, tuple[bytes, int]] = {
    "junk behind the end": (WHOLE.rstrip() + b" x", 3),
    "two documents": (WHOLE + WHOLE, 3),
    "no base64 in it": (WHOLE[: THIRD + 50] + b"***" + WHOLE[THIRD + 53 :], 2),
    "no JSON behind the images": (WHOLE.rstrip()[:-1] + b"]", 3),
    "bad UTF-8 behind the images": (WHOLE.replace(b'"low"', b'"\xff"'), 3),
}


@pytest.mark.parametrize(("said", "whole"), BROKEN.values(), ids=list(BROKEN))
async def test_an_answer_that_is_broken_in_itself_is_no_answer(
    proxy: RunningProxy, upstream: ScriptedUpstream, said: bytes, whole: int
) -> None:
    """Its framing is whole and it is nonsense all the same: it must not end as if it were good."""
    upstream.script(head(200), body(said))
    answer = await raw_call(proxy.url, http(body={**CAT, "n": 3}))
    assert (answer.status, answer.end) == (200, "rst")
    assert await kept(proxy) == PICTURES[:whole]
    assert [row.state for row in await ledger_rows(proxy)] == ["unknown"]


async def test_an_upstream_that_falls_silent_is_given_up(
    proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """After `idle_timeout_s`, before the head and in the middle; the outcome is unknown."""
    proxy = await proxy_with(upstream={"idle_timeout_s": 0.4})
    upstream.script(stall())
    upstream.script(head(200, framing="chunked"), body(WHOLE[: THIRD + 1000]), stall())
    silent, stopped = await asyncio.gather(
        *[raw_call(proxy.url, http(body={**CAT, "n": 3})) for _ in range(2)]
    )
    assert {silent.status, stopped.status} == {502, 200}
    assert {silent.end, stopped.end} == {"whole", "rst"}
    assert await kept(proxy) == PICTURES[:2]
    assert [row.state for row in await ledger_rows(proxy)] == ["unknown", "unknown"]


async def test_an_error_event_behind_a_final_image_takes_nothing_back(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Of three images two came and one was refused: the two are kept and paid, and the client sees it all."""
    said: dict[str, Any] = {"type": "error", "error": {"message": "no", "code": "moderation_blocked"}}
    sent = EVENTS[1] + EVENTS[3] + sse_event(said)
    upstream.script(head(200, SSE, "chunked"), body(sent))
    answer = await raw_call(proxy.url, http(body={**CAT, "n": 3, "stream": True}))
    assert (answer.end, answer.body == sent) == ("whole", True)
    assert await kept(proxy) == PICTURES[:2]
    assert [row.state for row in await ledger_rows(proxy)] == ["done"]
