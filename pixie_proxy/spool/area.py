"""The spool's folders: this process's own, locked while it lives, and those that dead processes left."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pixie_proxy.disk import SharedSync, fsync_directory
from pixie_proxy.disk.ballast import INDEX_BYTES, Ballast
from pixie_proxy.disk.watch import Disk, room
from pixie_proxy.errors import StorageFull
from pixie_proxy.records import is_id
from pixie_proxy.spool.call import SpooledCall
from pixie_proxy.spool.partials import Partials
from pixie_proxy.threads import WorkerThreads

LOCK = "lock"
UPLOADS = "uploads"
PARTIALS = "partials"

ROOM_FLOOR_BYTES = 128 * 1024 * 1024
"""Free space that must be left before a call is admitted: for the index, and for what we could not foresee."""
ROOM_PER_IMAGE_BYTES = 16 * 1024 * 1024
"""Space set aside for each image that is under way."""
LITTLE_BYTES = 1024**3
"""Room that lasts for some hundred images: to be told before it is gone."""

CLOSES_AT = 0.8
"""What part of its cap the spool may hold before new calls are refused: those that run still fit into the rest."""

_HALF_MADE_MAX_AGE_S = 60.0
BALLAST_IMAGES = 2
"""For so many images ballast is held while none is under way: it takes the watch a second to follow."""

_FREE_MAX_AGE_S = 0.1
"""How old a reading of the free space may be: a call into the kernel for every request is one too many."""


class Spool:
    """This process's part of the spool."""

    def __init__(
        self, root: Path, writers: WorkerThreads, marks: Sequence[Path] = (), max_bytes: int | None = None
    ) -> None:
        """Plan a folder of our own under `root`. Without the files `marks` its disk counts as gone.

        `max_bytes` is what the calls of all processes may take there; None: as much as the disk has room for.
        """
        self.root = root
        self.max_bytes = max_bytes
        self.size_bytes = 0
        """What they take, as `depth` last measured it."""
        self.process = secrets.token_hex(8)
        self.folder = root / self.process
        self.uploads = root / UPLOADS / self.process
        self.partials = Partials(root / PARTIALS)
        self.ballast = Ballast(root.parent)
        self.disk = Disk(
            "data directory",
            self.folder,
            marks=marks,
            least_bytes=ROOM_FLOOR_BYTES,
            ballast=self.ballast,
        )
        self._writers = writers
        self._sync = SharedSync()
        self._lock: int | None = None
        self._images_under_way = 0
        self._free_bytes = 0
        self._free_read_at = float("-inf")
        self._want_ballast()

    def open(self) -> None:
        """Make our folders and take our lock. Raises OSError where the data directory can't be written."""
        for half_made in self.root.glob(".*"):  # by a start that was killed
            if time.time() - half_made.stat().st_mtime > _HALF_MADE_MAX_AGE_S:
                shutil.rmtree(half_made, ignore_errors=True)
        # Locked before it has its name: another process that starts now must not take it for a dead one's.
        unnamed = self.root / f".{self.process}"
        unnamed.mkdir(parents=True)
        self._lock = _take_lock(unnamed / LOCK)
        unnamed.rename(self.folder)
        self.uploads.mkdir(parents=True)
        fsync_directory(self.root)
        fsync_directory(self.root.parent)

    def close(self, *, keeps_folder: bool = False) -> None:
        """Remove our folders and give the lock back. Calls that have not ended keep theirs, for the next start."""
        self.ballast.close()
        shutil.rmtree(self.uploads, ignore_errors=True)
        if self._lock is not None:
            if not keeps_folder and not calls_in(self.folder):
                shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def call(self, request_id: str, header: bytes) -> SpooledCall:
        """Open the folder of a new call; `header` is what recovery knows of it before the manifest."""
        return SpooledCall(
            str(self.folder), request_id, header, self._writers, self._sync, self.disk, self.partials
        )

    def check_room(self, images: int) -> None:
        """See that there is room for some more images, ballast included. Raises StorageFull, before money is spent."""
        under_way_bytes = ROOM_PER_IMAGE_BYTES * (self._images_under_way + images)
        if self.max_bytes is not None and (
            self.size_bytes >= CLOSES_AT * self.max_bytes
            or self.size_bytes + under_way_bytes > self.max_bytes
        ):
            message = (
                "Too many images wait in the proxy's spool for a storage that is away or slow. "
                "Nothing was sent upstream; try again later."
            )
            raise StorageFull(message, headers={"retry-after": "30"})
        now = time.monotonic()
        if now - self._free_read_at > _FREE_MAX_AGE_S:
            self._free_bytes, self._free_read_at = _free_bytes(self.root) + self.ballast.size_bytes, now
        if self._free_bytes < ROOM_FLOOR_BYTES + under_way_bytes:
            message = (
                "The proxy's disk is full. Nothing was sent upstream; try again when the admin has made room."
            )
            raise StorageFull(message, headers={"retry-after": "30"})

    def take_room(self, images: int) -> None:
        """Set room aside for a call's images until `give_room`. Raises StorageFull."""
        self.check_room(images)
        self._images_under_way += images
        self._want_ballast()

    def give_room(self, images: int) -> None:
        """Give back what `take_room` took."""
        self._images_under_way -= images
        self._want_ballast()

    def _want_ballast(self) -> None:
        images = self._images_under_way + BALLAST_IMAGES
        self.ballast.wanted_bytes = INDEX_BYTES + ROOM_PER_IMAGE_BYTES * images

    def find(self, request_id: str, file: str) -> Path | None:
        """Look for an image that storage has not got yet, in the folders of all processes on this host.

        A spool that can't be read has none: storage may have it all the same.
        """
        with suppress(OSError):
            for process in (self.folder, *self.root.iterdir()):
                path = process / request_id / file
                if path.is_file():
                    return path
        return None

    def holds(self, request_id: str) -> bool:
        """Tell whether anything of a call is still here, in the folders of all processes on this host."""
        return self.root.is_dir() and any(
            (process / request_id).is_dir() for process in processes_in(self.root)
        )

    def oldest_call(self) -> str | None:
        """Give the smallest id of the calls in our folder; empty, and so smaller than any, where it can't be read."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except OSError:
            return ""
        return min((name for name in names if is_id(name, "req")), default=None)

    @contextmanager
    def dead_processes(self) -> Iterator[list[Path]]:
        """Give the folders of processes that are gone, locked so that no other start recovers them as well."""
        locks: list[int] = []
        folders: list[Path] = []
        try:
            for folder in processes_in(self.root):
                if folder.name == self.process:
                    continue
                try:
                    locks.append(_take_lock(folder / LOCK))
                except (BlockingIOError, FileNotFoundError):  # alive, or just gone
                    continue
                if folder.is_dir():  # else who held the lock has just removed it
                    folders.append(folder)
            yield folders
        finally:
            for lock in locks:
                os.close(lock)

    def forget(self, folder: Path) -> None:
        """Remove a dead process's folder once nothing is left to recover in it, and the uploads it left."""
        shutil.rmtree(self.root / UPLOADS / folder.name, ignore_errors=True)
        if not calls_in(folder):
            shutil.rmtree(folder, ignore_errors=True)


def processes_in(root: Path) -> list[Path]:
    """List the folders of processes, dead or alive."""
    return sorted(
        folder
        for folder in root.iterdir()
        if folder.name not in {UPLOADS, PARTIALS} and not folder.name.startswith(".") and folder.is_dir()
    )


def calls_in(folder: Path) -> list[Path]:
    """List the call folders of a process, oldest first."""
    return sorted(path for path in folder.iterdir() if is_id(path.name, "req") and path.is_dir())


def _take_lock(path: Path) -> int:
    """Lock a file for as long as its descriptor is open; the kernel frees it when the process dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _free_bytes(path: Path) -> int:
    return room(path).free_bytes


def is_alive(root: Path, process: str) -> bool:
    """Whether a process of this host still holds its part of the spool."""
    try:
        descriptor = os.open(root / process / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
