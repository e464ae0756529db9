"""Limits of a user: both sides of each, what a refusal says, and that it costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import openai
import pytest

from tests.support.proxy import ADMIN_KEY, OTHER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, cut, error_json, image_json, pause
from tests.web.calling import CAT, GENERATIONS, AnySdk, account, ended, error_of, ledger_rows
from tests.web.conftest import ProxyWith


async def call(proxy: RunningProxy, **fields: Any) -> tuple[int, Mapping[str, str], bytes]:
    return await proxy.request("POST", GENERATIONS, json={**CAT, **fields})


async def test_requests_a_minute(proxy_with: ProxyWith, upstream: ScriptedUpstream) -> None:
    """L go through, the next is refused with the wait in words and in `retry-after`; other users are not touched."""
    proxy = await proxy_with(limits={"requests_per_minute": 4})
    assert [(await call(proxy))[0] for _ in range(4)] == [200] * 4
    status, headers, body = await call(proxy)
    error = error_of(body)
    assert (status, error["type"], error["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert "4 requests a minute" in error["message"]
    assert 10 <= int(headers["retry-after"]) <= 15
    assert (headers["x-ratelimit-remaining-requests"], "x-should-retry" in headers) == ("0", False)
    assert (len(upstream.requests), len(await ledger_rows(proxy))) == (4, 4)
    with pytest.raises(openai.RateLimitError):
        await AnySdk(proxy, "async").images("generate", **CAT)
    await AnySdk(proxy, "async", key=OTHER_KEY).images("generate", **CAT)


async def test_images_a_minute(proxy_with: ProxyWith, upstream: ScriptedUpstream) -> None:
    """A call takes its n; one that does not fit leaves room for one that does, and takes no request either."""
    proxy = await proxy_with(limits={"images_per_minute": 6, "requests_per_minute": 3})
    assert [(await call(proxy, n=n))[0] for n in (4, 3, 2, 1)] == [200, 429, 200, 429]
    status, headers, body = await call(proxy, n=6)
    assert (status, error_of(body)["code"]) == (429, "rate_limit_exceeded")
    assert "6 images a minute" in error_of(body)["message"]
    assert (headers["x-ratelimit-remaining-images"], headers["x-ratelimit-remaining-requests"]) == ("0", "1")
    assert 50 <= int(headers["retry-after"]) <= 60
    assert [request.json().get("n") for request in upstream.requests] == [4, 2]


async def test_more_images_than_a_minute_ever_has(proxy_with: ProxyWith, upstream: ScriptedUpstream) -> None:
    """Waiting can't help, so it is no 429 that an SDK would try again."""
    proxy = await proxy_with(limits={"images_per_minute": 3})
    status, _, body = await call(proxy, n=4)
    assert (status, error_of(body)["code"], error_of(body)["param"]) == (400, "invalid_value", "n")
    assert (await call(proxy, n=3))[0] == 200
    assert len(upstream.requests) == 1


async def test_requests_at_once(proxy_with: ProxyWith, upstream: ScriptedUpstream) -> None:
    """At the limit the next is refused at once; a slot is free again when its call has ended."""
    proxy = await proxy_with(limits={"concurrent_requests": 2})
    go = asyncio.Event()
    upstream.default(pause(go), image_json())
    running = [asyncio.create_task(call(proxy)) for _ in range(2)]
    await upstream.wait_for_requests(2)
    status, headers, body = await call(proxy)
    error = error_of(body)
    assert (status, error["type"], error["code"]) == (429, "rate_limit_error", "concurrency_limit_exceeded")
    assert 10 <= int(headers["retry-after"]) <= 60
    go.set()
    assert [(await each)[0] for each in running] == [200, 200]
    assert (await call(proxy))[0] == 200
    assert len(upstream.requests) == 3


async def test_a_flood_gets_as_many_slots_as_there_are(
    proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """Thirty at the same moment: not one more than the limit is let through, and none of the slots is lost."""
    proxy = await proxy_with(limits={"concurrent_requests": 5})
    go = asyncio.Event()
    upstream.default(pause(go), image_json())
    calls = [asyncio.create_task(call(proxy)) for _ in range(30)]
    await upstream.wait_for_requests(5)
    while sum(each.done() for each in calls) < 25:
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=0.01)
    assert len(upstream.requests) == 5
    go.set()
    assert sorted([(await each)[0] for each in calls]) == [200] * 5 + [429] * 25
    assert (await account(proxy)).in_flight == 0


@pytest.mark.parametrize("end", [error_json(400), error_json(500), [cut("rst")], image_json()])
async def test_every_end_gives_the_slot_back(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, end: list[Any]
) -> None:
    """Whatever becomes of a call, the next one fits when its answer is there."""
    proxy = await proxy_with(limits={"concurrent_requests": 1})
    upstream.default(end)
    for _ in range(3):
        status, _, body = await call(proxy)
        assert status != 429, body
    await ended(proxy)
    assert (await account(proxy)).held_micros == 0


async def test_a_users_own_limits_go_over_the_general_ones(
    proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """Those that are left out stay the general ones; null means no limit."""
    own = {"requests_per_minute": None, "images_per_minute": 2}
    users = [{"name": "alice", "key": ADMIN_KEY, "role": "admin", "limits": own}]
    proxy = await proxy_with(limits={"requests_per_minute": 1, "concurrent_requests": 9}, users=users)
    told = (await proxy.get("/v1/me", ADMIN_KEY))["limits"]
    assert (told["requests_per_minute"], told["images_per_minute"], told["concurrent_requests"]) == (
        None,
        2,
        9,
    )
    sdk = AnySdk(proxy, "async", key=ADMIN_KEY)
    for _ in range(2):
        await sdk.images("generate", **CAT)
    with pytest.raises(openai.RateLimitError) as caught:
        await sdk.images("generate", **CAT)
    assert "2 images a minute" in caught.value.message
    assert "x-ratelimit-limit-requests" not in caught.value.response.headers
