"""The upstream of the uploads: reads a request to its last byte, then answers with a file.

`python -m benchmarks.sink PORT FILE`. `GET /received` tells how many body bytes came. nginx can't do this: it answers a
POST to a static file before it has read the body.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.framing import Message
from benchmarks.processes import HOST

_BUFFER = bytearray(1024 * 1024)  # one for all: what a socket gave is looked at before the next is read


class Sink(asyncio.BufferedProtocol):
    """One connection from the proxy."""

    received_bytes = 0

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._message = Message()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._message.feed(memoryview(_BUFFER)[:nbytes]):
            Sink.received_bytes += self._message.body_bytes
            body = self._body
            if self._message.head.startswith(b"GET"):
                body = str(Sink.received_bytes).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self._message = Message()
            self._transport.write(head.encode() + body)


async def serve(port: int, body: bytes) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Sink(body), HOST, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
