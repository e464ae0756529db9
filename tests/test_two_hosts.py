"""Several hosts, each with a data directory of its own, over one PostgreSQL and one storage."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from pixie_proxy import app
from pixie_proxy.gallery import retention, sweeping
from pixie_proxy.spool import presence
from pixie_proxy.spool.area import calls_in, processes_in
from pixie_proxy.storage import Storage, sentinel
from tests.support import outside
from tests.support.callers import Order, place
from tests.support.pictures import png
from tests.support.postgres import Server, execute, rows
from tests.support.proxy import RunningProxy, config_file, run_proxy, spawn_proxy
from tests.support.upstream import ScriptedUpstream, body, head, image_json, image_sse_events, pause, stall
from tests.support.waiting import eventually
from tests.web.calling import context_of

pytestmark = pytest.mark.system

Sections = dict[str, Any]


@pytest.fixture
def hosts(tmp_path: Path, postgres: Server) -> tuple[Path, Path, Sections]:
    """Two data directories, and the settings that both hosts share."""
    (tmp_path / "storage").mkdir()
    shared = {
        "index": {"url": postgres.database()},
        "storage": {"kind": "local", "path": str(tmp_path / "storage")},
    }
    return tmp_path / "a", tmp_path / "b", shared


async def states(proxy: RunningProxy) -> list[str]:
    """Give the states of all calls, oldest first."""
    found = await proxy.get("/v1/requests?order=asc")
    return [call["state"] for call in found["data"]]


async def test_what_one_host_does_the_other_knows(
    hosts: tuple[Path, Path, Sections], upstream: ScriptedUpstream
) -> None:
    """Images, bytes and all, and that a call runs there: nobody takes it for dead."""
    a, b, shared = hosts
    go_on = asyncio.Event()
    upstream.script(image_json([png(seed=1)]))
    upstream.script(pause(go_on), *image_json([png(seed=2)]))
    async with (
        spawn_proxy(a, upstream.base_url, **shared) as at_a,
        spawn_proxy(b, upstream.base_url, **shared) as at_b,
    ):
        await at_a.sdk().images.generate(prompt="first", model="gpt-image-2")

        async def is_seen() -> bool:
            found = (await at_b.get("/v1/images"))["data"]
            return [image["prompt"] for image in found] == ["first"]

        await eventually(is_seen)
        (image,) = (await at_b.get("/v1/images"))["data"]
        status, _, content = await at_b.request("GET", f"/v1/images/{image['id']}/content")
        assert (status, content) == (200, png(seed=1))
        running = asyncio.ensure_future(at_a.sdk().images.generate(prompt="second", model="gpt-image-2"))
        await upstream.wait_for_requests(2)
        await asyncio.sleep(2 * 5)  # two passes of recovery at the other host
        assert await states(at_b) == ["done", "sent"]
        go_on.set()
        assert (await running).data
        await eventually(lambda: is_done(at_b))


async def test_no_host_keeps_a_thumbnail_of_a_purged_image(
    hosts: tuple[Path, Path, Sections], upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of them purges it; those of others stay."""
    a, b, shared = hosts
    monkeypatch.setattr(retention, "EVERY_S", 0.2)
    monkeypatch.setattr(sweeping, "EVERY_S", 0.2)
    upstream.script(image_json([png(seed=1), png(seed=2)]))
    async with (
        run_proxy(a, upstream.base_url, **shared) as at_a,
        run_proxy(b, upstream.base_url, **shared) as at_b,
    ):
        await at_a.sdk().images.generate(prompt="two", model="gpt-image-2", n=2)
        gone, live = [image["id"] for image in (await at_b.get("/v1/images"))["data"]]
        for at in (at_a, at_b):
            for image_id in (gone, live):
                await at.request("GET", f"/v1/images/{image_id}/thumbnail")
        assert [cached(data_dir) for data_dir in (a, b)] == [{gone, live}] * 2
        await at_b.request("DELETE", f"/v1/images/{gone}")
        execute(shared["index"]["url"], "UPDATE images SET deleted_us = 1 WHERE deleted_us IS NOT NULL")
        await eventually(lambda: [cached(data_dir) for data_dir in (a, b)] == [{live}] * 2)


def cached(data_dir: Path) -> set[str]:
    """Give the ids of the images that a host has thumbnails of."""
    return {path.name.partition("-")[0] for path in (data_dir / "thumbnails").rglob("*.webp")}


async def test_two_first_starts_at_once_are_one(
    hosts: tuple[Path, Path, Sections], upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that found the index empty, and then the other's mark on the storage, goes on with that."""
    a, b, shared = hosts
    async with AsyncExitStack() as running:

        async def look_when_the_other_has_started(storage: Storage) -> str | None:
            await running.enter_async_context(spawn_proxy(a, upstream.base_url, **shared))
            return await sentinel(storage)

        monkeypatch.setattr(app, "sentinel", look_when_the_other_has_started)
        at_b = await running.enter_async_context(run_proxy(b, upstream.base_url, **shared))
        upstream.script(image_json([png(seed=4)]))
        assert (await at_b.sdk().images.generate(prompt="both", model="gpt-image-2")).data


async def is_done(proxy: RunningProxy) -> bool:
    return set(await states(proxy)) == {"done"}


async def test_a_retry_that_meets_the_other_host_joins(
    hosts: tuple[Path, Path, Sections], upstream: ScriptedUpstream
) -> None:
    """Whoever is cut off at one host and asks the other gets the same image, which is bought once."""
    a, b, shared = hosts
    go_on = asyncio.Event()
    upstream.default(pause(go_on), *image_json([png(seed=3)]))
    async with (
        spawn_proxy(a, upstream.base_url, **shared) as at_a,
        spawn_proxy(b, upstream.base_url, **shared) as at_b,
    ):
        order = {"prompt": "once", "model": "gpt-image-2"}
        first = asyncio.ensure_future(at_a.sdk().images.generate(**order))  # type: ignore[call-overload]
        await upstream.wait_for_requests(1)
        first.cancel()
        retry = {"extra_headers": {"x-stainless-retry-count": "1"}}
        second = asyncio.ensure_future(at_b.sdk().images.generate(**order, **retry))  # type: ignore[call-overload]
        by_key = {"extra_headers": {"Idempotency-Key": "k"}}
        keyed = [
            asyncio.ensure_future(at.sdk().images.generate(**order, **by_key))  # type: ignore[call-overload]
            for at in (at_a, at_b, at_a, at_b)
        ]
        await upstream.wait_for_requests(2)
        go_on.set()
        answers = await asyncio.gather(second, *keyed)
    assert {answer.data[0].b64_json for answer in answers} == {answers[0].data[0].b64_json}
    assert len(upstream.requests) == 2  # one for the call that was cut off, one for the key


ORDER: dict[str, Any] = {"prompt": "once", "model": "gpt-image-2", "n": 1}
RETRY: dict[str, Any] = {"extra_headers": {"x-stainless-retry-count": "1"}}


async def test_a_retry_takes_over_the_call_of_a_host_that_was_killed_a_moment_ago(
    hosts: tuple[Path, Path, Sections], upstream: ScriptedUpstream
) -> None:
    """It does not buy again, long before anybody may take that host for dead, and hears what became of the call."""
    a, b, shared = hosts
    upstream.default(stall())
    async with spawn_proxy(b, upstream.base_url, **shared) as at_b:
        async with spawn_proxy(a, upstream.base_url, **shared) as at_a:
            first = asyncio.ensure_future(place(at_a.sdk(), Order(prompt="once")))
            await upstream.wait_for_requests(1)
            await outside.kill(at_a)
            assert (await first).error == "APIConnectionError"
            await at_a.close()
        second = asyncio.ensure_future(at_b.sdk().images.generate(**ORDER, **RETRY))
        async with spawn_proxy(a, upstream.base_url, **shared):
            with pytest.raises(openai.APIStatusError) as failure:
                await second
            assert failure.value.code == "upstream_outcome_unknown"
    assert len(upstream.requests) == 1


async def test_a_retry_leaves_an_equal_call_to_its_client_where_the_other_host_lives(
    hosts: tuple[Path, Path, Sections], upstream: ScriptedUpstream
) -> None:
    """Two equal calls made on purpose stay two, though one of them is a retry of what never reached us."""
    a, b, shared = hosts
    go_on = asyncio.Event()
    upstream.default(pause(go_on), *image_json([png(seed=3)]))
    async with (
        spawn_proxy(a, upstream.base_url, **shared) as at_a,
        spawn_proxy(b, upstream.base_url, **shared) as at_b,
    ):
        first = asyncio.ensure_future(at_a.sdk().images.generate(**ORDER))
        await upstream.wait_for_requests(1)
        second = asyncio.ensure_future(at_b.sdk().images.generate(**ORDER, **RETRY))
        await upstream.wait_for_requests(2)
        go_on.set()
        await asyncio.gather(first, second)


@asynccontextmanager
async def watching(
    data_dir: Path, upstream: ScriptedUpstream, shared: Sections, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningProxy]:
    """A host whose heart beats often enough to find out within seconds that another is silent."""
    monkeypatch.setattr(presence, "BEAT_EVERY_S", 0.1)
    monkeypatch.setattr(presence, "DEAD_AFTER_BEATS", 100)  # 10 s: the others beat every three
    async with run_proxy(data_dir, upstream.base_url, **shared) as proxy:
        yield proxy


@pytest.mark.parametrize("comes_home_by", ["a start", "a command"])
async def test_a_host_that_dies(
    hosts: tuple[Path, Path, Sections],
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    comes_home_by: str,
) -> None:
    """The other frees its slots and holds; what it had got comes home with its disk, and is not paid for twice."""
    a, b, shared = hosts
    first, _ = image_sse_events([png(seed=4), png(seed=5)])
    upstream.script(head(200, [("Content-Type", "text/event-stream")], "eof"), body(first), stall())
    async with watching(b, upstream, shared, monkeypatch) as at_b:
        async with spawn_proxy(a, upstream.base_url, **shared) as at_a:
            assert at_a.process is not None
            stream = await at_a.sdk().images.generate(
                prompt="two", model="gpt-image-2", n=2, stream=True, size="1024x1024"
            )
            event = await anext(aiter(stream))
            assert event.type == "image_generation.completed"
            os.killpg(at_a.process.pid, signal.SIGKILL)
            await at_a.process.wait()
        assert await states(at_b) == ["sent"]
        await eventually(lambda: is_settled(at_b), 60)
        (row,) = await context_of(at_b).index.read(
            lambda tx: tx.all("SELECT id, state, cost_micros, hold_micros FROM requests")
        )
        assert (row["state"], row["cost_micros"]) == ("unknown", row["hold_micros"])
        (held,) = rows(shared["index"]["url"], "SELECT sum(held_micros) h, sum(in_flight) f FROM accounts")
        assert (held["h"], held["f"]) == (0, 0)
        assert (await at_b.get("/v1/images"))["data"] == []
        if comes_home_by == "a start":
            async with spawn_proxy(a, upstream.base_url, **shared):
                await eventually(lambda: has_images(at_b, 1), 30)
                await eventually(lambda: not left_in(a / "spool"), 30)
        else:
            recovered = await recover_spool(a / "spool", config_file(b, upstream.base_url, **shared))
            assert recovered == {"object": "recovery", "recovered": 1, "left": 0}
        (image,) = (await at_b.get("/v1/images"))["data"]
        assert (await at_b.request("GET", f"/v1/images/{image['id']}/content"))[2] == png(seed=4)
        assert not left_in(a / "spool")
    assert len(upstream.requests) == 1


def left_in(spool: Path) -> list[Path]:
    return [call for process in processes_in(spool) for call in calls_in(process)]


async def is_settled(proxy: RunningProxy) -> bool:
    return "sent" not in await states(proxy)


async def has_images(proxy: RunningProxy, count: int) -> bool:
    return len((await proxy.get("/v1/images"))["data"]) == count


async def recover_spool(folder: Path, config: Path) -> Any:
    command = [
        sys.executable,
        "-m",
        "pixie_proxy",
        "recover-spool",
        str(folder),
        "--config",
        str(config),
        "--json",
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)
