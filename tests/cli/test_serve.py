"""`pixie serve` and `pixie demo`: from the first start to the last answer."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
from pathlib import Path

import aiohttp
import pytest

from pixie_proxy.media import sniff
from tests.cli.running import pixie, serving
from tests.support import outside
from tests.support.pictures import png
from tests.support.proxy import spawn_proxy
from tests.support.upstream import ScriptedUpstream, image_json, image_sse_events, pause, stall
from tests.support.upstream import body as send
from tests.support.upstream import head as begin

GENERATIONS = "/v1/images/generations"


async def call(url: str, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/me", headers=headers) as response:
        return response.status


async def test_the_first_start_tells_where_the_key_is(tmp_path: Path) -> None:
    """It works; all that is made is for the owner's eyes only."""
    async with serving("serve", "--port", "0", cwd=tmp_path, OPENAI_API_KEY="sk-x") as (process, line):
        url, data = re.fullmatch(r"pixie serves (http://\S+)/v1 \(data in (\S+)\)\n", line).groups()  # type: ignore[union-attr]
        key = (tmp_path / data / "admin.key").read_text().strip()
        assert await call(url, key) == 200
        assert await call(url, key[:-1]) == 401
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    assert {path.stat().st_mode & 0o77 for path in (tmp_path / "data").iterdir() if path.is_file()} == {0}
    assert (tmp_path / "data").stat().st_mode & 0o77 == 0


async def test_an_operator_may_bring_the_admins_key(tmp_path: Path) -> None:
    """Then it is not written anywhere."""
    key = "px-brought-by-the-operator"
    environ = {"OPENAI_API_KEY": "sk-x", "PIXIE_ADMIN_KEY": key, "PIXIE_SERVER__PORT": "0"}
    async with serving("serve", cwd=tmp_path, **environ) as (_, line):
        url = line.split()[2].removesuffix("/v1")
        assert await call(url, key) == 200
    written = [path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert written == []


async def test_logs_are_json_without_secrets(tmp_path: Path) -> None:
    """One object a line on stderr; stdout stays empty."""
    environ = {"OPENAI_API_KEY": "sk-operator", "PIXIE_ADMIN_KEY": "px-admin-key-012345"}
    process = None
    async with serving("serve", "--port", "0", cwd=tmp_path, **environ) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        rest = await asyncio.wait_for(process.stderr.read(), 20)
        assert await process.wait() == 0
    messages = [json.loads(line)["message"] for line in rest.decode().splitlines()]
    assert "draining: running calls end, new ones are refused" in messages
    assert b"sk-operator" not in rest
    assert b"px-admin" not in rest


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_runs_ends_well(tmp_path: Path, upstream: ScriptedUpstream, stream: bool) -> None:
    """SIGTERM in the middle of it: the client gets its image whole, then the proxy goes with exit code 0."""
    picture, go_on = png(seed=1), asyncio.Event()
    if stream:
        (event,) = image_sse_events([picture])
        upstream.script(begin(200, [("Content-Type", "text/event-stream")], "eof"), pause(go_on), send(event))
    else:
        upstream.script(pause(go_on), *image_json([picture]))
    async with spawn_proxy(tmp_path / "data", upstream.base_url) as proxy:
        assert proxy.process is not None
        fields = {"prompt": "x", "stream": stream}
        asking = asyncio.ensure_future(proxy.request("POST", GENERATIONS, json=fields))
        await upstream.wait_for_requests(1)
        proxy.process.terminate()
        ready = asyncio.ensure_future(proxy.request("GET", "/readyz", key=None))
        status, headers, _ = await ready
        while status == 200:  # the signal is on its way
            status, headers, _ = await proxy.request("GET", "/readyz", key=None)
        assert (status, headers["Connection"]) == (503, "close")
        status, headers, answer = await proxy.request("POST", GENERATIONS, json=fields)
        assert (status, json.loads(answer)["error"]["code"]) == (503, "shutting_down")
        assert headers["Retry-After"] == "1"
        go_on.set()
        status, _, answer = await asyncio.wait_for(asking, 10)
        assert (status, base64.b64encode(picture) in answer) == (200, True)
        assert await asyncio.wait_for(proxy.process.wait(), 20) == 0
    assert [row["state"] for row in outside.calls(tmp_path / "data")] == ["done"]
    assert outside.is_settled(tmp_path / "data")


async def test_a_second_signal_ends_at_once(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """The client of what still runs is told that its outcome is unknown; it is not left hanging."""
    upstream.script(stall())
    async with spawn_proxy(tmp_path / "data", upstream.base_url) as proxy:
        assert proxy.process is not None
        asking = asyncio.ensure_future(proxy.request("POST", GENERATIONS, json={"prompt": "x"}))
        await upstream.wait_for_requests(1)
        proxy.process.terminate()
        while (await proxy.request("GET", "/readyz", key=None))[0] == 200:
            pass
        proxy.process.terminate()
        status, headers, answer = await asyncio.wait_for(asking, 10)
        assert (status, json.loads(answer)["error"]["code"]) == (502, "upstream_outcome_unknown")
        assert headers["x-should-retry"] == "false"
        assert await asyncio.wait_for(proxy.process.wait(), 10) == 0


async def test_a_proxy_without_calls_stops_at_once(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Idle connections that clients keep open don't hold it up."""
    async with spawn_proxy(tmp_path / "data", upstream.base_url) as proxy:
        await proxy.get("/v1/me")
        assert await outside.terminate(proxy, 5) == 0


async def test_the_demo_makes_a_real_image(tmp_path: Path) -> None:
    """Without a key, through the whole proxy; it says where everything is, and stops when asked for one."""
    ended = await pixie(
        "demo", "--once", "--pace", "0", "--port", "0", "--data", str(tmp_path / "d"), cwd=tmp_path
    )
    assert ended.code == 0, ended.err
    picture = (tmp_path / "d" / "first-image.png").read_bytes()
    assert sniff(picture) == "image/png"
    (kept,) = (tmp_path / "d" / "storage" / "images").rglob("*.png")
    assert kept.read_bytes() == picture
    assert str(tmp_path / "d" / "first-image.png") in ended.out
    assert (tmp_path / "d" / "admin.key").read_text().strip() in ended.out


async def test_the_demo_leaves_a_real_proxys_settings_alone(tmp_path: Path) -> None:
    """A config.yaml beside it is not read, and its data lives apart."""
    (tmp_path / "config.yaml").write_text("server: {data_dir: real, port: 1}")
    ended = await pixie(
        "demo", "--once", "--pace", "0", "--port", "0", cwd=tmp_path, OPENAI_API_KEY="sk-real"
    )
    assert ended.code == 0, ended.err
    assert sorted(os.listdir(tmp_path)) == ["config.yaml", "pixie-demo"]  # noqa: PTH208 - two names
