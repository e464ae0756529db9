"""The fault relay is exact: without a fault nothing changes, and with one it happens at its byte and nowhere else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from tests.support.faulty import (
    NONE,
    Fault,
    FaultRelay,
    Plan,
    cut,
    drip,
    garbage,
    gateway,
    half_close,
    in_order,
    refuse,
    seeded,
    stall,
)

NOISE = Random(1).randbytes(300_000)
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Far:
    """The far end: says NOISE once it has heard a line, and remembers what it heard and how that ended."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.end = asyncio.get_running_loop().create_future()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            self.heard += await reader.read(65536)
            writer.write(NOISE)
            await writer.drain()
            writer.write_eof()
        try:
            while data := await reader.read(65536):
                self.heard += data
            self.end.set_result("fin")
        except ConnectionError:
            self.end.set_result("rst")
        writer.close()


@asynccontextmanager
async def relayed(plan: Plan) -> AsyncIterator[tuple[FaultRelay, Far]]:
    far = Far()
    server = await asyncio.start_server(far.talk, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, FaultRelay(url, plan) as relay:
        yield relay, far


async def ask(relay: FaultRelay, said: bytes = b"hello") -> tuple[bytes, str]:
    """Say something and listen to the end; give what came and how it ended."""
    port = int(relay.url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = bytearray()
    try:
        writer.write(said)
        await writer.drain()
        while data := await reader.read(65536):
            got += data
        writer.write_eof()
    except ConnectionError:
        return bytes(got), "rst"
    finally:
        writer.close()
    return bytes(got), "fin"


async def test_without_a_fault_nothing_changes() -> None:
    """Bytes and ends pass both ways; the path of the target is the relay's."""
    async with relayed(in_order()) as (relay, far):
        assert relay.url.endswith("/v1")
        assert await ask(relay) == (NOISE, "fin")
        assert (await far.end, bytes(far.heard)) == ("fin", b"hello")
        assert (relay.connections, dict(relay.done)) == (1, {})


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("at", [0, 1, 65_535, 65_536, 65_537, 200_001, len(NOISE)])
async def test_a_cut_delivers_exactly_its_bytes(at: int, how: str) -> None:
    """Also when it is by reset, which would throw away what is on its way."""
    async with relayed(in_order(cut(at, how=how))) as (relay, far):  # type: ignore[arg-type]
        assert await ask(relay) == (NOISE[:at], how)
        await far.end
        assert dict(relay.done) == {"cut": 1}


async def test_a_cut_of_the_request_delivers_exactly_its_bytes() -> None:
    """The far end hears that much, and then a reset."""
    async with relayed(in_order(cut(100_000, side="request", how="rst"))) as (relay, far):
        await ask(relay, NOISE)
        assert await far.end == "rst"
        assert bytes(far.heard) == NOISE[:100_000]


async def test_a_fault_that_is_never_reached_does_not_happen() -> None:
    """And is not counted."""
    async with relayed(in_order(cut(len(NOISE) + 1))) as (relay, _):
        assert await ask(relay) == (NOISE, "fin")
        assert dict(relay.done) == {}


async def test_a_stall_ends_or_does_not() -> None:
    """What came before it is there at once."""
    async with relayed(in_order(stall(1000, for_s=0.2), stall(1000))) as (relay, _):
        begun = time.monotonic()
        assert await ask(relay) == (NOISE, "fin")
        assert time.monotonic() - begun >= 0.2
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(relay), 0.1)
        assert dict(relay.done) == {"stall": 2}


async def test_a_drip_takes_its_time_and_loses_nothing() -> None:
    """300,000 bytes at a million a second."""
    async with relayed(in_order(drip(1_000_000, 100_000))) as (relay, _):
        begun = time.monotonic()
        assert await ask(relay) == (NOISE, "fin")
        assert 0.15 <= time.monotonic() - begun <= 3


async def test_a_half_close_ends_one_side() -> None:
    """The near end sees a clean end after exactly so many bytes, and may go on speaking."""
    async with relayed(in_order(half_close(777))) as (relay, far):
        assert await ask(relay) == (NOISE[:777], "fin")
        assert await far.end == "fin"


@pytest.mark.parametrize("at", [10, 65_500, 299_990])
async def test_garbage_replaces_bytes(at: int) -> None:
    """So many, from there on, and the rest is as it was."""
    async with relayed(in_order(garbage(at, size=100, seed=3))) as (relay, _):
        noise = Random(3).randbytes(100)
        assert (await ask(relay))[0] == (NOISE[:at] + noise + NOISE[at + 100 :])


async def test_refusals_and_absence() -> None:
    """A refused connection is reset; while nobody is there, it can't be made, and later it can."""
    async with relayed(in_order(refuse())) as (relay, _):
        assert await ask(relay) == (b"", "rst")
        async with relay.away():
            with pytest.raises(ConnectionRefusedError):
                await ask(relay)
        assert await ask(relay) == (NOISE, "fin")
        assert relay.connections == 2


@pytest.mark.parametrize("status", [502, 504])
async def test_a_gateway_loses_patience(status: int) -> None:
    """The far end has the request whole and is hung up on; the near end gets a page in HTML."""
    said = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345"
    async with relayed(in_order(gateway(status, after_s=0.1))) as (relay, far):  # type: ignore[arg-type]
        got, _ = await ask(relay, said)
        assert got.startswith(b"HTTP/1.1 %d " % status)
        assert b"text/html" in got
        await far.end
        assert bytes(far.heard) == said


def test_a_seeded_plan_is_the_same_again() -> None:
    """And gives its share."""
    faults: list[Fault] = [cut(1), stall()]
    plan, again = seeded(7, faults, share=0.5), seeded(7, faults, share=0.5)
    drawn = [plan(number) for number in range(400)]
    assert drawn == [again(number) for number in range(400)]
    assert 150 <= drawn.count(NONE) <= 250
    assert {fault.kind for fault in drawn} == {"none", "cut", "stall"}
