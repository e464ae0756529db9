"""How connections end, exactly: what was written has left before it, and a reset is one."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from random import SystemRandom

_NOT_GIVEN_AWAY = (20_000, 32_000)
_STEP_S = 0.001
_STEPS = 5000


async def flushed(writer: asyncio.StreamWriter) -> bool:
    """Wait until the other end's kernel has all that was written; False if it does not take it, or is gone."""
    sock = writer.get_extra_info("socket")
    for _ in range(_STEPS):
        if sock.fileno() < 0:
            return False
        if not writer.transport.get_write_buffer_size() and not _unsent_bytes(sock):
            return True
        await asyncio.sleep(_STEP_S)
    return False


def free_port() -> int:
    """Find a port for a program that can't tell which one it took, or that comes back to it.

    It is none of those that the kernel gives to connections: one of these could have it while the program is away.
    """
    while True:
        port = SystemRandom().randint(*_NOT_GIVEN_AWAY)  # no seed: the workers of a test run must not meet
        with socket.socket() as free, suppress(OSError):
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            return port


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST. What the kernel has not sent yet is thrown away: see `flushed`."""
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _unsent_bytes(sock: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
