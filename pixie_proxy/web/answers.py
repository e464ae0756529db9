"""Hand an answer to its client: whole where it is small, as it comes where it is not, broken where it broke."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios

from aiohttp import web

from pixie_proxy.generation import Answer
from pixie_proxy.relay.feed import FeedBroken
from pixie_proxy.web.edge import begin_stream
from pixie_proxy.web.observe import note_broken

KEEP_ALIVE_S = 15.0
"""How long a stream is silent before a comment says that we are still there."""

_KEEP_ALIVE = b": keep-alive\n\n"
_LAST_WORDS_STEP_S = 0.01
_LAST_WORDS_TRIES = 100


async def send_answer(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Write an answer to the client. A client that leaves stops only the writing."""
    body = None if answer.is_stream else answer.feed.take_whole()
    response = _response(answer, body)
    begin_stream(request, response)
    try:
        await response.prepare(request)
        while (
            body is None
            and (piece := await answer.feed.get(KEEP_ALIVE_S if answer.is_stream else None)) is not None
        ):
            if piece:
                await response.write(piece)
            elif answer.feed.is_between_events:
                await response.write(_KEEP_ALIVE)
        await response.write_eof()
        answer.delivery.delivered()
    except FeedBroken:
        note_broken(request)
        await _abort(request)
    except ConnectionError:
        answer.feed.abandon()
    except asyncio.CancelledError:
        answer.feed.abandon()
        raise
    finally:
        answer.delivery.left()  # unless it was delivered
        answer.feed.discard()
    return response


def _response(answer: Answer, body: bytes | None) -> web.StreamResponse:
    """Make the head of an answer, and all of it where it is small."""
    if body is not None:
        return web.Response(body=body, headers=answer.headers, content_type="application/json")
    response = web.StreamResponse(headers=answer.headers)
    response.content_type = "text/event-stream" if answer.is_stream else "application/json"
    if answer.is_stream:
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would collect a stream otherwise
    return response


async def _abort(request: web.Request) -> None:
    """End the connection by a reset, so that no client and no proxy between can take the answer for whole.

    What was written before gets a moment to leave: a reset throws away what the kernel still holds.
    """
    transport = request.transport
    if transport is None:
        return
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        for _ in range(_LAST_WORDS_TRIES):
            if not transport.get_write_buffer_size() and not _unsent_bytes(sock):
                break
            await asyncio.sleep(_LAST_WORDS_STEP_S)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _unsent_bytes(sock: socket.socket) -> int:
    """Ask the kernel how much it has still to send."""
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])
