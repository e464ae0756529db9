"""Answers in the form that was not asked for: clients get the one that they asked for, with all that was said."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from tests.support.pictures import png
from tests.support.proxy import UPSTREAM_KEY, RunningProxy
from tests.support.upstream import (
    CREATED,
    ScriptedUpstream,
    body,
    cut,
    head,
    image_json,
    image_sse,
    image_sse_events,
    sse_event,
    usage_of,
)
from tests.web.calling import CAT, GENERATIONS, AnySdk, error_of, files_of, http, kept, ledger_rows, raw_call
from tests.web.conftest import ProxyWith

PICTURES = [png(size_bytes=size, seed=size) for size in (400_000, 90, 2_500_000)]
REFUSED = {
    "type": "image_generation_user_error",
    "code": "moderation_blocked",
    "message": "no",
    "param": None,
}
ECHO = {"size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """Read a stream whose events have a name and one line of data."""
    assert stream.endswith(b"\n\n")
    found = []
    for one in stream.removesuffix(b"\n\n").split(b"\n\n"):
        name, data = one.split(b"\n")
        said = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + said["type"].encode()
        found.append(said)
    return found


async def test_a_document_becomes_a_stream(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk
) -> None:
    """One `completed` event for each image, with what the document said of all; the shares of usage add up to it."""
    usage = usage_of(3, text_in=13)
    upstream.default(image_json(PICTURES, usage=usage, revised_prompt="no image's own"))
    events = await sdk.images("generate", **CAT, n=3, stream=True)
    assert [event.type for event in events] == ["image_generation.completed"] * 3
    assert [event.created_at for event in events] == [CREATED] * 3
    assert [{name: getattr(event, name) for name in ECHO} for event in events] == [ECHO] * 3
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        assert sum(getattr(event.usage, name) for event in events) == usage[name]
    assert await kept(proxy) == PICTURES
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.usage) == ("done", usage)
    answer = await raw_call(proxy.url, http(GENERATIONS, {**CAT, "n": 3, "stream": True}))
    assert (answer.end, answer.headers["content-type"]) == ("whole", "text/event-stream")
    said = events_of(answer.body)
    assert [event["b64_json"] for event in said] == [event.b64_json for event in events]


async def test_an_edit_becomes_a_stream_of_edits(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """By the name that SDKs look for."""
    upstream.default(image_json())
    (event,) = await AnySdk(proxy, "async").images("edit", **CAT, image=png(), stream=True)
    assert event.type == "image_edit.completed"


async def test_a_stream_becomes_a_document(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk
) -> None:
    """Its final images, its time, what it said of all, and the sum of its usage; partial images are left out."""
    upstream.default(image_sse(PICTURES, partials=2))
    answer = await sdk.images("generate", **CAT, n=3)
    assert isinstance(answer, openai.types.ImagesResponse)
    assert files_of(answer) == PICTURES
    assert {name: getattr(answer, name) for name in ECHO} == ECHO
    assert answer.usage is not None
    assert (answer.created, answer.usage.output_tokens) == (CREATED, 3 * 396)
    assert await kept(proxy) == PICTURES
    (row,) = await ledger_rows(proxy)
    assert row.usage is not None
    assert (row.state, row.usage["output_tokens"]) == ("done", 3 * 396)


async def test_a_small_one_has_its_length(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """It goes out in one piece, as any small answer."""
    upstream.default(image_sse())
    answer = await raw_call(proxy.url, http(GENERATIONS, CAT))
    assert (answer.end, answer.headers["content-type"]) == ("whole", "application/json")
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("wants", ["url", "b64_json", None])
async def test_links_come_as_they_would(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, is_stream: bool, wants: str | None
) -> None:
    """`response_format` and `add_url` mean in an answer that was written anew what they mean in any."""
    proxy = await proxy_with(gallery={"add_url": True})
    upstream.default(image_json(PICTURES) if is_stream else image_sse(PICTURES))
    asked = {**CAT, "n": 3, "stream": is_stream, "response_format": wants}
    status, _, got = await proxy.request("POST", GENERATIONS, json=asked)
    items = events_of(got) if is_stream else json.loads(got)["data"]
    assert (status, len(items)) == (200, 3)
    assert all(("url" in item) == (wants != "b64_json") for item in items)
    assert all(("b64_json" in item) == (is_stream or wants != "url") for item in items)
    for item, picture in zip(items, PICTURES, strict=True):
        if "url" in item:
            assert (await proxy.request("GET", urlsplit(item["url"]).path, key=None))[2] == picture


async def test_an_image_that_is_only_linked_to_comes_whole_in_a_stream(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """It is fetched, kept, and given as base64 too: an event without it is none for an SDK."""
    link = upstream.base_url.removesuffix("/v1") + "/1.png"
    upstream.script(image_json(0, data=[{"url": link}]))
    upstream.script(head(200), body(PICTURES[0]))
    (event,) = await AnySdk(proxy, "async").images("generate", model="flux", prompt="a cat", stream=True)
    assert event.model_extra["url"] != link
    assert base64.b64decode(event.b64_json) == PICTURES[0]
    assert await kept(proxy) == [PICTURES[0]]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_refusal_in_the_other_form_has_the_status_that_it_should_have(
    proxy: RunningProxy, upstream: ScriptedUpstream, is_stream: bool
) -> None:
    """400 for what blames the request, else 500: nothing was made, so nothing is charged."""
    for error, status in ((REFUSED, 400), ({**REFUSED, "type": "server_error", "code": None}, 500)):
        told = sse_event({"type": "error", "error": error})
        said = json.dumps({"error": error}).encode()
        kind = "application/json" if is_stream else "text/event-stream"
        upstream.script(head(200, [("Content-Type", kind)]), body(said if is_stream else told))
        got, _, answer = await proxy.request("POST", GENERATIONS, json={**CAT, "stream": is_stream})
        assert (got, error_of(answer)) == (status, error)
    assert [(row.state, row.cost_micros) for row in await ledger_rows(proxy)] == [("failed", 0)] * 2


async def test_a_stream_that_ends_in_a_refusal_keeps_what_came(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Two of three images, and the error beside them: neither is hidden."""
    events = image_sse_events(PICTURES)[:2]
    told = sse_event({"type": "error", "error": REFUSED})
    upstream.default(head(200, [("Content-Type", "text/event-stream")]), body(b"".join(events) + told))
    status, _, got = await proxy.request("POST", GENERATIONS, json={**CAT, "n": 3})
    assert (status, len(json.loads(got)["data"]), json.loads(got)["error"]) == (200, 2, REFUSED)
    assert await kept(proxy) == PICTURES[:2]


async def test_a_document_without_an_image_is_no_stream(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """As a document an empty list is the upstream's to give; a stream without an event would be an answer to nobody."""
    upstream.default(image_json(0, data=[{"b64_json": None}]))
    assert (await proxy.request("POST", GENERATIONS, json=CAT))[0] == 200
    status, _, got = await proxy.request("POST", GENERATIONS, json={**CAT, "stream": True})
    assert (status, error_of(got)["code"]) == (502, "upstream_outcome_unknown")


async def test_items_of_both_kinds_are_all_kept(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Base64 and links in one answer: the bytes pass as they came, and the linked images are kept beside the others."""
    link = upstream.base_url.removesuffix("/v1") + "/1.png"
    answer = image_json(PICTURES[:1], usage=usage_of(2))
    sent = json.loads(answer[1].data)  # type: ignore[attr-defined]
    sent["data"] = [{"url": link}, *sent["data"], {"url": "http://127.0.0.1:1/gone.png"}]
    upstream.script(head(200), body(json.dumps(sent).encode()))
    upstream.script(head(200), body(PICTURES[2]))
    status, _, got = await proxy.request("POST", GENERATIONS, json={**CAT, "n": 3})
    assert (status, got == json.dumps(sent).encode()) == (200, True)
    assert await kept(proxy) == [PICTURES[2], PICTURES[0]]
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.flags) == ("done", ("not_kept",))


async def test_links_in_a_stream_are_kept(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A final event with a link is final; the image is fetched behind it."""
    link = upstream.base_url.removesuffix("/v1") + "/1.png"
    event = sse_event({"type": "image_generation.completed", "url": link, "created_at": CREATED})
    upstream.script(head(200, [("Content-Type", "text/event-stream")]), body(event))
    upstream.script(head(200), body(PICTURES[2]))
    status, _, got = await proxy.request("POST", GENERATIONS, json={**CAT, "stream": True})
    assert (status, got) == (200, event)
    assert await kept(proxy) == [PICTURES[2]]


async def test_what_is_no_picture_is_kept_as_it_is(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """It was paid for. It is called octets, so that no browser takes it for anything."""
    upstream.default(image_json([b"not a picture"]))
    assert files_of(await proxy.sdk().images.generate(**CAT)) == [b"not a picture"]
    (image,) = (await proxy.get("/v1/images"))["data"]
    _, headers, got = await proxy.request("GET", image["content_url"])
    assert (headers["Content-Type"], got) == ("application/octet-stream", b"not a picture")


@pytest.mark.parametrize("is_stream", [False, True])
async def test_the_operators_key_never_comes_back(
    proxy: RunningProxy, upstream: ScriptedUpstream, is_stream: bool
) -> None:
    """R37: in the text of a good answer, in an error event or in an error under 200; nor does the ledger hold it."""
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in UPSTREAM_KEY)
    error = json.dumps({"type": "error", "error": {**REFUSED, "message": "key " + UPSTREAM_KEY}})
    whole = (image_sse if is_stream else image_json)(note=f"{UPSTREAM_KEY} KEY")
    sent = b"".join(step.data for step in whole if hasattr(step, "data")).replace(b"KEY", escaped.encode())
    told = f"event: error\ndata: {error}\n\n".encode() if is_stream else error.encode()
    kind = [("Content-Type", "text/event-stream" if is_stream else "application/json")]
    for data in (sent, told):
        upstream.script(head(200, kind, "chunked"), body(data, 7))
        _, headers, got = await proxy.request("POST", GENERATIONS, json={**CAT, "stream": is_stream})
        assert b"[hidden]" in got
        for seen in (got, str(headers).encode()):
            assert UPSTREAM_KEY.encode() not in seen
            assert escaped.encode() not in seen
    for row in await ledger_rows(proxy):
        assert UPSTREAM_KEY not in repr(row)


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_two_of_three_without_a_proper_end_are_a_cut(
    proxy: RunningProxy, upstream: ScriptedUpstream, how: Any
) -> None:
    """One image of a stream is not the whole stream; with `[DONE]` behind it, it is."""
    (*two, _) = image_sse_events([png(seed=seed) for seed in range(3)])
    for done, ended in ((b"", "rst"), (b"data: [DONE]\n\n", "whole")):
        sent = b"".join(two) + done
        upstream.script(head(200, [("Content-Type", "text/event-stream")], "chunked"), body(sent), cut(how))
        answer = await raw_call(proxy.url, http(GENERATIONS, {**CAT, "n": 3, "stream": True}))
        assert answer.end == ended
        assert answer.body.startswith(sent)
    assert [row.state for row in await ledger_rows(proxy)] == ["unknown", "done"]
    assert len(await kept(proxy)) == 4


async def test_a_client_that_leaves_takes_nothing_along(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """An answer that is being written anew is kept before anybody gets it."""
    upstream.default(image_sse(PICTURES, every_s=0.1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15):
            await proxy.request("POST", GENERATIONS, json={**CAT, "n": 3})
    assert await kept(proxy) == PICTURES
