"""Our side of the thumbnail workers: a few processes, started when needed, killed when they hang or are not needed.

What a worker says is not trusted either: a hostile image may have taken it over.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from pixie_proxy.gallery.thumbnail_worker import ANSWER, REQUEST
from pixie_proxy.media import sniff

WORKERS = 2
WALL_S = 5.0
"""How long a worker may take for a thumbnail, once it has the image."""

MOST_IMAGE_BYTES = 128 * 1024 * 1024
_MOST_THUMBNAIL_BYTES = 16 * 1024 * 1024
_IMAGES_A_LIFE = 100
"""A worker is replaced after so many: whatever a decoder leaks ends with it."""

_IDLE_S = 30.0
_PROGRAM = Path(__file__).with_name("thumbnail_worker.py")


class Unthumbable(Exception):
    """The image can't be made smaller, now and later."""


class WorkerDied(Exception):
    """The worker crashed, was killed or took too long; the image may or may not be the cause."""


class Workers:
    """At most `WORKERS` processes; who comes when all are busy waits."""

    def __init__(self) -> None:
        """Start none yet."""
        self._idle = [Worker() for _ in range(WORKERS)]
        self._free = asyncio.Semaphore(WORKERS)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Worker]:
        """Give a worker that nobody else uses meanwhile."""
        async with self._free:
            worker = self._idle.pop()  # the one that rested last, so that the others may end
            try:
                yield worker
            finally:
                self._idle.append(worker)

    async def close(self) -> None:
        """End the processes."""
        for worker in self._idle:
            await worker.close()


class Worker:
    """One process, started anew whenever it is needed and not there."""

    def __init__(self) -> None:
        """Start none yet."""
        self._process: Process | None = None
        self._images = 0
        self._rest: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The number of its process, where it has one."""
        return None if self._process is None else self._process.pid

    async def make(self, pieces: AsyncGenerator[bytes, None], length: int, size_px: int) -> bytes:
        """Have a WebP made. Raises Unthumbable, WorkerDied, and what `pieces` raises."""
        if length > MOST_IMAGE_BYTES:
            message = "too large"
            raise Unthumbable(message)
        if self._rest is not None:
            self._rest.cancel()
        is_well = False
        try:
            with _deaths():
                process = await self._ready()
            status, body = await _ask(process, pieces, length, size_px)
            is_well = status == 1 or (status == 0 and sniff(body) == "image/webp")
        finally:
            if is_well:
                self._rest = asyncio.get_running_loop().call_later(_IDLE_S, self._kill)
            else:
                await asyncio.shield(self.close())
        if not is_well:
            message = "an answer that is none"
            raise WorkerDied(message)
        if status == 1:
            raise Unthumbable(body[:80].decode("ascii", "replace"))
        return body

    async def close(self) -> None:
        """End the process."""
        if self._rest is not None:
            self._rest.cancel()
        if (process := self._process) is not None:
            self._kill()
            self._process = None
            await process.wait()

    async def _ready(self) -> Process:
        self._images += 1
        if self._process is None or self._process.returncode is not None or self._images > _IMAGES_A_LIFE:
            await self.close()
            self._images = 1
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", str(_PROGRAM), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, cwd="/"
            )
        return self._process

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()


async def _ask(
    process: Process, pieces: AsyncGenerator[bytes, None], length: int, size_px: int
) -> tuple[int, bytes]:
    """Send a request and read its answer. Raises WorkerDied, and what `pieces` raises."""
    if process.stdin is None or process.stdout is None:  # both were asked for
        message = "no pipes"
        raise WorkerDied(message)
    process.stdin.write(REQUEST.pack(size_px, length))
    sent = 0
    async with aclosing(pieces):
        async for piece in pieces:
            sent += len(piece)
            with _deaths():
                process.stdin.write(piece)
                async with asyncio.timeout(WALL_S):
                    await process.stdin.drain()
    if sent != length:
        message = "a short image"
        raise WorkerDied(message)
    with _deaths():
        async with asyncio.timeout(WALL_S):
            status, size_bytes = ANSWER.unpack(await process.stdout.readexactly(ANSWER.size))
            if size_bytes > _MOST_THUMBNAIL_BYTES:
                message = "a large answer"
                raise WorkerDied(message)
            return status, await process.stdout.readexactly(size_bytes)


@contextmanager
def _deaths() -> Iterator[None]:
    """Tell what the end of a worker looks like from here: a broken pipe, an early end, or silence."""
    try:
        yield
    except (OSError, EOFError, TimeoutError) as exc:
        raise WorkerDied(type(exc).__name__) from exc
