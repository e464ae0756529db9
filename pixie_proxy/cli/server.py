"""Run the application: listen, wait for a signal, drain, close."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from aiohttp import web

from pixie_proxy.app import create_app
from pixie_proxy.cli.supervisor import tell_supervisor
from pixie_proxy.config import Settings
from pixie_proxy.errors import ConfigError
from pixie_proxy.web.context import CONTEXT
from pixie_proxy.web.server import Runner

log = logging.getLogger(__name__)

_READ_BUFFER_BYTES = 65536
_KEEPALIVE_S = 75.0
_LAST_WRITES_S = 30.0
_LAST_REQUESTS_S = 0.25
"""How long connections that were accepted just before we stopped to listen may still send their request."""


def make_runner(app: web.Application, *, last_writes_s: float = _LAST_WRITES_S) -> Runner:
    """Make what serves the application. A handler whose client leaves is cancelled: so a lost answer is noticed."""
    return Runner(
        app,
        handle_signals=False,
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=_KEEPALIVE_S,
        shutdown_timeout=last_writes_s,
        read_bufsize=_READ_BUFFER_BYTES,
    )


async def serve(
    settings: Settings, ready: Callable[[str], None], *, stop: asyncio.Event | None = None
) -> None:
    """Serve until SIGTERM or SIGINT (or `stop`); `ready` gets the address. Raises ConfigError."""
    stop = stop or asyncio.Event()
    at_once = asyncio.Event()
    _on_signals(stop, at_once)
    app = create_app(settings)
    runner = make_runner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.server.host, settings.server.port, backlog=1024)
        try:
            await site.start()
        except OSError as exc:
            where = f"{settings.server.host}:{settings.server.port}"
            reason = (exc.strerror or str(exc)).rpartition(": ")[2]  # asyncio puts the address in front
            raise ConfigError(
                f"server.port: can't listen on {where} ({reason}); choose another --port"
            ) from None
        host, port = runner.addresses[0][:2]
        app[CONTEXT].links.base_url = settings.link_base(port)
        ready(f"http://{_shown(host)}:{port}")
        tell_supervisor("READY=1")
        await stop.wait()
        tell_supervisor("STOPPING=1")
        log.warning("draining: running calls end, new ones are refused")
        drained = asyncio.ensure_future(app[CONTEXT].generation.drain(settings.server.drain_s))
        hurried = asyncio.ensure_future(at_once.wait())
        await asyncio.wait({drained, hurried}, return_when=asyncio.FIRST_COMPLETED)
        for task in (drained, hurried):
            task.cancel()
        await app[CONTEXT].generation.abandon()
        await site.stop()
        await asyncio.sleep(_LAST_REQUESTS_S)
    finally:
        await runner.cleanup()


def _shown(host: str) -> str:
    """Write an address so that it can be opened."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _on_signals(stop: asyncio.Event, at_once: asyncio.Event) -> None:
    """Let the first signal drain, and the second end at once."""

    def told() -> None:
        if stop.is_set():
            at_once.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
