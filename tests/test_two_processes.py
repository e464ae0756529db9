"""Several processes on one data directory: what one changes the other obeys, and limits are one for all."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import IN_SQLITE_AND_TORTURE_BOTH, KeepIndex
from tests.support.figures import RecordFigure
from tests.support.outside import json_of
from tests.support.pictures import png
from tests.support.postgres import environment_of
from tests.support.proxy import ADMIN_KEY, RunningProxy, spawn_proxy
from tests.support.upstream import ScriptedUpstream, image_json, pause
from tests.support.waiting import eventually

pytestmark = pytest.mark.system

FELT_WITHIN_S = 2.0


async def pixie(data_dir: Path, *arguments: str) -> str:
    """Run `pixie` on a data directory and return what it prints."""
    command = [sys.executable, "-m", "pixie_proxy", *arguments, "--data", str(data_dir)]
    environment = {**os.environ, **environment_of(data_dir)}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().strip()


async def answers_with(proxy: RunningProxy, key: str, status: int) -> float:
    """Ask until a key is answered with `status`; return how long that took."""
    begun = time.monotonic()
    while (await proxy.request("GET", "/v1/me", key=key))[0] != status:
        assert time.monotonic() - begun < 10
        await asyncio.sleep(0.05)
    return time.monotonic() - begun


async def test_a_running_server_feels_what_the_command_line_changes(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """A new key works, a revoked one and a disabled user's do not, each within two seconds."""
    data = tmp_path / "data"
    async with spawn_proxy(data, upstream.base_url) as proxy:
        key = await pixie(data, "user", "add", "zoe")
        assert await answers_with(proxy, key, 200) < FELT_WITHIN_S
        await pixie(data, "user", "disable", "zoe")
        assert await answers_with(proxy, key, 401) < FELT_WITHIN_S
        await pixie(data, "user", "enable", "zoe")
        assert await answers_with(proxy, key, 200) < FELT_WITHIN_S
        await pixie(data, "key", "revoke", key[:7])
        assert await answers_with(proxy, key, 401) < FELT_WITHIN_S


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.torture)])
async def test_a_dead_key_is_dead_in_every_process(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure, rounds: int
) -> None:
    """Revoked, rotated without an overlap, or its user's disabled, by one process: the other knows within 2 s (R68)."""
    data = tmp_path / "data"
    felt_s = []
    async with spawn_proxy(data, upstream.base_url) as one, spawn_proxy(data, upstream.base_url) as two:

        async def live_and_die(end: str, number: int) -> None:
            user = await administer(one, "users", {"name": f"{end} {number}"})
            key, key_id = user["first_key"]["key"], user["first_key"]["id"]
            felt_s.append(await answers_with(two, key, 200))
            if end == "revoked":
                await administer(one, f"keys/{key_id}", method="DELETE")
            elif end == "disabled":
                await administer(one, f"users/{user['id']}", {"disabled": True})
            else:
                fresh = await administer(one, f"keys/{key_id}/rotate", {"overlap_s": 0})
                felt_s.append(await answers_with(two, fresh["key"], 200))
            assert (await one.request("GET", "/v1/me", key=key))[0] == 401
            felt_s.append(await answers_with(two, key, 401))

        for number in range(rounds):
            await asyncio.gather(*[live_and_die(end, number) for end in ("revoked", "rotated", "disabled")])
    late = sum(each >= FELT_WITHIN_S for each in felt_s)
    record_figure("R68", changes=len(felt_s), processes=2, slowest_s=max(felt_s), violations=late)
    assert late == 0


async def administer(
    proxy: RunningProxy, what: str, body: Any = None, method: str = "POST"
) -> dict[str, Any]:
    """Do an act of an admin's."""
    said: dict[str, Any] = json_of(
        await proxy.request(method, f"/v1/admin/{what}", json=body or {}, key=ADMIN_KEY)
    )
    return said


LIMITED = {
    "requests_per_minute": "rate_limit_exceeded",
    "images_per_minute": "rate_limit_exceeded",
    "concurrent_requests": "concurrency_limit_exceeded",
}


def key_of(limit: str) -> str:
    return f"px-{limit}"


@pytest.mark.parametrize("keep_index", IN_SQLITE_AND_TORTURE_BOTH, indirect=True)
async def test_a_limit_is_exact_over_two_processes_at_once(
    tmp_path: Path, upstream: ScriptedUpstream, keep_index: KeepIndex
) -> None:
    """Of each kind of limit a user has one: of 200 calls at once, half to each process, as many get in as it says."""
    users: Any = [{"name": limit, "key": key_of(limit), "limits": {limit: 5}} for limit in LIMITED]
    data = tmp_path / "data"
    keep_index(data)
    async with (
        spawn_proxy(data, upstream.base_url, users=users) as one,
        spawn_proxy(data, upstream.base_url, users=users) as two,
    ):
        for number, (limit, code) in enumerate(LIMITED.items(), 1):
            gate = asyncio.Event()
            upstream.default(pause(gate), *image_json([png(8, 8)]))
            calls = [
                asyncio.ensure_future(
                    proxy.request(
                        "POST", "/v1/images/generations", json={"prompt": f"p{n}"}, key=key_of(limit)
                    )
                )
                for n in range(100)
                for proxy in (one, two)
            ]
            await eventually(lambda calls=calls: sum(call.done() for call in calls) >= 195, 60)  # type: ignore[misc]
            gate.set()
            answers = await asyncio.gather(*calls)
            statuses = [status for status, _, _ in answers]
            assert (statuses.count(200), statuses.count(429), upstream.charged) == (5, 195, 5 * number), limit
            assert all(code.encode() in body for status, _, body in answers if status == 429), limit
