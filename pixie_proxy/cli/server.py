"""Run the application: listen, wait for a signal, drain, close."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web

from pixie_proxy.app import create_app
from pixie_proxy.cli.listening import BACKLOG, no_listener, shown_address
from pixie_proxy.cli.supervisor import STEP_DOWN, tell_supervisor
from pixie_proxy.config import Settings
from pixie_proxy.web.context import CONTEXT, Context
from pixie_proxy.web.server import Runner

log = logging.getLogger(__name__)

_READ_BUFFER_BYTES = 65536
_KEEPALIVE_S = 75.0
_LAST_WRITES_S = 30.0
_LAST_CONNECTIONS_S = _KEEPALIVE_S + 15.0
"""How long a server that steps down waits for its connections to end: idle ones are over by then."""
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


@dataclass(slots=True)
class Orders:
    """What a server is told while it serves."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    drain: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: asyncio.Event = field(default_factory=asyncio.Event)

    def step_down(self) -> None:
        """Leave the socket to others who listen on it and go on, and drain when our last connection has ended."""
        self.stop.set()

    def end(self) -> None:
        """Drain; told again, end at once."""
        if self.drain.is_set():
            self.at_once.set()
        self.drain.set()
        self.stop.set()


async def serve(
    settings: Settings,
    ready: Callable[[str], None],
    *,
    orders: Orders | None = None,
    sockets: Sequence[socket.socket] = (),
    worker: int | None = None,
) -> None:
    """Serve until a signal or one of `orders`; `ready` gets the address. Raises ConfigError.

    `sockets` listen already; without any, those of the settings are opened. `worker` is our number among the processes
    of a parent that holds our stdin: its end is the parent's.
    """
    orders = orders or Orders()
    _listen_to_orders(orders, has_parent=worker is not None)
    app = create_app(settings, worker=worker)
    runner = make_runner(app)
    await runner.setup()
    try:
        await _listen(runner, settings, sockets)
        address = runner.addresses[0]
        app[CONTEXT].links.base_url = settings.link_base(address[1])
        ready(f"http://{shown_address(address)}")
        tell_supervisor("READY=1")
        await orders.stop.wait()
        tell_supervisor("STOPPING=1")
        if not orders.drain.is_set():
            await _step_down(runner, app[CONTEXT], orders)
        log.warning("draining: running calls end, new ones are refused")
        drained = asyncio.ensure_future(app[CONTEXT].generation.drain(settings.server.drain_s))
        hurried = asyncio.ensure_future(orders.at_once.wait())
        await asyncio.wait({drained, hurried}, return_when=asyncio.FIRST_COMPLETED)
        for task in (drained, hurried):
            task.cancel()
        await app[CONTEXT].generation.abandon()
        await _listen_no_more(runner)
        await asyncio.sleep(_LAST_REQUESTS_S)
    finally:
        await runner.cleanup()


async def _listen(runner: Runner, settings: Settings, sockets: Sequence[socket.socket]) -> None:
    host, port = settings.server.host, settings.server.port
    sites: list[web.BaseSite] = [web.SockSite(runner, each, backlog=BACKLOG) for each in sockets]
    if not sites:
        sites.append(web.TCPSite(runner, host, port, backlog=BACKLOG))
    try:
        for site in sites:
            await site.start()
    except OSError as exc:
        raise no_listener(host, port, exc) from None


async def _step_down(runner: Runner, context: Context, orders: Orders) -> None:
    """Take no more connections, and serve those that there are to their end: clients learn with each answer."""
    await _listen_no_more(runner)
    context.is_leaving = True
    until = time.monotonic() + _LAST_CONNECTIONS_S
    while _has_connections(runner) and time.monotonic() < until and not orders.drain.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(orders.drain.wait(), _LAST_REQUESTS_S)


def _has_connections(runner: Runner) -> bool:
    return runner.server is not None and bool(runner.server.connections)


async def _listen_no_more(runner: Runner) -> None:
    for site in list(runner.sites):
        await site.stop()


def _listen_to_orders(orders: Orders, *, has_parent: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, orders.end)
    if has_parent:
        loop.add_signal_handler(STEP_DOWN, orders.step_down)
        loop.add_reader(sys.stdin, _parent_is_gone, orders)


def _parent_is_gone(orders: Orders) -> None:
    """End as by SIGTERM: nobody would replace us, or lead us to our end."""
    asyncio.get_running_loop().remove_reader(sys.stdin)
    orders.end()
