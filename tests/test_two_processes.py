"""Several processes on one data directory: what one changes the other obeys, and limits are one for all."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.pictures import png
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.upstream import ScriptedUpstream, image_json, pause
from tests.support.waiting import eventually

FELT_WITHIN_S = 2.0


async def pixie(data_dir: Path, *arguments: str) -> str:
    """Run `pixie` on a data directory and return what it prints."""
    command = [sys.executable, "-m", "pixie_proxy", *arguments, "--data", str(data_dir)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
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


LIMITED = {
    "requests_per_minute": "rate_limit_exceeded",
    "images_per_minute": "rate_limit_exceeded",
    "concurrent_requests": "concurrency_limit_exceeded",
}


def key_of(limit: str) -> str:
    return f"px-{limit}"


async def test_a_limit_is_exact_over_two_processes_at_once(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """Of each kind of limit a user has one: of 200 calls at once, half to each process, as many get in as it says."""
    users: Any = [{"name": limit, "key": key_of(limit), "limits": {limit: 5}} for limit in LIMITED]
    data = tmp_path / "data"
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
