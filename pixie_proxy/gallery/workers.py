"""Our side of the thumbnail workers: a few processes, started when needed, killed when they hang or are not needed.

What a worker says is not trusted either: a hostile image may have taken it over.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path

from pixie_proxy.gallery.thumbnail_worker import ANSWER, MOVING, REFUSED, REQUEST, STILL, Thumbnail
from pixie_proxy.media import sniff

log = logging.getLogger(__name__)

WORKERS = 2
WALL_S = 10.0
"""How long a worker may take for a thumbnail, once it has the image: on a busy machine, longer than it may compute."""

MOST_IMAGE_BYTES = 128 * 1024 * 1024
_MOST_THUMBNAIL_BYTES = 16 * 1024 * 1024
_MOST_PLACEHOLDER_BYTES = 512
_IMAGES_A_LIFE = 100
"""A worker is replaced after so many: whatever a decoder leaks ends with it."""

_IDLE_S = 30.0
_END_S = 1.0
"""How long a worker that says nothing more may take to end before it is killed, and with it what it would tell."""
_PROGRAM = Path(__file__).with_name("thumbnail_worker.py")

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGPROF}
"""Signals by which a worker ends of itself: a decoder broke, or took more of the processor's time than it may.

Not SIGKILL, which a machine short of memory sends; nor SIGBUS and SIGILL, which tell of the machine's own files.
"""


class Unthumbable(Exception):
    """The image can't be made smaller, now and later."""


class WorkerDied(Exception):
    """The worker was killed or took too long, and the image need not be the cause."""


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

    async def make(self, pieces: AsyncGenerator[bytes, None], length: int, size_px: int) -> Thumbnail:
        """Have a thumbnail made. Raises Unthumbable, WorkerDied, and what `pieces` raises."""
        if length > MOST_IMAGE_BYTES:
            message = "too large"
            raise Unthumbable(message)
        if self._rest is not None:
            self._rest.cancel()
        is_well, process = False, None
        try:
            process = await self._ready()
            answer = await _ask(process, pieces, length, size_px)
            is_well = True
        except WorkerDied as exc:
            fell_silent = exc.__cause__ is not None  # in contrast to one that said what it must not
            if process is not None and fell_silent and (crash := await _crash(process)) is not None:
                raise Unthumbable(crash.name) from exc
            raise
        finally:
            if is_well:
                self._rest = asyncio.get_running_loop().call_later(_IDLE_S, self._kill)
            else:
                await asyncio.shield(self.close())
        if isinstance(answer, str):
            raise Unthumbable(answer)
        return answer

    async def close(self) -> None:
        """End the process."""
        if self._rest is not None:
            self._rest.cancel()
        if (process := self._process) is not None:
            self._kill()
            self._process = None
            await process.wait()

    async def _ready(self) -> Process:
        """Give a process that waits for an image. Raises WorkerDied."""
        self._images += 1
        if self._process is None or self._process.returncode is not None or self._images > _IMAGES_A_LIFE:
            await self.close()
            self._images = 1
            with _deaths():
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-I",
                    str(_PROGRAM),
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=DEVNULL,
                    env={},
                    cwd="/",
                )
                async with asyncio.timeout(WALL_S):
                    is_locked_in = await _pipes(self._process)[1].readexactly(1)
            _tell_once(is_locked_in=is_locked_in == b"\1")
        return self._process

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()


async def _ask(
    process: Process, pieces: AsyncGenerator[bytes, None], length: int, size_px: int
) -> Thumbnail | str:
    """Send a request; give what comes back, or why nothing does. Raises WorkerDied, and what `pieces` raises."""
    source, target = _pipes(process)
    source.write(REQUEST.pack(size_px, length))
    sent = 0
    async with aclosing(pieces):
        async for piece in pieces:
            sent += len(piece)
            with _deaths():
                source.write(piece)
                async with asyncio.timeout(WALL_S):
                    await source.drain()
    if sent != length:
        message = "a short image"
        raise WorkerDied(message)
    with _deaths():
        async with asyncio.timeout(WALL_S):
            status, placeholder_bytes, body_bytes = ANSWER.unpack(await target.readexactly(ANSWER.size))
            if placeholder_bytes > _MOST_PLACEHOLDER_BYTES or body_bytes > _MOST_THUMBNAIL_BYTES:
                message = "a large answer"
                raise WorkerDied(message)
            placeholder = await target.readexactly(placeholder_bytes)
            body = await target.readexactly(body_bytes)
    if status == REFUSED:
        return body[:80].decode("ascii", "replace")
    if status not in {STILL, MOVING} or {sniff(placeholder), sniff(body[:16])} != {"image/webp"}:
        message = "an answer that is none"
        raise WorkerDied(message)
    return Thumbnail(body, placeholder, status == MOVING)


def _pipes(process: Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    if process.stdin is None or process.stdout is None:  # both were asked for
        message = "no pipes"
        raise WorkerDied(message)
    return process.stdin, process.stdout


async def _crash(process: Process) -> signal.Signals | None:
    """Give the signal by which a worker ended of itself, or is just ending; None where it did not."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            await process.wait()
    ended_by = -(process.returncode or 0)
    return signal.Signals(ended_by) if ended_by in _CRASHES else None


@cache
def _tell_once(*, is_locked_in: bool) -> None:
    if not is_locked_in:
        log.warning("thumbnail workers are not locked in: this system has no seccomp for them")


@contextmanager
def _deaths() -> Iterator[None]:
    """Tell what the end of a worker looks like from here: a broken pipe, an early end, or silence."""
    try:
        yield
    except (OSError, EOFError, TimeoutError) as exc:
        raise WorkerDied(type(exc).__name__) from exc
