"""`pixie serve --workers N`: one socket, several processes, and no answer lost while they come and go."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import openai
import psutil
import pytest

from tests.cli.running import pixie, serving
from tests.support.pictures import png
from tests.support.scraping import parse
from tests.support.upstream import ScriptedUpstream, image_json, pause
from tests.support.waiting import eventually

pytestmark = pytest.mark.system

KEY = "px-admin-of-the-workers"
OPEN = {"PIXIE_LIMITS__REQUESTS_PER_MINUTE": "null", "PIXIE_LIMITS__IMAGES_PER_MINUTE": "null"}


@asynccontextmanager
async def workers(
    tmp_path: Path, upstream: ScriptedUpstream, count: int = 2, *more: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Serve with so many workers; give the parent and the address."""
    environ = {
        "OPENAI_API_KEY": "sk-x",
        "PIXIE_ADMIN_KEY": KEY,
        "PIXIE_UPSTREAM__BASE_URL": upstream.base_url,
        **OPEN,
    }
    arguments = ("serve", "--port", "0", "--workers", str(count), *more)
    async with serving(*arguments, cwd=tmp_path, **environ) as (process, line):
        try:
            yield process, line.split()[2].removesuffix("/v1")
        finally:
            for child in children(process):
                child.kill()


def children(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    """Give the workers that there are now."""
    try:
        return psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return []


async def numbers(url: str) -> dict[str, float]:
    """Scrape once: the calls that each worker has answered."""
    headers = {"Authorization": f"Bearer {KEY}", "Connection": "close"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{url}/metrics") as response:
        samples = parse(await response.text()).samples
    found: dict[str, float] = {}
    for (name, labels), value in samples.items():
        if name == "pixie_requests_total":
            found[dict(labels)["worker"]] = found.get(dict(labels)["worker"], 0) + value
    return found


def sdk(url: str, **options: object) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, **options)  # type: ignore[arg-type]


async def test_both_serve_and_one_scrape_tells_of_all(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Connections go to whoever is free; any worker's /metrics has every worker's numbers."""
    upstream.default(image_json([png(seed=1)]))
    async with workers(tmp_path, upstream) as (process, url):
        assert len(children(process)) == 2

        async def one() -> None:
            async with sdk(url) as client:  # a connection of its own
                await client.images.generate(prompt="x", model="gpt-image-2")

        async def both_told() -> bool:
            await asyncio.gather(*[one() for _ in range(8)])
            told = await numbers(url)
            return set(told) == {"0", "1"} and min(told.values()) > 0

        await eventually(both_told, timeout_s=30)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert children(process) == []


async def test_a_worker_that_dies_is_started_again(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """What the other one serves goes on meanwhile."""
    upstream.default(image_json([png(seed=1)]))
    async with workers(tmp_path, upstream) as (process, url):
        before = children(process)
        before[0].kill()
        async with sdk(url, max_retries=4) as client:
            assert (await client.images.generate(prompt="x", model="gpt-image-2")).data

        async def there_are_two() -> bool:
            now = {child.pid for child in children(process)}
            return len(now) == 2 and before[0].pid not in now and set(await numbers(url)) == {"0", "1"}

        await eventually(there_are_two, timeout_s=20)


async def test_hup_replaces_all_and_no_call_fails(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A running call ends with the worker that began it; new connections never meet one that goes."""
    go_on = asyncio.Event()
    upstream.script(pause(go_on), *image_json([png(seed=1)]))
    upstream.default(image_json([png(seed=2)]))
    async with workers(tmp_path, upstream) as (process, url):
        old = {child.pid for child in children(process)}
        failures: list[BaseException] = []
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                try:
                    async with sdk(url, max_retries=0) as client:
                        await client.images.generate(prompt="x", model="gpt-image-2")
                except openai.OpenAIError as exc:
                    failures.append(exc)

        async with sdk(url) as client:
            long = asyncio.create_task(client.images.generate(prompt="slow", model="gpt-image-2"))
            await eventually(lambda: len(upstream.requests) == 1, timeout_s=10)
            loads = [asyncio.create_task(load()) for _ in range(3)]
            process.send_signal(signal.SIGHUP)

            def replaced() -> bool:
                now = {child.pid for child in children(process)}
                return (len(now - old), len(now & old)) == (2, 1)  # one old one has the long call

            await eventually(replaced, timeout_s=40)
            go_on.set()
            assert (await long).data
        await eventually(lambda: not old & {child.pid for child in children(process)}, timeout_s=20)
        done.set()
        await asyncio.gather(*loads)
        assert failures == []


async def test_workers_end_with_their_parent(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A parent that was killed leaves nobody behind on its socket."""
    async with workers(tmp_path, upstream) as (process, _):
        left = children(process)
        process.kill()
        await process.wait()
        await eventually(lambda: not any(child.is_running() for child in left), timeout_s=20)


async def test_a_fault_of_the_settings_is_told_once(tmp_path: Path) -> None:
    """By the first worker; the parent ends as a single process would."""
    (tmp_path / "data").write_text("a file where a folder should be")
    ended = await pixie("serve", "--port", "0", "--workers", "3", cwd=tmp_path, OPENAI_API_KEY="sk-x")
    assert ended.code in {1, 2}
    assert len([line for line in ended.errors if line.startswith("pixie: ")]) == 1


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """Told before any worker is started."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        ended = await pixie("serve", "--port", str(port), "--workers", "2", cwd=tmp_path, OPENAI_API_KEY="sk")
    assert ended.code == 2
    assert re.search(rf"can't listen on 127\.0\.0\.1:{port} .*choose another --port", ended.err)


@pytest.mark.parametrize("fd", ["0", "57"])
async def test_what_is_no_socket_is_refused(tmp_path: Path, fd: str) -> None:
    """A number that nobody opened, and one that is no socket's place."""
    ended = await pixie("serve", "--fd", fd, cwd=tmp_path, OPENAI_API_KEY="sk-x")
    assert ended.code == 2
    assert "--fd" in ended.err


async def test_a_socket_of_systemds_is_taken_over(tmp_path: Path) -> None:
    """As sd_listen_fds(3) says: number 3, for the process whose id stands in LISTEN_PID."""
    script = (
        "import os, socket, sys\n"
        "at = socket.create_server(('127.0.0.1', 0)); os.dup2(at.fileno(), 3); os.set_inheritable(3, True)\n"
        "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}\n"
        "print(at.getsockname()[1], flush=True)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'pixie_proxy', 'serve'])\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        cwd=tmp_path,
        env={**os.environ, "OPENAI_API_KEY": "sk-x", "PIXIE_ADMIN_KEY": KEY},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        # The socket listens before the proxy does: a connection waits, and is not refused.
        health = f"http://127.0.0.1:{port}/healthz"
        async with aiohttp.ClientSession() as session, session.get(health) as response:
            assert response.status == 200
    finally:
        process.terminate()
        await process.wait()
