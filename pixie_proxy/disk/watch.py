"""Watch a disk: is it there, can it be written, is there room? Known within a second, before money depends on it.

A disk may fail for the thread that asks it, or never answer: so a thread of its own asks, and the event loop only ever
reads what it found. While nobody wants anything it only looks; it writes when there are calls, or somebody asks.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pixie_proxy.disk import FULL, LostWrite, fsync, write_all
from pixie_proxy.disk.ballast import Ballast
from pixie_proxy.errors import ProxyError, StorageFull, StorageUnavailable
from pixie_proxy.threads import WorkerThreads

T = TypeVar("T")
log = logging.getLogger(__name__)

EVERY_S = 0.8
"""How long we look away."""
DISTRUST_S = 1.5
"""How long a disk is out after it failed a write that mattered, however well the next ones go."""
HUNG_S = 10.0
"""A disk that takes longer to write one byte is gone; a slow one is only slow."""
_WRITES_FOR_S = 2.0
"""How long somebody's question keeps us writing: an idle disk may sleep."""
_ANSWER_WAIT_S = 0.5

_FAULTS = FULL | {
    errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT
}  # fmt: skip
"""What a disk says that must not be trusted any more; after any other error it is only looked at."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system has: bytes free, and in all."""

    free_bytes: int
    total_bytes: int


def room(path: str | os.PathLike[str]) -> Room:
    """Ask how much room there is for us. None at all where a file could not even get a name."""
    status = os.statvfs(path)
    has_names = status.f_files == 0 or status.f_favail > 0  # btrfs does not count them
    return Room(status.f_bavail * status.f_frsize if has_names else 0, status.f_blocks * status.f_frsize)


class Disk:
    """A folder that paid calls depend on. `marks` are files in it that must be there; `ballast` is our room on it.

    Two of them may be in one file system: then the one that is `beside` the other leaves room and ballast to it.

    `make_room`, `roomy` and `suspect` are for any thread, all else for the event loop.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        marks: Sequence[Path] = (),
        least_bytes: int = 0,
        ballast: Ballast | None = None,
        beside: Disk | None = None,
    ) -> None:
        """Look after `folder`, which is full when it has not got `least_bytes`, ballast included."""
        self.name = name
        self.folder = folder
        self.marks = tuple(marks)
        self.ballast = ballast
        self.on_back: list[Callable[[], None]] = []
        """Called when the disk works again."""
        self._probe = folder / f".probe-{secrets.token_hex(8)}"  # in two containers, process ids are the same
        self._least_bytes = least_bytes
        self._beside = beside
        self._fault: OSError | None = None
        self._failed_at = self._asked_at = float("-inf")
        self._wrote_at = float("-inf")
        self._wake = asyncio.Event()
        self._next_look: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def make_room(self, *, for_index: bool = False) -> bool:
        """Give ballast up for a write that met a full disk; True if it should be tried again."""
        if self._beside is not None:
            return self._beside.make_room(for_index=for_index)
        return self.ballast is not None and self.ballast.release(for_index=for_index)

    def roomy(self, step: Callable[..., T], *args: object, for_index: bool = False) -> T:
        """Take a step that may be taken twice, again and again while the disk is full and ballast makes room."""
        while True:
            try:
                return step(*args)
            except OSError as exc:
                if exc.errno not in FULL or isinstance(exc, LostWrite):
                    raise
                if not self.make_room(for_index=for_index):
                    raise

    def suspect(self, error: OSError) -> None:
        """Tell that something on this disk failed. A fault of the disk's ends paid calls at once."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._suspected, error)

    @property
    def is_failing(self) -> bool:
        """Whether nothing can be written, as far as we know."""
        return self._fault is not None and self._fault.errno not in FULL

    def check(self) -> None:
        """Raise StorageFull or StorageUnavailable while nothing paid for could be kept here."""
        self._asked_at = time.monotonic()
        if self._fault is not None:
            raise _refusal(self._fault)

    async def fresh(self) -> None:
        """Wait until what we know is no older than a second, but not for a disk that does not answer."""
        self._asked_at = time.monotonic()
        if self._asked_at - self._wrote_at > 1.0 and self._next_look is not None:
            self._wake.set()
            await asyncio.wait({self._next_look}, timeout=_ANSWER_WAIT_S)

    async def run(self) -> None:
        """Watch for as long as we live."""
        self._loop = asyncio.get_running_loop()
        threads = WorkerThreads(1, f"watch {self.name}", daemon=True)
        self._next_look = self._loop.create_future()
        try:
            while True:
                self._wake.clear()
                begun, self._next_look = self._next_look, self._loop.create_future()
                await self._look(threads)
                begun.set_result(None)
                try:
                    await asyncio.wait_for(self._wake.wait(), EVERY_S)
                except TimeoutError:
                    continue
        finally:
            threads.close()
            self._loop = None
            self._next_look.cancel()

    async def _look(self, threads: WorkerThreads) -> None:
        now = time.monotonic()
        writes = self._fault is not None or now - self._asked_at < _WRITES_FOR_S
        looking = asyncio.ensure_future(threads.run(self.examine, writes))
        done, _ = await asyncio.wait({looking}, timeout=HUNG_S)
        if not done:
            self._found(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
        self._found(await looking)
        if writes:
            self._wrote_at = now

    def examine(self, writes: bool) -> OSError | None:
        """Look at the disk, in a thread; return what is wrong with it. For any thread."""
        try:
            for path in (self.folder, *self.marks):
                path.stat()
            if os.statvfs(self.folder).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            if writes:
                self._write()
            self._measure()
        except OSError as exc:
            return exc
        return None

    def _write(self) -> None:
        descriptor = os.open(self._probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, b"?")
            fsync(descriptor)
        finally:
            os.close(descriptor)
            self._probe.unlink()

    def _measure(self) -> None:
        """See that there is room, and take our ballast from it."""
        if self._beside is not None:
            return
        found, held = room(self.folder), 0
        if self.ballast is not None:
            held = self.ballast.size_bytes
            self.ballast.adjust(found.free_bytes - self._least_bytes, found.total_bytes)
        if found.free_bytes + held < self._least_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _suspected(self, error: OSError) -> None:
        if error.errno in _FAULTS:
            self._failed_at = time.monotonic()
            self._found(error)
        self._wake.set()

    def _found(self, fault: OSError | None) -> None:
        """Take note of what is wrong now, and tell it once."""
        if fault is None and (self._fault is None or time.monotonic() - self._failed_at < DISTRUST_S):
            return
        before, self._fault = self._fault, fault
        told = {"disk": self.name, "folder": str(self.folder), "reason": _name(fault or before)}
        if fault is None:
            log.warning("the disk works again: paid calls are taken", extra=told)
            for back in self.on_back:
                back()
        elif before is None or (before.errno in FULL) != (fault.errno in FULL):
            if fault.errno in FULL:
                log.critical("the disk is full: paid calls are refused until there is room", extra=told)
            else:
                log.critical("the disk fails: paid calls are refused until it is mended", extra=told)


def _name(error: OSError | None) -> str:
    return "" if error is None else errno.errorcode.get(error.errno or 0, "unknown error")


def _refusal(fault: OSError) -> ProxyError:
    if fault.errno in FULL:
        message = (
            "The proxy's disk is full. Nothing was sent upstream; try again when the admin has made room."
        )
        return StorageFull(message, headers={"retry-after": "30"})
    message = (
        f"The proxy's disk fails ({_name(fault)}). Nothing was sent upstream; the admin must look at it."
    )
    return StorageUnavailable(message, headers={"retry-after": "30"})
