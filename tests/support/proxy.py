"""A real proxy for tests: in this process on a port of its own, or as `pixie serve` in a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml
from aiohttp import web
from openai import AsyncOpenAI, OpenAI

from pixie_proxy.app import create_app
from pixie_proxy.cli.server import make_runner
from pixie_proxy.config import Settings
from pixie_proxy.web.context import CONTEXT, Context
from tests.support import postgres

ADMIN_KEY = "px-admin-" + "a" * 24
MEMBER_KEY = "px-member-" + "m" * 24
OTHER_KEY = "px-other-" + "o" * 24
VIEWER_KEY = "px-viewer-" + "v" * 24
UPSTREAM_KEY = "sk-operator-secret-0123456789"

_USERS = [
    {"name": "alice", "key": ADMIN_KEY, "role": "admin"},
    {"name": "bob", "key": MEMBER_KEY, "role": "member"},
    {"name": "carol", "key": OTHER_KEY, "role": "member"},
    {"name": "dan", "key": VIEWER_KEY, "role": "viewer"},
]
_LOG_BYTES = 1024**3
"""A log that a test does not read is held in memory: a pipe that is full loses lines, and never ends for asyncio."""
_NO_LIMITS = {"requests_per_minute": None, "images_per_minute": None, "concurrent_requests": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningProxy:
    """A proxy that answers at `url` (without /v1). `context` is None when it runs in another process."""

    url: str
    data_dir: Path
    session: aiohttp.ClientSession
    context: Context | None = None
    process: asyncio.subprocess.Process | None = None
    clients: list[AsyncOpenAI] = field(default_factory=list)

    def sdk(self, key: str = MEMBER_KEY, **options: Any) -> AsyncOpenAI:
        """Give the official asynchronous SDK, pointed here. Retries are off unless asked for."""
        client = AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, **options})
        self.clients.append(client)
        return client

    async def close(self) -> None:
        """Close the SDKs that were handed out."""
        for client in self.clients:
            await client.close()

    def sync_sdk(self, key: str = MEMBER_KEY, **options: Any) -> OpenAI:
        """Give the official blocking SDK (for use in a thread)."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, **options})

    async def request(
        self, method: str, path: str, *, key: str | None = MEMBER_KEY, **options: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Call an address and return status, headers and body."""
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **options.pop("headers", {})}
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            return response.status, response.headers, await response.read()

    async def get(self, path: str, key: str | None = MEMBER_KEY) -> Any:
        """Get JSON from an address that must answer with 200."""
        status, _, body = await self.request("GET", path, key=key)
        assert status == 200, body
        return orjson.loads(body)


def settings_for(data_dir: Path, upstream_url: str, **sections: Mapping[str, Any]) -> Settings:
    """Build settings for a test: four users, no limits, a local storage; `sections` go over them."""
    tree: dict[str, Any] = {
        "server": {"port": 0, "data_dir": str(data_dir)},
        "upstream": {"base_url": upstream_url, "api_key": UPSTREAM_KEY, "connect_timeout_s": 5},
        "limits": _NO_LIMITS,
        "users": _USERS,
        "index": postgres.section_of(data_dir),
    }
    for name, section in sections.items():
        tree[name] = {**tree[name], **section} if isinstance(tree.get(name), dict) else section
    return Settings.model_validate(tree)


@asynccontextmanager
async def run_proxy(
    data_dir: Path, upstream_url: str, **sections: Mapping[str, Any]
) -> AsyncIterator[RunningProxy]:
    """Serve a proxy in this process."""
    app = create_app(settings_for(data_dir, upstream_url, **sections))
    runner = make_runner(app, last_writes_s=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        app[CONTEXT].links.base_url = app[CONTEXT].settings.link_base(port)
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            running = RunningProxy(
                url=f"http://127.0.0.1:{port}", data_dir=data_dir, session=session, context=app[CONTEXT]
            )
            yield running
            await running.close()
    finally:
        await runner.cleanup()


def config_file(data_dir: Path, upstream_url: str, **sections: Mapping[str, Any]) -> Path:
    """Write the settings of a test beside its data directory, for a process of its own."""
    settings = settings_for(data_dir, upstream_url, **sections)
    tree = settings.model_dump(mode="json", exclude={"users", "upstream"})
    upstream = {**settings.upstream.model_dump(mode="json"), "api_key": UPSTREAM_KEY}
    tree |= {"users": _USERS, "upstream": upstream, "index": postgres.section_of(data_dir)}
    for name, section in sections.items():  # as it was given: a dump hides secrets
        tree[name] = {**tree[name], **section} if isinstance(tree.get(name), dict) else section
    config = data_dir.parent / f"{data_dir.name}.yaml"
    config.write_text(yaml.safe_dump(tree))
    return config


@asynccontextmanager
async def spawn_proxy(
    data_dir: Path,
    upstream_url: str,
    *,
    prefix: tuple[str, ...] = (),
    workers: Any = None,  # how many; whoever passes sections by ** need not know, nor of the next
    program: Any = None,
    **sections: Mapping[str, Any],
) -> AsyncIterator[RunningProxy]:
    """Serve a proxy as `pixie serve` in a process of its own, which is killed at the end. `prefix`: strace and such.

    `program`: a folder with another version of the package.
    """
    config = config_file(data_dir, upstream_url, **sections)
    process = await asyncio.create_subprocess_exec(
        *prefix,
        sys.executable,
        "-m",
        "pixie_proxy",
        "serve",
        "--config",
        str(config),
        *(() if workers is None else (f"--workers={workers}",)),
        stderr=asyncio.subprocess.PIPE,
        limit=_LOG_BYTES,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **_instead(program)},
        start_new_session=True,
    )
    try:
        url = await _wait_for_url(process)
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            running = RunningProxy(url=url, data_dir=data_dir, session=session, process=process)
            yield running
            await running.close()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it may have died by itself a moment ago
                os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


def _instead(program: Path | None) -> dict[str, str]:
    """Say where the package is, before the folder that Python runs in."""
    return {} if program is None else {"PYTHONPATH": str(program), "PYTHONSAFEPATH": "1"}


async def _wait_for_url(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    seen = b""
    while line := await asyncio.wait_for(process.stderr.readline(), 20):
        seen += line
        if match := re.search(rb"serves (http://\S+)/v1", line):
            return match[1].decode()
    raise AssertionError(seen.decode())
