"""The pipe to one client: whatever its pace, the same bytes in the same order, in bounded memory."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixie_proxy.relay import feed as feeds
from pixie_proxy.relay.feed import READY_BYTES, Feed, FeedBroken
from pixie_proxy.threads import WorkerThreads

MIB = 1024 * 1024


@pytest.fixture
async def threads() -> AsyncIterator[WorkerThreads]:
    made = WorkerThreads(2, "feed")
    yield made
    await asyncio.to_thread(made.close)


@pytest.fixture
async def feed(tmp_path: Path, threads: WorkerThreads) -> AsyncIterator[Feed]:
    made = Feed(tmp_path, threads)
    yield made
    made.discard()


async def rest_of(feed: Feed) -> bytes:
    """Read to the end."""
    got = bytearray()
    while (piece := await feed.get()) is not None:
        got += piece
    return bytes(got)


@given(st.lists(st.integers(0, 12), max_size=30), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_bytes_survives_every_pace(
    tmp_path: Path, sizes: list[int], ends_well: bool, random: Random
) -> None:
    """However putting, spilling and reading fall together, what comes out is what went in, and its end is its own."""
    content = iter(range(1 << 30))
    pieces = [b"".join([next(content).to_bytes(2, "big") for _ in range(size)]) for size in sizes]

    async def put(feed: Feed) -> None:
        for piece in pieces:
            feed.put(piece)
            if feed.wants_spill:
                await feed.spill()
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
        feed.close() if ends_well else feed.abort()

    async def read(feed: Feed) -> bytes:
        got = bytearray()
        try:
            while (piece := await feed.get()) is not None:
                got += piece
                for _ in range(random.randrange(8)):
                    await asyncio.sleep(0)
        except FeedBroken:
            assert not ends_well
        else:
            assert ends_well
        return bytes(got)

    async def run() -> bytes:
        threads = WorkerThreads(2, "feed")
        feed = Feed(tmp_path, threads)
        _, got = await asyncio.gather(put(feed), read(feed))
        feed.discard()
        threads.close()
        return got

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeds, "_AHEAD_BYTES", 20)
        patch.setattr(feeds, "_PIECE_BYTES", 7)
        assert asyncio.run(run()) == b"".join(pieces)


async def test_memory_is_bounded_when_nobody_reads(feed: Feed, tmp_path: Path) -> None:
    """40 MiB for a client that sleeps: the most of it waits in a file that no folder shows."""
    noise = os.urandom(MIB)
    for number in range(40):
        feed.put(noise[number:] + noise[:number])
        if feed.wants_spill:
            await feed.spill()
    assert sum(map(len, feed._ready)) + sum(map(len, feed._late)) < 3 * MIB
    assert list(tmp_path.iterdir()) == []
    feed.close()
    got = await rest_of(feed)
    assert all(
        got[number * MIB : (number + 1) * MIB] == noise[number:] + noise[:number] for number in range(40)
    )


async def test_a_client_that_keeps_up_costs_no_file(feed: Feed) -> None:
    """What is read as it comes never touches the disk."""
    for _ in range(100):
        feed.put(bytes(100_000))
        assert not feed.wants_spill
        assert await feed.get() == bytes(100_000)
    assert feed._file is None


@pytest.mark.parametrize(
    ("size_bytes", "is_whole"), [(0, True), (1, True), (READY_BYTES, True), (READY_BYTES + 1, False)]
)
async def test_a_small_answer_goes_out_whole(feed: Feed, size_bytes: int, is_whole: bool) -> None:
    """Once it has ended well, up to a size; never one that is still open or broken."""
    feed.put(bytes(size_bytes))
    assert feed.take_whole() is None
    feed.close()
    assert feed.take_whole() == (bytes(size_bytes) if is_whole else None)


async def test_a_broken_answer_is_not_whole(feed: Feed) -> None:
    """What came is given out, and then the break; a close that comes later mends nothing."""
    feed.put(b"half")
    feed.abort()
    feed.close()
    assert feed.take_whole() is None
    assert await feed.get() == b"half"
    with pytest.raises(FeedBroken):
        await feed.get()


async def test_an_answer_that_has_ended_can_not_break(feed: Feed) -> None:
    """The end that came first counts."""
    feed.put(b"all")
    feed.close()
    feed.abort()
    assert await rest_of(feed) == b"all"


async def test_silence_is_told_and_does_no_harm(feed: Feed) -> None:
    """After the time it was given `get` gives b"", as often as it is asked; then what comes."""
    assert [await feed.get(0.001), await feed.get(0.001)] == [b"", b""]
    waiting = asyncio.create_task(feed.get(10))
    await asyncio.sleep(0)
    feed.put(b"at last")
    assert await waiting == b"at last"


async def test_bytes_on_their_way_to_disk_are_no_silence(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment that were sent then would come before them."""
    monkeypatch.setattr(feeds, "_AHEAD_BYTES", 1)
    monkeypatch.setattr(feeds, "_PIECE_BYTES", 1)
    go = hold_disk(feed, monkeypatch)
    feed.put(b"head")
    feed.put(b"tail")
    spilling = asyncio.create_task(feed.spill())
    assert await feed.get(0.001) == b"head"
    waiting = asyncio.create_task(feed.get(0.001))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    go.set()
    await spilling
    feed.close()
    assert await waiting + await rest_of(feed) == b"tail"


def hold_disk(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let the disk be slow: writes wait for the event."""
    go, append = threading.Event(), feed._append

    def slow(data: bytes) -> bytes:
        assert go.wait(10)
        return append(data)

    monkeypatch.setattr(feed, "_append", slow)
    return go


async def test_a_client_may_leave_while_the_disk_is_busy(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write ends in the file that it began in, which is closed only then; what is put later is dropped."""
    monkeypatch.setattr(feeds, "_AHEAD_BYTES", 1)
    monkeypatch.setattr(feeds, "_PIECE_BYTES", 1)
    for _ in range(2):
        feed.put(b"first")
        await feed.spill()
    go = hold_disk(feed, monkeypatch)
    feed.put(b"second")
    spilling = asyncio.create_task(feed.spill())
    await asyncio.sleep(0)
    feed.abandon()
    feed.discard()
    feed.put(b"third")
    assert (feed._file is not None, feed.wants_spill) == (True, False)
    go.set()
    await spilling
    assert feed._file is None


async def test_a_disk_that_fails_breaks_one_answer(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The slow client sees a break; whoever puts, goes on as for a client that has left."""
    monkeypatch.setattr(feeds, "_AHEAD_BYTES", 1)
    monkeypatch.setattr(feeds, "_PIECE_BYTES", 1)

    def full(data: bytes) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feed, "_append", full)
    feed.put(b"a")
    feed.put(b"b")
    await feed.spill()
    feed.put(b"c")
    feed.close()
    assert (feed.wants_spill, feed.is_abandoned) == (False, True)
    with pytest.raises(FeedBroken):
        await feed.get()
    assert "slow client" in caplog.text
