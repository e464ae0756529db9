"""A front proxy of two hosts, with the file of docs/operations/ for it, which is reloaded, killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Literal, Self

import psutil

from tests.support.front_proxies import (
    HOSTS,
    Front,
    haproxy_command,
    make_certificate,
    nginx_command,
    put_in,
    trusting,
)
from tests.support.sockets import free_port
from tests.support.waiting import eventually

PairKind = Literal["nginx", "haproxy"]

_RELOADS = {"nginx": signal.SIGHUP, "haproxy": signal.SIGUSR2}


class FrontPair:
    """The front proxy, before `targets` (host:port): a master process, and a worker that it replaces."""

    def __init__(self, kind: PairKind, folder: Path, targets: tuple[str, str]) -> None:
        """Keep all files in `folder`, which is made."""
        folder.mkdir()
        self._kind, self._folder, self._port = kind, folder, free_port()
        self._targets = dict(zip(HOSTS, targets, strict=True))
        self._certificate, self._key = folder / "pixie.crt", folder / "pixie.key"
        make_certificate(self._certificate, self._key)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def front(self) -> Front:
        """Where callers find it."""
        return Front(url=f"https://127.0.0.1:{self._port}", tls=trusting(self._certificate))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start, and wait until it listens. What it says is in the file `log`."""
        command = self._configure()
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, start_new_session=True
            )
        await eventually(self._listens)

    async def kill(self) -> None:
        """End all of its processes at once, and with them every connection."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def reload(self, *, without: str | None = None) -> None:
        """Read the file again; `without`: nginx's has that target marked as down."""
        assert self._process is not None
        self._configure(without)
        before = set(psutil.Process(self._process.pid).children())
        self._process.send_signal(_RELOADS[self._kind])
        await eventually(lambda: self._workers() - before)

    def _workers(self) -> set[psutil.Process]:
        assert self._process is not None
        return set(psutil.Process(self._process.pid).children())

    def _configure(self, without: str | None = None) -> list[str]:
        """Write the file; give the command that reads it."""
        if self._kind == "haproxy":
            return haproxy_command(self._folder, self._port, self._targets, "-W")
        down = {
            host: f"{target} down" if target == without else target for host, target in self._targets.items()
        }
        places = {
            "listen 443 ssl;": f"listen 127.0.0.1:{self._port} ssl;",
            "/etc/nginx/tls/pixie.crt": str(self._certificate),
            "/etc/nginx/tls/pixie.key": str(self._key),
        }
        return nginx_command(self._folder, put_in("nginx-two.conf", {**places, **down}), master="on")

    async def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self._folder / "log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except ConnectionRefusedError:
            return False
        writer.close()
        return True
