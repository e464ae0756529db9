"""Bytes on their way to one client, at the client's own pace.

The upstream is read at full speed, for what it sends is paid for; a client that reads slowly must not hold that up, and
must not fill our memory. What it can't take yet waits in a file.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Protocol

from pixie_proxy.disk import write_at
from pixie_proxy.threads import WorkerThreads

log = logging.getLogger(__name__)

READY_BYTES = 64 * 1024
"""An answer up to this size is handed over in one piece, with its length."""

_AHEAD_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024


class FeedBroken(Exception):
    """The answer can't be finished; the client must see that."""


class Source(Protocol):
    """Where the bytes for one client come from, as whoever sends them sees it."""

    is_between_events: bool
    """Of a stream: a comment may be written once everything that was given has gone out."""

    def take_whole(self) -> bytes | None:
        """Return the answer if it has ended well and is small enough to go out in one piece."""

    async def get(self, timeout_s: float | None = None) -> bytes | None:
        """Return the next bytes, b"" after `timeout_s` of silence, None at the end. Raises FeedBroken."""

    def abandon(self) -> None:
        """Say that the client has gone."""

    def discard(self) -> None:
        """Release what is held; nobody reads on."""


def _as_it_is(step: Callable[..., bytes], *args: object) -> bytes:
    return step(*args)


class Feed:
    """A pipe from the pump to one client. `put`, `close` and `abort` are the pump's; `get` is the handler's."""

    def __init__(self, folder: Path, threads: WorkerThreads, roomy: Callable[..., bytes] = _as_it_is) -> None:
        """Spill into an unnamed file in `folder`, if ever; `roomy` takes that step where the disk is full."""
        self._folder = folder
        self._threads = threads
        self._roomy = roomy
        self._ready: deque[bytes] = deque()
        self._ready_bytes = 0
        self._late: list[bytes] = []
        self._late_bytes = 0
        self._file: BinaryIO | None = None
        self._is_spilling = False
        self._is_discarded = False
        self._written_bytes = 0
        self._read_bytes = 0
        self._waiter: asyncio.Future[bool] | None = None
        self._is_closed = False
        self._is_broken = False
        self.is_abandoned = False
        """The client has gone: what is put from here on is dropped."""
        self.put_bytes = 0
        self.is_between_events = False
        """Of a stream: a comment may be written once everything that was put has gone out."""

    def put(self, data: bytes) -> None:
        """Hand bytes to the client."""
        if self.is_abandoned or not data:
            return
        self.put_bytes += len(data)
        if self._late or self._is_spilling or self._is_behind or self._ready_bytes >= _AHEAD_BYTES:
            self._late.append(data)
            self._late_bytes += len(data)
        else:
            self._ready.append(data)
            self._ready_bytes += len(data)
        self._wake()

    async def pull(self, steps: Iterator[bytes]) -> bool:
        """Put the next of an answer's steps, which may block; false behind the last one."""
        data = await self._hop(next, steps, b"")
        self.put(data)
        if self.wants_spill:
            await self.spill()
        return bool(data)

    def close(self) -> None:
        """End the answer well."""
        self._is_closed = True
        self._wake()

    def abort(self) -> None:
        """End the answer so that the client can't take it for whole. After `close` it has no effect."""
        if not self._is_closed:
            self._is_broken = self._is_closed = True
            self._wake()

    @property
    def wants_spill(self) -> bool:
        """Whether the client is so far behind that bytes must leave memory."""
        return self._late_bytes >= _PIECE_BYTES

    async def spill(self) -> None:
        """Move what the client can't take yet to disk. A disk that fails breaks this client's answer, not the call."""
        late, self._late = b"".join(self._late), []
        self._late_bytes = 0
        self._is_spilling = True
        try:
            await self._hop(self._roomy, self._append, late)
        except OSError:
            log.exception("the disk can't hold what a slow client has still to read")
            self.abandon()
            self.abort()
            return
        finally:
            self._is_spilling = False
            if self._is_discarded:
                self.discard()
        self._written_bytes += len(late)
        self._wake()

    def take_whole(self) -> bytes | None:
        """Return the answer if it has ended well and is small enough to go out in one piece."""
        if not self._is_closed or self._is_broken or self.put_bytes > READY_BYTES:
            return None
        data = b"".join(self._ready)
        self._ready.clear()
        return data

    async def get(self, timeout_s: float | None = None) -> bytes | None:
        """Return the next bytes, b"" after `timeout_s` of silence, None at the end. Raises FeedBroken."""
        while True:
            if self._ready:
                self._ready_bytes = 0
                data = self._ready.popleft() if len(self._ready) == 1 else b"".join(self._ready)
                self._ready.clear()
                return data
            if self._is_behind:
                data = await self._hop(self._read)
                self._read_bytes += len(data)
                return data
            if self._late and not self._is_spilling:
                self._ready.extend(self._late)
                self._late.clear()
                self._late_bytes = 0
                continue
            if self._is_closed and not self._is_spilling:
                if self._is_broken:
                    raise FeedBroken
                return None
            # What came at the very end of the wait goes first: a comment before it could break an event.
            if not await self._wait(timeout_s) and not self._has_more:
                return b""

    def abandon(self) -> None:
        """Say that the client has gone."""
        self.is_abandoned = True
        self._ready.clear()
        self._late.clear()
        self._ready_bytes = self._late_bytes = 0
        self._read_bytes = self._written_bytes

    def discard(self) -> None:
        """Give the file back, if there was one; nobody reads on."""
        self._is_discarded = True
        # Not under the hands of the thread that writes: its descriptor could be another file's by then.
        if self._file is not None and not self._is_spilling:
            self._file.close()
            self._file = None

    async def _wait(self, timeout_s: float | None = None) -> bool:
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, _resolve, waiter, False)
        try:
            return bool(await waiter)
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None:
            _resolve(self._waiter, True)

    async def _hop(self, work: Callable[..., bytes], *args: object) -> bytes:
        return await self._threads.run(work, *args)

    @property
    def _has_more(self) -> bool:
        """Whether there is anything to give out, or on its way there."""
        return bool(self._ready or self._late) or self._is_spilling or self._is_behind or self._is_closed

    @property
    def _is_behind(self) -> bool:
        """Whether the file holds bytes that the client has not had."""
        return self._read_bytes < self._written_bytes

    def _append(self, data: bytes) -> bytes:
        if self._file is None:
            self._file = TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - lives as long as the feed
        write_at(self._file.fileno(), data, self._written_bytes)
        return b""

    def _read(self) -> bytes:
        if self._file is None:
            raise FeedBroken
        size = min(_PIECE_BYTES, self._written_bytes - self._read_bytes)
        return os.pread(self._file.fileno(), size, self._read_bytes)


def _resolve(waiter: asyncio.Future[bool], value: bool) -> None:
    if not waiter.done():
        waiter.set_result(value)
