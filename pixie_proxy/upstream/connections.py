"""Connections to the upstream, used again only while the other side has said nothing on them.

What an idle connection has to read is either its end, and a call sent into it has an unknown outcome, or an answer that
nobody asked for, and the next call, of whichever user, would take it for its own. aiohttp looks for neither.
"""

from __future__ import annotations

import functools
import select
import weakref
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace

KEEPALIVE_S = 1
"""How long an idle connection is used again: shorter than servers keep theirs (gunicorn 2 s, uvicorn and Node 5 s), for
an end that is still on its way to us can't be seen."""


_MAX_INTERIM = 1000
"""How many 1xx heads may come before an answer's own: aiohttp queues them all, as fast as they arrive."""


class QuietConnector(aiohttp.TCPConnector):
    """A pool that looks at a connection before it hands it out again."""

    def __init__(self) -> None:
        """Open no connection yet; needs a running loop."""
        super().__init__(limit=0, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=60)
        self._factory = functools.partial(_BoundedHandler, loop=self._loop)  # type: ignore[assignment] # a subclass
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


class _BoundedHandler(ResponseHandler):
    """One connection, which ends where interim answers come without end."""

    _interim = 0

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take the next answer's head."""
        self._interim = self._interim + 1 if data[0].code < 200 else 0
        if self._interim <= _MAX_INTERIM:
            super().feed_data(data, size)
        elif self.exception() is None:
            if self.transport is not None:
                self.transport.close()
            self.set_exception(aiohttp.ClientPayloadError("interim answers without end"))


def _is_quiet(connection: Connection) -> bool:
    """Ask the kernel whether there is nothing to read, not even the end."""
    transport = connection.transport
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return not poll.poll(0)
