"""Connections to the upstream, used again only while the other side has said nothing on them.

What an idle connection has to read is either its end, and a call sent into it has an unknown outcome, or an answer that
nobody asked for, and the next call, of whichever user, would take it for its own. aiohttp looks for neither.
"""

from __future__ import annotations

import select
import weakref
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.connector import Connection

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace

KEEPALIVE_S = 1
"""How long an idle connection is used again: shorter than servers keep theirs (gunicorn 2 s, uvicorn and Node 5 s), for
an end that is still on its way to us can't be seen."""


class QuietConnector(aiohttp.TCPConnector):
    """A pool that looks at a connection before it hands it out again."""

    def __init__(self) -> None:
        """Open no connection yet; needs a running loop."""
        super().__init__(limit=0, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=60)
        self._used: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        """Give a connection: a used one that is quiet, else a new one."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._used:
                if protocol is not None:
                    self._used.add(protocol)
                return connection
            if not protocol.should_close and _is_quiet(connection):
                return connection
            connection.close()


def _is_quiet(connection: Connection) -> bool:
    """Ask the kernel whether there is nothing to read, not even the end."""
    transport = connection.transport
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return not poll.poll(0)
