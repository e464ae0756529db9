"""/metrics: the numbers are those of real calls, their labels have an end, and only admins get them."""

from __future__ import annotations

import asyncio
import logging
import time

import openai
import pytest

from tests.support.pictures import png
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, VIEWER_KEY, RunningProxy
from tests.support.scraping import Scrape, scrape
from tests.support.upstream import (
    ScriptedUpstream,
    cut,
    error_json,
    head,
    image_json,
    image_json_bytes,
    image_sse,
    pause,
    raw,
)
from tests.support.waiting import eventually
from tests.web.browsing import sign_in
from tests.web.calling import CAT, dial, ended, http, read_until

GENERATIONS = "/v1/images/generations"


async def test_calls_are_counted_exactly(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """One call of each kind through the SDK, and every number that it moves."""
    pictures = [png(seed=1, size_bytes=3000), png(seed=2, size_bytes=5000)]
    answer = image_json_bytes(pictures)
    upstream.script(*image_json(pictures))
    sdk = proxy.sdk()
    await sdk.images.generate(model="gpt-image-2", prompt="two", n=2)
    upstream.script(*image_sse([pictures[0]]))
    async for _ in await sdk.images.generate(model="gpt-image-2", prompt="a stream", stream=True):
        pass
    with pytest.raises(openai.BadRequestError):
        await sdk.images.generate(model="gpt-image-2", prompt="eleven", n=11)
    upstream.script(*error_json(400, code="moderation_blocked"))
    with pytest.raises(openai.BadRequestError):
        await sdk.images.generate(model="gpt-image-2", prompt="no")
    upstream.script(cut())
    with pytest.raises(openai.InternalServerError):
        await sdk.images.generate(model="gpt-image-2", prompt="cut")
    await ended(proxy)
    seen = await scrape(proxy)

    requests = {
        key: number for key, number in seen.grown("pixie_requests_total").items() if key[2] == GENERATIONS
    }
    assert requests == {  # model, outcome, route
        ("gpt-image-2", "ok", GENERATIONS): 2,
        ("", "refused", GENERATIONS): 1,
        ("gpt-image-2", "failed", GENERATIONS): 1,
        ("gpt-image-2", "unknown", GENERATIONS): 1,
    }
    assert seen.grown("pixie_refusals_total") == {("invalid_value",): 1}
    assert seen.grown("pixie_failures_total") == {("upstream_refused",): 1, ("upstream_outcome_unknown",): 1}
    assert seen.grown("pixie_calls_total") == {
        ("gpt-image-2", "done"): 2,
        ("gpt-image-2", "failed"): 1,
        ("gpt-image-2", "unknown"): 1,
    }
    assert seen.grown("pixie_images_kept_total") == {("gpt-image-2",): 3}
    assert seen.grown("pixie_image_bytes_total") == {("gpt-image-2",): 11_000}
    assert seen.grown("pixie_upstream_duration_seconds_count") == {
        ("gpt-image-2", "ok"): 2,
        ("gpt-image-2", "refused"): 1,
        ("gpt-image-2", "broken"): 1,
    }
    assert seen.grown("pixie_upstream_first_byte_seconds_count") == {("gpt-image-2",): 3}
    assert seen.grown("pixie_first_byte_seconds_count") == {("gpt-image-2",): 4}
    assert seen("pixie_upstream_bytes_total", model="gpt-image-2") > len(answer)
    assert seen("pixie_request_duration_seconds_count", route=GENERATIONS) == 5
    assert seen("pixie_response_bytes_total", route=GENERATIONS) > len(answer)
    assert (seen("pixie_requests_in_flight"), seen("pixie_upstream_in_flight")) == (1, 0)  # the scrape itself


async def test_bytes_are_those_of_the_bodies(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """What came in and what went out, for an answer in one piece."""
    upstream.script(*image_json([png()]))
    said = b'{"model": "gpt-image-2", "prompt": "a cat"}'
    status, _, body = await proxy.request(
        "POST", GENERATIONS, data=said, headers={"Content-Type": "application/json"}
    )
    assert status == 200
    seen = await scrape(proxy)
    assert seen("pixie_request_bytes_total", route=GENERATIONS) == len(said)
    assert seen("pixie_response_bytes_total", route=GENERATIONS) == len(body)
    assert seen("pixie_upstream_bytes_total", model="gpt-image-2") == len(image_json_bytes([png()]))


async def test_an_answer_given_again_is_a_join(
    proxy: RunningProxy, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """It moves no call and no image; its line in the log names the call whose id the client sees."""
    caplog.set_level(logging.INFO, "pixie_proxy")
    upstream.default(*image_json(1))
    said = b'{"model": "gpt-image-2", "prompt": "a cat"}'
    headers = {"Idempotency-Key": "cat-1", "Content-Type": "application/json"}
    _, first, _ = await proxy.request("POST", GENERATIONS, data=said, headers=headers)
    _, again, _ = await proxy.request("POST", GENERATIONS, data=said, headers=headers)
    seen = await scrape(proxy)
    assert seen("pixie_joins_total") == 1
    assert seen("pixie_calls_total", model="gpt-image-2", state="done") == 1
    assert seen("pixie_requests_total", route=GENERATIONS, outcome="ok", model="gpt-image-2") == 2
    one, two = [record for record in caplog.records if getattr(record, "route", "") == GENERATIONS]
    assert first["x-request-id"] == again["x-request-id"] == one.__dict__["request_id"]
    assert (one.__dict__["replay_of"], two.__dict__["replay_of"]) == (None, first["x-request-id"])
    assert two.__dict__["request_id"] != first["x-request-id"]


async def test_times_are_the_upstreams(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """The head comes at once and the picture 0.2 s later: a first byte and an end."""
    answer = image_json_bytes([png()])
    upstream.script(
        head(200, [("Content-Type", "application/json")], "eof"),
        raw(answer[:10]),
        pause(0.2),
        raw(answer[10:]),
        cut("fin"),
    )
    began = time.perf_counter()
    await proxy.sdk().images.generate(model="gpt-image-2", prompt="slow")
    took_s = time.perf_counter() - began
    seen = await scrape(proxy)
    first_s = seen("pixie_upstream_first_byte_seconds_sum", model="gpt-image-2")
    whole_s = seen("pixie_upstream_duration_seconds_sum", model="gpt-image-2", outcome="ok")
    client_s = seen("pixie_request_duration_seconds_sum", route=GENERATIONS)
    assert first_s + 0.19 < whole_s < client_s < took_s


async def test_labels_have_an_end(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A model or an address that nobody knows is `other`, however many of them a client makes up."""
    upstream.default(*image_json(1))

    async def make_up(name: str) -> Scrape:
        await proxy.sdk().images.generate(model=f"made-up-{name}", prompt="a cat")
        await proxy.request("GET", f"/made/up/{name}")
        await proxy.request("GET", f"/v1/images/img_{name:0>26}")
        return await scrape(proxy)

    await make_up("0")
    before = await make_up("1")
    after = [await make_up(str(number)) for number in range(2, 5)][-1]
    assert after.samples.keys() == before.samples.keys()
    assert "made" not in after.text
    requests = after.grown("pixie_requests_total")
    assert requests["other", "ok", GENERATIONS] == 5
    assert requests["", "refused", "other"] == 5
    assert requests["", "refused", "/v1/images/{id}"] == 5
    assert after.grown("pixie_images_kept_total") == {("other",): 5}


async def test_a_client_that_left_is_counted_as_one(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Its request has no good end, its call has: the image is kept."""
    go_on = asyncio.Event()
    upstream.script(pause(go_on), *image_json(1))
    async with dial(proxy.url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, http(body=CAT))
        await upstream.wait_for_requests(1)
        under_way = await scrape(proxy)
        assert (under_way("pixie_requests_in_flight"), under_way("pixie_upstream_in_flight")) == (2, 1)
    go_on.set()
    await ended(proxy)

    async def is_told() -> bool:
        return (await scrape(proxy)).grown("pixie_requests_total").get(
            ("gpt-image-2", "client_gone", GENERATIONS)
        ) == 1

    await eventually(is_told)
    seen = await scrape(proxy)
    assert seen("pixie_calls_total", model="gpt-image-2", state="done") == 1
    assert seen("pixie_images_kept_total", model="gpt-image-2") == 1


async def test_an_answer_that_broke_is_no_success(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Status 200 had gone out already; the count knows better."""
    answer, go_on = image_json_bytes([png(size_bytes=400_000)]), asyncio.Event()
    upstream.script(
        head(200, [("Content-Type", "application/json")], "eof"),
        raw(answer[:300_000]),
        pause(go_on),
        cut("rst"),
    )
    async with dial(proxy.url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, http(body=CAT))
        await read_until(sock, b"iVBOR")
        go_on.set()
        with pytest.raises(ConnectionError):
            await read_until(sock, b"usage")
    await ended(proxy)
    seen = await scrape(proxy)
    assert seen("pixie_requests_total", route=GENERATIONS, outcome="failed", model="gpt-image-2") == 1
    assert seen.grown("pixie_failures_total") == {("broken_answer",): 1}


async def test_the_spool_is_measured_when_asked(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """One call with an image on its way: a folder, as old as the call; none when it has ended."""
    go_on = asyncio.Event()
    big = image_json_bytes([png(size_bytes=3_000_000), png(seed=1)])
    upstream.script(
        head(200, [("Content-Type", "application/json")], "eof"),
        raw(big[:-200]),
        pause(go_on),
        raw(big[-200:]),
    )
    began = time.time()
    calling = asyncio.ensure_future(proxy.sdk().images.generate(model="gpt-image-2", prompt="two", n=2))

    async def is_there() -> bool:
        return (await scrape(proxy))("pixie_spool_calls") == 1

    await eventually(is_there)
    seen = await scrape(proxy)
    assert 0 < seen("pixie_spool_oldest_seconds") <= time.time() - began
    assert seen("pixie_spool_free_bytes") > 0
    go_on.set()
    await calling
    upstream.script(*image_sse([png()], partials=1))
    async for _ in await proxy.sdk().images.generate(  # whose partial image stays in the spool for a while
        model="gpt-image-2", prompt="a stream", stream=True, partial_images=1
    ):
        pass
    await ended(proxy)
    after = await scrape(proxy)
    assert (after("pixie_spool_calls"), after("pixie_spool_oldest_seconds")) == (0, 0)


async def test_a_blocked_loop_is_seen(proxy: RunningProxy) -> None:
    """Who stands still longer than the timer's half second makes it late by a tenth at least."""
    time.sleep(0.6)  # which is what must not happen

    async def is_late() -> bool:
        seen = await scrape(proxy)
        name = "pixie_event_loop_lag_seconds"
        return seen(f"{name}_count") > seen(f"{name}_bucket", le="0.05")

    await eventually(is_late)


async def test_only_an_admins_key_opens_it(proxy: RunningProxy) -> None:
    """Nobody without a key, no member, no viewer, and no cookie, not even an admin's."""
    for key, status, code in (
        (None, 401, b"invalid_api_key"),
        ("px-wrong", 401, b"invalid_api_key"),
        (MEMBER_KEY, 403, b"permission_denied"),
        (VIEWER_KEY, 403, b"permission_denied"),
    ):
        answered, _, body = await proxy.request("GET", "/metrics", key=key)
        assert (answered, code in body) == (status, True)
    browser = await sign_in(proxy, ADMIN_KEY)
    status, _, page = await browser.get("/metrics")
    assert (status, "pixie_" in page) == (401, False)


async def test_prometheus_gets_the_format_it_prefers(proxy: RunningProxy) -> None:
    """OpenMetrics if it asks for it, as a newer Prometheus does."""
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    status, headers, body = await proxy.request("GET", "/metrics", key=ADMIN_KEY, headers={"Accept": accept})
    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
