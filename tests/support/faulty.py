"""A network that breaks as told: a TCP relay whose every connection may have one fault, at an exact byte.

    async with FaultRelay(proxy.url, in_order(cut(0), cut(1000, how="rst"))) as relay:
        client = AsyncOpenAI(base_url=relay.url + "/v1", ...)   # 1st connection, 2nd, and from the 3rd on none
        ...
        assert relay.done == {"cut": 2}

It stands between a client and the proxy, or between the proxy and its upstream, and changes nothing that it was not
told to: bytes, half-closes and resets pass as they are.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Literal, Self
from urllib.parse import urlsplit

from tests.support.sockets import flushed, reset

Side = Literal["request", "answer"]
How = Literal["fin", "rst"]
Kind = Literal["none", "cut", "stall", "drip", "half_close", "garbage", "refuse", "gateway"]

_PIECE = 64 * 1024
_DRIP_EVERY_S = 0.02
_CONNECT_EVERY_S = 0.05
_LENGTH = re.compile(rb"^content-length:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)
_GATEWAY_PAGE = b"<html><head><title>%d %b</title></head><body><center><h1>%d %b</h1></center></body></html>"
_REASONS = {502: b"Bad Gateway", 504: b"Gateway Time-out"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to a connection once `at` bytes of the `side` have passed; nothing before."""

    kind: Kind
    at: int = 0
    side: Side = "answer"
    how: How = "fin"
    for_s: float | None = None  # stall: None is for ever; gateway: how long the answer is waited for
    bytes_per_s: float = 0  # drip
    data: bytes = b""  # garbage
    status: int = 502  # gateway


NONE = Fault(kind="none")


def cut(at: int, *, side: Side = "answer", how: How = "fin") -> Fault:
    """Deliver exactly `at` bytes, then end the connection towards both ends. 0: as soon as the first byte comes."""
    return Fault(kind="cut", at=at, side=side, how=how)


def stall(at: int = 0, *, side: Side = "answer", for_s: float | None = None) -> Fault:
    """Hold everything after `at` bytes back, for a time or for ever."""
    return Fault(kind="stall", at=at, side=side, for_s=for_s)


def drip(bytes_per_s: float, at: int = 0, *, side: Side = "answer") -> Fault:
    """Let everything after `at` bytes pass slowly."""
    return Fault(kind="drip", at=at, side=side, bytes_per_s=bytes_per_s)


def half_close(at: int, *, side: Side = "answer") -> Fault:
    """Say after `at` bytes that this side is at its end, swallow the rest of it, and leave the other side open."""
    return Fault(kind="half_close", at=at, side=side)


def garbage(at: int, *, size: int = 64, side: Side = "answer", seed: int = 0) -> Fault:
    """Put `size` bytes of noise in the place of those after `at`."""
    return Fault(kind="garbage", at=at, side=side, data=Random(seed).randbytes(size))


def refuse() -> Fault:
    """Reset the connection at once. For an address where nobody listens see `FaultRelay.away`."""
    return Fault(kind="refuse", how="rst")


def gateway(status: Literal[502, 504] = 502, *, after_s: float = 0) -> Fault:
    """Be a front proxy that loses patience: pass the request on whole, wait, hang up behind, answer with a page.

    An answer that begins within `after_s` is thrown away. Only for requests that have a Content-Length.
    """
    return Fault(kind="gateway", status=status, for_s=after_s)


Plan = Callable[[int], Fault]
"""Which fault a connection gets, by its number from 0 on."""


def in_order(*faults: Fault) -> Plan:
    """Give the connections these faults in turn, and none to those that come after."""
    return lambda number: faults[number] if number < len(faults) else NONE


def seeded(seed: int, faults: Sequence[Fault], *, share: float = 1.0) -> Plan:
    """Give that share of the connections one of these faults, by lot; the same ones for the same seed."""

    def plan(number: int) -> Fault:
        random = Random(f"{seed}/{number}")
        return random.choice(faults) if random.random() < share else NONE

    return plan


_NO_FAULTS = in_order()


class FaultRelay:
    """The relay. `connections` counts those that came, `done` the faults that really happened, by kind."""

    def __init__(self, target: str, plan: Plan = _NO_FAULTS, *, patience_s: float = 0) -> None:
        """Pass on to the host of `target` (a URL); keep trying to reach it for `patience_s`, as a front proxy would."""
        self.target = target
        self.plan = plan
        self.connections = 0
        self.done: Counter[str] = Counter()
        self.open = 0
        self._patience_s = patience_s
        self._server: asyncio.Server | None = None
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens, with the path of its target."""
        return f"http://127.0.0.1:{self._port}{urlsplit(self.target).path}"

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._leave()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports say goodbye one turn later

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Refuse new connections: nobody listens here for a while. Those that are open live on."""
        await self._leave()
        try:
            yield
        finally:
            await self._listen()

    def drop(self) -> None:
        """Reset every connection that is open."""
        for task in tuple(self._tasks):
            task.cancel()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self._port, limit=_PIECE, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def _leave(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        fault = self.plan(self.connections)
        self.connections += 1
        self.open += 1
        try:
            await _Connection(self, fault, reader, writer).run()
        except asyncio.CancelledError:
            pass  # the relay ends
        finally:
            self.open -= 1
            self._tasks.discard(task)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the target. Raises OSError once patience is over."""
        where = urlsplit(self.target)
        deadline = asyncio.get_running_loop().time() + self._patience_s
        while True:
            try:
                return await asyncio.open_connection(where.hostname, where.port, limit=_PIECE)
            except OSError:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(_CONNECT_EVERY_S)


class _Ended(Exception):
    """A fault has ended the connection."""


class _Connection:
    """One connection, its other half, and the fault that waits for it."""

    def __init__(
        self, relay: FaultRelay, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._relay = relay
        self._fault = fault
        self._reader = reader
        self._writers = [writer]

    async def run(self) -> None:
        """Pass on until both sides have ended, or the fault has."""
        how: How = "rst"
        try:
            if self._fault.kind == "refuse":
                self._note()
                return
            target_reader, target_writer = await self._relay.dial()
            self._writers.append(target_writer)
            if self._fault.kind == "gateway":
                await self._lose_patience(target_reader, target_writer)
            else:
                await self._both_ways(target_reader, target_writer)
            how = "fin"
        except* _Ended:
            how = self._fault.how
        except* (OSError, asyncio.IncompleteReadError):
            pass  # one end is gone, so the other goes too
        finally:
            for writer in self._writers:
                _close(writer, how)

    async def _both_ways(
        self, target_reader: asyncio.StreamReader, target_writer: asyncio.StreamWriter
    ) -> None:
        async with asyncio.TaskGroup() as sides:
            sides.create_task(self._pass("request", self._reader, target_writer))
            sides.create_task(self._pass("answer", target_reader, self._writers[0]))

    async def _pass(self, side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one side on, up to its end or its fault."""
        fault = self._fault if self._fault.side == side else NONE
        left = fault.at if fault.kind != "none" else None
        while data := await reader.read(_PIECE):
            if left is not None and len(data) >= left:
                await _send(writer, data[:left])
                self._note()
                await self._act(fault, data[left:], reader, writer)
                left = None
                continue
            if left is not None:
                left -= len(data)
            await _send(writer, data)
        with suppress(OSError):  # half-closed before
            writer.write_eof()

    async def _act(
        self, fault: Fault, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Let the fault happen to `data`, and to what follows where that is its nature."""
        if fault.kind == "cut":
            await flushed(writer)
            raise _Ended
        if fault.kind == "stall":
            await asyncio.sleep(float("inf") if fault.for_s is None else fault.for_s)
        elif fault.kind == "half_close":
            writer.write_eof()
            while await reader.read(_PIECE):
                pass
            return
        elif fault.kind == "garbage":
            lacking = len(fault.data) - len(data)
            data = fault.data + data[len(fault.data) :]
            while lacking > 0 and (more := await reader.read(_PIECE)):
                data += more[lacking:]
                lacking -= len(more)
        elif fault.kind == "drip":
            while data:
                for at in range(0, len(data), size := max(1, round(fault.bytes_per_s * _DRIP_EVERY_S))):
                    piece = data[at : at + size]
                    await _send(writer, piece)
                    await asyncio.sleep(len(piece) / fault.bytes_per_s)
                data = await reader.read(_PIECE)
            return
        await _send(writer, data)

    async def _lose_patience(
        self, target_reader: asyncio.StreamReader, target_writer: asyncio.StreamWriter
    ) -> None:
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        await _send(target_writer, head)
        left = int(length[1]) if length else 0
        while left:
            data = await self._reader.read(min(left, _PIECE))
            if not data:
                return
            left -= len(data)
            await _send(target_writer, data)
        await flushed(target_writer)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._fault.for_s):
                while await target_reader.read(_PIECE):
                    pass
        self._note()
        _close(target_writer, "fin")
        status, reason = self._fault.status, _REASONS[self._fault.status]
        page = _GATEWAY_PAGE % (status, reason, status, reason)
        await _send(
            self._writers[0],
            b"HTTP/1.1 %d %b\r\nServer: front\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%b" % (status, reason, len(page), page),
        )
        await flushed(self._writers[0])

    def _note(self) -> None:
        self._relay.done[self._fault.kind] += 1


def _close(writer: asyncio.StreamWriter, how: How) -> None:
    if how == "rst":
        reset(writer)
    else:
        writer.close()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    if data:
        writer.write(data)
        await writer.drain()
