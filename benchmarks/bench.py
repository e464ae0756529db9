"""What every measurement stands on: the plan, a folder, the answers, nginx, and pairs of servers side by side."""

from __future__ import annotations

import http.client
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import load, servers
from benchmarks.plan import Plan
from benchmarks.probe import Probe
from benchmarks.processes import HOST, BenchError, Server
from benchmarks.result import Lag


@dataclass(slots=True, kw_only=True)
class Bench:
    """One run in the making. `lags` gathers load → server → Lag from every measurement."""

    plan: Plan
    folder: Path
    answers: dict[str, bytes]
    nginx: Server
    step: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    lags: dict[str, dict[str, Lag]] = field(default_factory=dict)

    def upstream_url(self, answer: str) -> str:
        """Tell where nginx gives that answer; `/v1/…` follows."""
        return f"http://{self.nginx.host}/{answer}"

    @contextmanager
    def proxy(
        self,
        upstream_url: str,
        storage: dict[str, Any] | None = None,
        index: dict[str, Any] | None = None,
        workers: int | None = None,
    ) -> Iterator[Server]:
        """Run a proxy on an empty data folder, which is removed afterwards; `storage` and `index` are its sections."""
        server = servers.proxy(self.folder, upstream_url, storage=storage, index=index, workers=workers)
        try:
            with server:
                yield server
        finally:
            shutil.rmtree(self.folder / server.name, ignore_errors=True)
            os.sync()  # what is still to be written must not slow the next measurement

    @contextmanager
    def pair(self, answer: str) -> Iterator[tuple[Server, Server]]:
        """Run the bare pass-through and the proxy in front of the same answer; both must hand it over unchanged."""
        with (
            servers.passthrough(self.folder, self.upstream_url(answer)) as bare,
            self.proxy(self.upstream_url(answer)) as proxy,
        ):
            for server in (bare, proxy):
                check(server, self.answers[answer])
            yield bare, proxy

    @contextmanager
    def probed(self, name: str, role: str, server: Server) -> Iterator[None]:
        """Measure a server's lag while the block runs."""
        with Probe(server.port) as probe:
            yield
        self.lags.setdefault(name, {})[role] = probe.lag

    def free_bytes(self) -> int:
        """Tell how much the disk can still take."""
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize


def check(server: Server, expected: bytes) -> None:
    """Ask once and compare every byte. Raises BenchError where the answer is another one."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    try:
        head, _, body = load.request().partition(b"\r\n\r\n")
        lines = [line.partition(": ") for line in head.decode().split("\r\n")[2:]]
        connection.request("POST", servers.PATH, body, {name: value for name, _, value in lines})
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as exc:
        raise BenchError(f"{server.name} gave no answer: {exc!r}; {server.last_words()}") from exc
    finally:
        connection.close()
    if response.status != 200:
        raise BenchError(f"{server.name} answered {response.status}: {answer[:300]!r}")
    if answer != expected:
        raise BenchError(f"{server.name} changed the answer: {len(answer)} bytes instead of {len(expected)}")


def as_json(found: load.Load) -> dict[str, Any]:
    """Turn a load into what json.dumps takes."""
    return asdict(found)
