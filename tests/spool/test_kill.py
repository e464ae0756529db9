"""A proxy that is killed at any instant has lost nothing that a client got whole (R1, L3 to L6)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sqlite3
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from tests.support import outside
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, RunningProxy, spawn_proxy
from tests.support.upstream import (
    Exchange,
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

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


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


class Traffic:
    """Calls of every kind at once; remembers the hash of each image that came whole."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.number = 1000 * seed
        self.received: set[str] = set()

    async def answer(self, exchange: Exchange) -> None:
        """Be the upstream: different pictures each time, of all sizes, in pieces with pauses."""
        request = exchange.request
        asked = (
            request.json()
            if request.path.endswith("generations")
            else {name: request.text(name) for name in ("n", "stream")}
        )
        pictures = []
        for _ in range(int(asked["n"])):
            self.number += 1
            pictures.append(png(size_bytes=self.random.choice([1000, 30_000, 400_000]), seed=self.number))
        is_stream = asked["stream"] in {True, "true"}
        pieces = image_sse_events(pictures, partials=1) if is_stream else [image_json_bytes(pictures)]
        kind = "text/event-stream" if is_stream else "application/json"
        await exchange.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n"
            f"Content-Length: {sum(map(len, pieces))}\r\n\r\n".encode()
        )
        for piece in pieces:
            for at in range(0, len(piece), 100_000):
                await asyncio.sleep(self.random.random() * 0.02)
                await exchange.write(piece[at : at + 100_000])

    async def client(self, proxy: RunningProxy) -> None:
        """Make one call after the other until the proxy is gone."""
        with suppress(aiohttp.ClientError, ConnectionError):
            while True:
                n, stream = self.random.randint(1, 3), self.random.random() < 0.4
                prompt = (
                    f"fox {self.random.random()}"  # a call equal to a lost one would be taken for its retry
                )
                fields = {"prompt": prompt, "n": n, "stream": stream}
                if self.random.random() < 0.3:
                    form = aiohttp.FormData({name: str(value).lower() for name, value in fields.items()})
                    form.add_field("image", png(), filename="a.png", content_type="image/png")
                    await self.call(proxy, EDITS, stream=stream, data=form)
                else:
                    await self.call(proxy, GENERATIONS, stream=stream, json=fields)

    async def call(self, proxy: RunningProxy, path: str, *, stream: bool, **options: Any) -> None:
        headers = {"Authorization": f"Bearer {MEMBER_KEY}"}
        got = bytearray()
        async with proxy.session.post(proxy.url + path, headers=headers, **options) as response:
            assert response.status == 200, await response.read()
            try:
                async for piece in response.content.iter_any():
                    got += piece
            finally:
                if stream:
                    for event in got.split(b"\n\n")[:-1]:
                        if b".completed" in event:
                            self.take(json.loads(event[event.index(b"data: ") + 6 :]))
        if not stream:
            for item in json.loads(got)["data"]:
                self.take(item)

    def take(self, item: dict[str, Any]) -> None:
        self.received.add(hashlib.sha256(base64.b64decode(item["b64_json"])).hexdigest())


async def check(traffic: Traffic, proxy: RunningProxy, data: Path) -> None:
    """Compare what clients got with what is there: nothing is missing, and nothing is there but whole images."""
    await outside.settled(data)
    listed = await outside.gallery(proxy)
    in_storage = outside.stored(data)
    hashes = [image["sha256"] for image in listed]
    assert len(hashes) == len(set(hashes))
    assert traffic.received <= set(hashes)
    assert {f"{image['request_id']}/{image['index']}.png": image["sha256"] for image in listed} == in_storage
    assert {call["state"] for call in outside.calls(data)} <= {"done", "unknown"}


@pytest.mark.parametrize("seed", [1, 2, *[pytest.param(n, marks=pytest.mark.torture) for n in range(3, 13)]])
async def test_a_kill_at_any_instant_loses_nothing(
    tmp_path: Path, upstream: ScriptedUpstream, seed: int
) -> None:
    """Five times in a row, under mixed load, each start recovering what the one before had left."""
    data, traffic = tmp_path / "data", Traffic(seed)
    upstream.default(traffic.answer)
    for _ in range(5):
        async with spawn_proxy(data, upstream.base_url) as proxy:
            clients = [asyncio.ensure_future(traffic.client(proxy)) for _ in range(6)]
            enough = len(traffic.received) + traffic.random.randint(0, 15)
            await eventually(lambda enough=enough: len(traffic.received) >= enough)  # type: ignore[misc]
            await asyncio.sleep(traffic.random.uniform(0, 0.2))
            await outside.kill(proxy)
            await asyncio.gather(*clients)
    async with spawn_proxy(data, upstream.base_url) as proxy:
        await check(traffic, proxy, data)
    assert len(traffic.received) >= 20
