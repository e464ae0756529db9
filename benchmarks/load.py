"""The load generator: a closed loop of clients over raw sockets, cheap enough not to be what is measured.

Every answer's status and length are checked; one wrong answer makes the load worthless, so it raises.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import uvloop

from benchmarks.framing import BadMessage, Message
from benchmarks.processes import HOST, BenchError
from benchmarks.result import percentile
from benchmarks.servers import KEY, PATH

_BUFFER = bytearray(512 * 1024)  # one for all: what a socket gave is looked at before the next is read
_GRACE_S = 20
_LONGEST_S = 60  # of a load that ends by count
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load saw. `generator_cpu` is its own share of a core: near 1, it was the bottleneck."""

    answers: int
    seconds: float
    per_s: float
    p50_ms: float
    p99_ms: float
    generator_cpu: float


class _Client(asyncio.BufferedProtocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(
        self, requests: Iterator[bytes], body_bytes: int, deadline_ns: int, ended: asyncio.Event
    ) -> None:
        self.answered: list[tuple[int, int]] = []  # (when, after how long), both in ns
        self.error: str | None = None
        self._requests = requests
        self._body_bytes = body_bytes
        self._deadline_ns = deadline_ns
        self._ended = ended
        self._message = Message()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def get_buffer(self, sizehint: int) -> bytearray:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        try:
            if not self._message.feed(memoryview(_BUFFER)[:nbytes]):
                return
        except (BadMessage, ValueError) as exc:
            self._end(f"broken answer: {exc}")
            return
        now = time.perf_counter_ns()
        status, size = self._message.status, self._message.body_bytes
        if status != 200 or size != self._body_bytes:
            self._end(f"status {status} with {size} bytes instead of 200 with {self._body_bytes}")
            return
        self.answered.append((now, now - self._asked_ns))
        if now >= self._deadline_ns:
            self._end(None)
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.is_set():
            self._end(f"connection lost after {self._message.body_bytes} bytes of an answer")

    def _ask(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._end(None)
            return
        self._message = Message()
        self._asked_ns = time.perf_counter_ns()
        self._transport.write(request)

    def _end(self, error: str | None) -> None:
        self.error = error
        self._ended.set()
        self._transport.close()


def run(
    port: int,
    *,
    clients: int,
    body_bytes: int,
    images: int = 1,
    seconds: float | None = None,
    warm_s: float = 0.0,
    each: int | None = None,
    path: str = PATH,
) -> Load:
    """Load a server for `seconds` after `warm_s` that don't count, or until each client has `each` answers."""
    gc.collect()
    cpu, started = time.process_time(), time.perf_counter()
    stop_s = warm_s + (seconds if seconds is not None else _LONGEST_S)
    answered = uvloop.run(_run(port, clients, body_bytes, images, stop_s, each, path))
    wall = time.perf_counter() - started
    generator_cpu = (time.process_time() - cpu) / wall
    if seconds is not None:
        first_ns = int((started + warm_s) * 1e9)
        last_ns = first_ns + int(seconds * 1e9)
        answered = [(at, took) for at, took in answered if first_ns <= at < last_ns]
        wall = seconds
    if not answered:
        raise BenchError("no answer within the time")
    took_ms = sorted(took / 1e6 for _, took in answered)
    return Load(
        answers=len(answered),
        seconds=round(wall, 3),
        per_s=round(len(answered) / wall, 2),
        p50_ms=round(percentile(took_ms, 50), 4),
        p99_ms=round(percentile(took_ms, 99), 4),
        generator_cpu=round(generator_cpu, 3),
    )


async def _run(
    port: int, clients: int, body_bytes: int, images: int, stop_s: float, each: int | None, path: str
) -> list[tuple[int, int]]:
    loop = asyncio.get_running_loop()
    deadline_ns = time.perf_counter_ns() + int(stop_s * 1e9)
    ended = [asyncio.Event() for _ in range(clients)]
    protocols = [_Client(_requests(images, each, path), body_bytes, deadline_ns, event) for event in ended]
    waiting = iter(protocols)
    for _ in protocols:
        await loop.create_connection(lambda: next(waiting), HOST, port)
    try:
        async with asyncio.timeout(stop_s + _GRACE_S):
            for event in ended:
                await event.wait()
    except TimeoutError:
        raise BenchError(f"a client still waits {_GRACE_S} s after the end") from None
    errors = [protocol.error for protocol in protocols if protocol.error is not None]
    if errors:
        raise BenchError(f"{len(errors)} of {clients} clients got a wrong answer: {errors[0]}")
    return [answer for protocol in protocols for answer in protocol.answered]


def request(images: int = 1, path: str = PATH) -> bytes:
    """Write a request as an SDK sends it, with a prompt that no other one has."""
    body = (
        b'{"model":"gpt-image-2","prompt":"A lighthouse in a storm, oil on canvas, number %09d",'
        b'"n":%d,"quality":"low","size":"1024x1024"}' % (next(_numbers), images)
    )
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nUser-Agent: benchmarks\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _requests(images: int, each: int | None, path: str) -> Iterator[bytes]:
    for _ in itertools.repeat(None) if each is None else range(each):
        yield request(images, path)
