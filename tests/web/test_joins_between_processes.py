"""A retry finds its call in another process, and after a death: the index knows who waits for what."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import orjson
import pytest

from tests.conftest import IN_SQLITE_AND_TORTURE_BOTH, KeepIndex
from tests.support import outside
from tests.support.figures import RecordFigure
from tests.support.pictures import png
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.upstream import (
    ScriptedUpstream,
    cut,
    head,
    image_json,
    image_sse,
    image_sse_events,
    pause,
)
from tests.support.waiting import eventually
from tests.web.calling import CAT, GENERATIONS, dial, http, read_until

pytestmark = pytest.mark.system

BIG = png(size_bytes=6_000_000)
STREAM = {**CAT, "stream": True, "partial_images": 1}
KEY = {"Idempotency-Key": "k"}
LEFT = "SELECT request_id FROM deliveries WHERE left_us IS NOT NULL"


async def post(
    proxy: RunningProxy, fields: dict[str, Any], headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    status, got, answer = await proxy.request("POST", GENERATIONS, json=fields, headers=headers)
    return status, {name.lower(): value for name, value in got.items()}, answer


def retry(count: int) -> dict[str, str]:
    return {"x-stainless-retry-count": str(count)}


async def test_answers_are_given_again_after_a_kill(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Byte for byte, with the ids of the first; partial images too, for they lie on the disk."""
    data = tmp_path / "data"
    calls = [
        (CAT, {"Idempotency-Key": "small"}, image_json([png(seed=3)])),
        (CAT, {"Idempotency-Key": "large"}, image_json([BIG])),
        (STREAM, {"Idempotency-Key": "stream"}, image_sse([BIG], partials=1)),
    ]
    firsts = []
    async with spawn_proxy(data, upstream.base_url) as proxy:
        for fields, key, script in calls:
            upstream.script(script)
            firsts.append(await post(proxy, fields, key))
        await outside.kill(proxy)
    async with spawn_proxy(data, upstream.base_url) as proxy:
        for (fields, key, _), (status, first, whole) in zip(calls, firsts, strict=True):
            again_status, again, repeated = await post(proxy, fields, key)
            assert (again_status, repeated) == (status, whole)
            assert again["x-request-id"] == first["x-request-id"]
            assert again["idempotent-replayed"] == "true"
    assert upstream.charged == 3


@pytest.mark.parametrize("survives", [False, True])
async def test_a_client_that_was_cut_off_by_a_kill_is_served(
    tmp_path: Path, upstream: ScriptedUpstream, survives: bool
) -> None:
    """It had half of its answer. Its retry, at the next start or at a neighbour, gets the whole of it for nothing."""
    data = tmp_path / "data"
    upstream.default(*image_json([BIG]))
    async with AsyncExitStack() as running:
        proxy = other = await running.enter_async_context(spawn_proxy(data, upstream.base_url))
        if survives:
            other = await running.enter_async_context(spawn_proxy(data, upstream.base_url))
        async with dial(proxy.url, receive_buffer=4096) as sock:
            sent = http(body=CAT, headers=retry(0))
            await asyncio.get_running_loop().sock_sendall(sock, sent)
            await read_until(sock, b"iVBOR")
            await eventually(lambda: [call["state"] for call in outside.calls(data)] == ["done"])
            await outside.kill(proxy)
        if not survives:
            other = await running.enter_async_context(spawn_proxy(data, upstream.base_url))
        status, headers, answer = await post(other, CAT, retry(1))
    assert (status, headers["idempotent-replayed"], upstream.charged) == (200, "true", 1)
    assert len(answer) > 8_000_000


async def test_a_call_that_died_with_its_process_is_not_made_again(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """The SDK's retry at the next start is told that the outcome is unknown; nothing goes upstream."""
    data = tmp_path / "data"
    upstream.script(pause(asyncio.Event()))
    async with spawn_proxy(data, upstream.base_url) as proxy:
        call = asyncio.ensure_future(post(proxy, CAT, retry(0)))
        await upstream.wait_for_requests(1)
        await outside.kill(proxy)
        await asyncio.wait({call})
        assert call.exception() is not None
    async with spawn_proxy(data, upstream.base_url) as proxy:
        status, headers, answer = await post(proxy, CAT, retry(1))
    (row,) = outside.calls(data)
    assert (status, headers["x-should-retry"], len(upstream.requests)) == (502, "false", 1)
    assert row["id"].encode() in answer


async def test_a_retry_joins_a_call_of_another_process(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """While it runs: it waits there, and gets every byte."""
    data, answer = tmp_path / "data", b""
    async with spawn_proxy(data, upstream.base_url) as one, spawn_proxy(data, upstream.base_url) as two:
        for fields, script in [(CAT, image_json([BIG])), (STREAM, image_sse([BIG], partials=1))]:
            go, before = asyncio.Event(), upstream.charged
            upstream.script(pause(go), *script)
            async with dial(one.url) as sock:
                sent = http(body=fields, headers=retry(0))
                await asyncio.get_running_loop().sock_sendall(sock, sent)
                await upstream.wait_for_requests(before + 1)
            await eventually(lambda: outside.rows(data, LEFT))
            again = asyncio.ensure_future(post(two, fields, retry(1)))
            await eventually(lambda: not outside.rows(data, LEFT))
            go.set()
            status, headers, answer = await again
            assert (status, headers["idempotent-replayed"], upstream.charged) == (200, "true", before + 1)
    assert answer == b"".join(image_sse_events([BIG], partials=1))


async def test_who_joined_a_call_of_another_process_that_failed_asks_anew(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """It cost nothing, and what went wrong is not known here."""
    data, go = tmp_path / "data", asyncio.Event()
    upstream.script(pause(go), head(400), cut())
    upstream.script(image_json([png(seed=5)]))
    async with spawn_proxy(data, upstream.base_url) as one, spawn_proxy(data, upstream.base_url) as two:
        first = asyncio.ensure_future(post(one, CAT, KEY))
        await upstream.wait_for_requests(1)
        again = asyncio.ensure_future(post(two, CAT, KEY))
        await asyncio.sleep(0.2)
        go.set()
        assert (await first)[0] == 400
        status, headers, _ = await again
    assert (status, "idempotent-replayed" in headers, len(upstream.requests)) == (200, False, 2)


@pytest.mark.parametrize("keep_index", IN_SQLITE_AND_TORTURE_BOTH, indirect=True)
@pytest.mark.parametrize("rounds", [1, pytest.param(200, marks=pytest.mark.torture)])
async def test_one_key_at_four_processes_pays_once(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    keep_index: KeepIndex,
    rounds: int,
    record_figure: RecordFigure,
) -> None:
    """Fifty at once, a round: one upstream call, fifty equal bodies, forty-nine of them marked."""
    data = tmp_path / "data"
    keep_index(data)
    async with AsyncExitStack() as running:
        proxies = [await running.enter_async_context(spawn_proxy(data, upstream.base_url)) for _ in range(4)]
        for number in range(rounds):
            upstream.script(pause(0.2), *image_json([png(size_bytes=100_000, seed=number)]))
            key = {"Idempotency-Key": f"k{number}"}
            answers = await asyncio.gather(*[post(proxies[n % 4], CAT, key) for n in range(50)])
            assert {status for status, _, _ in answers} == {200}
            assert len({body for _, _, body in answers}) == 1
            assert sum("idempotent-replayed" in headers for _, headers, _ in answers) == 49
    assert upstream.charged == rounds
    record_figure("R13", keys=rounds, calls=50 * rounds, charges=rounds, processes=4)


@pytest.mark.parametrize("keep_index", IN_SQLITE_AND_TORTURE_BOTH, indirect=True)
@pytest.mark.parametrize("rounds", [2, pytest.param(100, marks=pytest.mark.torture)])
async def test_racing_retries_at_two_processes_take_a_lost_call_over_once(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    keep_index: KeepIndex,
    rounds: int,
    record_figure: RecordFigure,
) -> None:
    """Of six at once one has it, five are calls of their own."""
    data = tmp_path / "data"
    keep_index(data)
    upstream.default(pause(0.1), *image_json([png(seed=1)]))
    async with spawn_proxy(data, upstream.base_url) as one, spawn_proxy(data, upstream.base_url) as two:
        for number in range(rounds):
            fields, before = {**CAT, "user": str(number)}, upstream.charged
            async with dial(one.url) as sock:
                sent = http(body=fields, headers=retry(0))
                await asyncio.get_running_loop().sock_sendall(sock, sent)
                await upstream.wait_for_requests(before + 1)
            await eventually(lambda: outside.rows(data, LEFT))
            answers = await asyncio.gather(*[post((one, two)[n % 2], fields, retry(1)) for n in range(6)])
            assert sum("idempotent-replayed" in headers for _, headers, _ in answers) == 1
            assert upstream.charged == before + 6
    record_figure("R16", lost_calls=rounds, retries=6 * rounds, taken_over=rounds, double_claims=0)


async def ask_around(
    proxies: list[RunningProxy], first: int, fields: dict[str, Any], key: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """Call one process and, where it is gone or goes away, the next: as an SDK does behind a balancer."""
    for attempt in range(20):
        try:
            return await post(proxies[(first + attempt) % len(proxies)], fields, {**key, **retry(attempt)})
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)
    raise AssertionError("nobody answers")


@pytest.mark.parametrize("keep_index", IN_SQLITE_AND_TORTURE_BOTH, indirect=True)
@pytest.mark.parametrize("races", [2, pytest.param(250, marks=pytest.mark.torture)])
async def test_racing_calls_with_one_key_pay_once_though_a_process_dies(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    keep_index: KeepIndex,
    races: int,
    record_figure: RecordFigure,
) -> None:
    """Two to twenty calls at four processes, of which one is killed in every other race.

    All get the same bytes. Only where the process that asked the upstream died before it had the image, all are
    told so, in an error that no SDK repeats.
    """
    data, random, calls, unknown = tmp_path / "data", Random(16), 0, 0
    keep_index(data)
    async with AsyncExitStack() as running:

        async def start() -> RunningProxy:
            return await running.enter_async_context(spawn_proxy(data, upstream.base_url))

        proxies = [await start() for _ in range(4)]
        for race in range(races):
            picture, asked = png(size_bytes=100_000, seed=race), len(upstream.requests)
            upstream.default(pause(random.uniform(0, 0.2)), *image_json([picture]))
            key, first = {"Idempotency-Key": f"k{race}"}, random.randrange(4)
            async with asyncio.TaskGroup() as group:
                callers = [
                    group.create_task(ask_around(proxies, first + n, CAT, key))
                    for n in range(random.randint(2, 20))
                ]
                if is_killed := race % 2 == 1:
                    await asyncio.sleep(random.uniform(0, 0.4))
                    await outside.kill(proxies.pop(random.randrange(4)))
            answers = [caller.result() for caller in callers]
            bodies = {answer for _, _, answer in answers}
            calls += len(answers)
            assert len(upstream.requests) - asked <= 1
            assert len(bodies) == 1, bodies
            if {status for status, _, _ in answers} == {200}:
                assert b64decode(orjson.loads(bodies.pop())["data"][0]["b64_json"]) == picture
            else:
                assert is_killed
                assert all(headers["x-should-retry"] == "false" for _, headers, _ in answers)
                assert orjson.loads(bodies.pop())["error"]["code"] == "upstream_outcome_unknown"
                unknown += 1
            if is_killed:
                proxies.append(await start())
    record_figure(
        "R16", races=races, retries=calls, kills=races // 2, honest_unknown=unknown, double_charges=0
    )
