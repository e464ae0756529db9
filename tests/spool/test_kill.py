"""A proxy that is killed at any instant has lost nothing that a client got whole (R1, L3 to L6)."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import IN_SQLITE_AND_TORTURE_BOTH, KeepIndex
from tests.support import outside
from tests.support.old_collection import leave_open
from tests.support.pictures import png
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.traffic import EDITS, GENERATIONS, Traffic
from tests.support.upstream import (
    ScriptedUpstream,
    body,
    head,
    image_json,
    image_json_bytes,
    image_sse_events,
    pause,
    stall,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.system


async def leave(proxy: RunningProxy, **fields: Any) -> asyncio.Task[Any]:
    """Make a call whose answer never comes."""

    async def ask() -> None:
        with suppress(aiohttp.ClientError, ConnectionError):
            await proxy.request("POST", GENERATIONS, json={"prompt": "a fox", **fields})

    return asyncio.ensure_future(ask())


async def test_a_call_without_an_answer_is_of_unknown_outcome(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """The upstream had it whole: it is charged at its hold, shown, and not sent again by anybody."""
    data = tmp_path / "data"
    upstream.default(stall())
    async with spawn_proxy(data, upstream.base_url) as proxy:
        calls = [await leave(proxy, n=n) for n in (1, 2)]
        await upstream.wait_for_requests(2)
        assert outside.account(data)["in_flight"] == 2
        await outside.kill(proxy)
        await asyncio.gather(*calls)
    async with spawn_proxy(data, upstream.base_url) as proxy:
        await outside.settled(data)
        assert await outside.gallery(proxy) == []
    ended = outside.calls(data)
    assert [call["state"] for call in ended] == ["unknown"] * 2
    assert all(call["cost_micros"] == call["hold_micros"] > 0 for call in ended)
    assert outside.account(data)["spent_micros"] == sum(call["hold_micros"] for call in ended)
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_images_that_had_come_whole_are_salvaged(
    tmp_path: Path, upstream: ScriptedUpstream, stream: bool
) -> None:
    """Two of four large ones, and the third half: exactly two are in the gallery, byte for byte."""
    data = tmp_path / "data"
    pictures = [png(size_bytes=1_200_000, seed=seed) for seed in range(4)]
    answer = b"".join(image_sse_events(pictures)) if stream else image_json_bytes(pictures)
    third = answer.index(base64.b64encode(pictures[2])[:200]) + 1_000_000
    kind = "text/event-stream" if stream else "application/json"
    upstream.script(head(200, [("Content-Type", kind)], length=len(answer)), body(answer[:third]), stall())
    async with spawn_proxy(data, upstream.base_url) as proxy:
        call = await leave(proxy, n=4, stream=stream)
        await eventually(
            lambda: {"0.png", "1.png", "2.part"} <= {path.name for path in outside.spooled(data)}
        )
        await outside.kill(proxy)
        await call
    async with spawn_proxy(data, upstream.base_url) as proxy:
        await outside.settled(data)
        found = await outside.gallery(proxy)
        assert sorted((image["index"], image["owner"]) for image in found) == [(0, "bob"), (1, "bob")]
        assert {image["index"]: await outside.content(proxy, image) for image in found} == dict(
            enumerate(pictures[:2])
        )
    assert [call["state"] for call in outside.calls(data)] == ["unknown"]
    assert {name.split("/")[1] for name in outside.stored(data)} == {"0.png", "1.png"}


async def test_what_the_index_had_not_heard_of_is_told_to_it(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """The client has its image, storage too; another process kept the index locked until the end came."""
    data, picture, go_on = tmp_path / "data", png(seed=1), asyncio.Event()
    upstream.script(pause(go_on), *image_json([picture]))
    async with spawn_proxy(data, upstream.base_url) as proxy:
        asking = asyncio.ensure_future(proxy.request("POST", GENERATIONS, json={"prompt": "a fox"}))
        await upstream.wait_for_requests(1)
        holder = sqlite3.connect(data / "pixie.db", isolation_level=None, timeout=10)
        holder.execute("BEGIN IMMEDIATE")
        go_on.set()
        answer = outside.json_of(await asking)
        assert base64.b64decode(answer["data"][0]["b64_json"]) == picture
        await outside.kill(proxy)
        holder.close()
    assert [call["state"] for call in outside.calls(data)] == ["sent"]
    async with spawn_proxy(data, upstream.base_url) as proxy:
        await outside.settled(data)
        (image,) = await outside.gallery(proxy)
        assert await outside.content(proxy, image) == picture
    assert [call["state"] for call in outside.calls(data)] == ["done"]


async def test_what_storage_had_not_got_is_brought_there(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Meanwhile it is served from the spool, before and after the kill; the start does not wait for it."""
    data, picture = tmp_path / "data", png(seed=1)
    obstacle = data / "storage" / "images"
    upstream.default(*image_json([picture]))
    async with spawn_proxy(data, upstream.base_url) as proxy:
        obstacle.write_text("in the way")
        answer = await proxy.request("POST", GENERATIONS, json={"prompt": "a fox"})
        assert base64.b64decode(outside.json_of(answer)["data"][0]["b64_json"]) == picture
        (image,) = await outside.gallery(proxy)
        assert await outside.content(proxy, image) == picture
        await outside.kill(proxy)
    async with spawn_proxy(data, upstream.base_url) as proxy:
        assert (await proxy.get("/healthz", key=None))["status"] == "ok"
        assert await outside.content(proxy, image) == picture
        assert [path.name for path in outside.spooled(data)].count("0.png") == 1
        obstacle.unlink()
        await outside.settled(data)
        assert [found["id"] for found in await outside.gallery(proxy)] == [image["id"]]
        assert await outside.content(proxy, image) == picture


async def test_a_drain_that_took_too_long_leaves_no_debt(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """What still ran is settled by the next start: no slot and no hold is lost."""
    data = tmp_path / "data"
    upstream.script(stall())
    server = {"drain_s": 0.2}
    async with spawn_proxy(data, upstream.base_url, server=server) as proxy:
        call = await leave(proxy)
        await upstream.wait_for_requests(1)
        assert await outside.terminate(proxy) == 0
        await call
    async with spawn_proxy(data, upstream.base_url, server=server):
        await outside.settled(data)
    assert [call["state"] for call in outside.calls(data)] == ["unknown"]


async def test_uploads_of_a_killed_proxy_are_swept(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """They are nobody's any more."""
    data = tmp_path / "data"
    upstream.script(stall())
    async with spawn_proxy(data, upstream.base_url) as proxy:
        form = aiohttp.FormData({"prompt": "a fox"})
        form.add_field("image", png(), filename="a.png", content_type="image/png")
        call = asyncio.ensure_future(proxy.request("POST", EDITS, data=form))
        await upstream.wait_for_requests(1)
        assert len(list((data / "spool" / "uploads").glob("*/*/*"))) == 1
        await outside.kill(proxy)
        with suppress(aiohttp.ClientError):
            await call
    async with spawn_proxy(data, upstream.base_url):
        await outside.settled(data)
        assert list((data / "spool" / "uploads").glob("*/*")) == []


@pytest.mark.parametrize("keep_index", IN_SQLITE_AND_TORTURE_BOTH, indirect=True)
@pytest.mark.parametrize(
    ("seed", "kills", "workers"),
    [
        (1, 4, None),
        pytest.param(1, 300, None, marks=pytest.mark.torture),
        pytest.param(2, 100, 4, marks=pytest.mark.torture),
    ],
)
async def test_a_kill_at_any_instant_loses_nothing(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    keep_index: KeepIndex,
    seed: int,
    kills: int,
    workers: int | None,
    record_figure: Callable[..., None],
) -> None:
    """Again and again, under mixed load, each start recovering what the one before had left."""
    data, is_long = tmp_path / "data", kills > 50
    keep_index(data)
    processes = workers or 1
    traffic = Traffic(seed, sizes=(1000, 10_000, 60_000), pause_s=0.01) if is_long else Traffic(seed)
    upstream.default(traffic.answer)
    recovery_s = []
    for number in range(kills):
        async with spawn_proxy(data, upstream.base_url, workers=workers) as proxy:
            begun = time.monotonic()
            await outside.settled(data, processes)
            recovery_s.append(time.monotonic() - begun)
            if number % 50 == 1:
                await traffic.check(proxy, data, processes)
            clients = [asyncio.ensure_future(traffic.client(proxy)) for _ in range(16 if is_long else 6)]
            await asyncio.sleep(traffic.random.uniform(0, 0.8))
            await outside.kill(proxy)
            await asyncio.gather(*clients)
    async with spawn_proxy(data, upstream.base_url) as proxy:
        await traffic.check(proxy, data)
    assert len(traffic.received) >= 2 * kills
    assert max(recovery_s) <= 10
    record_figure(
        "R1",
        seed=seed,
        kills=kills,
        processes=processes,
        images=len(traffic.received),
        longest_recovery_s=round(max(recovery_s), 2),
        violations=0,
    )


@pytest.mark.parametrize("calls", [90, pytest.param(1002, marks=pytest.mark.torture)])
async def test_a_thousand_open_calls_are_recovered_while_the_proxy_serves(
    tmp_path: Path, upstream: ScriptedUpstream, calls: int, record_figure: Callable[..., None]
) -> None:
    """A third sealed, a third with a whole image, a third with nothing; answers come all the while (R1, R97)."""
    data, picture = tmp_path / "data", png(size_bytes=200_000)
    upstream.default(*image_json([png()]))
    async with spawn_proxy(data, upstream.base_url) as proxy:
        outside.json_of(await proxy.request("POST", GENERATIONS, json={"prompt": "a fox"}))
        await outside.settled(data)
        await outside.kill(proxy)
    await asyncio.to_thread(leave_open, data, picture, calls)
    waits_s = []
    async with spawn_proxy(data, upstream.base_url) as proxy:
        begun = time.monotonic()
        while not outside.is_settled(data):
            asked = time.monotonic()
            await proxy.get("/healthz", key=None)
            outside.json_of(await proxy.request("POST", GENERATIONS, json={"prompt": "a fox"}))
            waits_s.append(time.monotonic() - asked)
        took_s = time.monotonic() - begun
        states = Counter(call["state"] for call in outside.calls(data))
        assert states["unknown"] == calls - calls // 3
        assert len(outside.stored(data)) == states["done"] + calls // 3
    assert took_s <= 10
    assert max(waits_s) <= 5
    record_figure(
        "R1", open_spools=calls, recovered_s=round(took_s, 2), slowest_answer_s=round(max(waits_s), 2)
    )
