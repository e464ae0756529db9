"""The spool's folders: this process's own, locked while it lives, and those that dead processes left."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from pixie_proxy.errors import StorageFull
from pixie_proxy.records import is_id
from pixie_proxy.spool.call import SpooledCall
from pixie_proxy.storage.local import fsync_directory

LOCK = "lock"
UPLOADS = "uploads"

ROOM_FLOOR_BYTES = 128 * 1024 * 1024
"""Free space that must be left before a call is admitted: for the index, and for what we could not foresee."""
ROOM_PER_IMAGE_BYTES = 16 * 1024 * 1024
"""Space set aside for each image that is under way."""


class Spool:
    """This process's part of the spool."""

    def __init__(self, root: Path, writers: Executor) -> None:
        """Plan a folder of our own under `root`."""
        self.root = root
        self.process = secrets.token_hex(8)
        self.folder = root / self.process
        self.uploads = root / UPLOADS / self.process
        self._writers = writers
        self._lock: int | None = None
        self._images_under_way = 0

    def open(self) -> None:
        """Make our folders and take our lock. Raises OSError where the data directory can't be written."""
        self.folder.mkdir(parents=True)
        self.uploads.mkdir(parents=True)
        self._lock = _take_lock(self.folder / LOCK)
        fsync_directory(self.root)

    def close(self) -> None:
        """Remove our folders where nothing is left in them, and give the lock back."""
        shutil.rmtree(self.uploads, ignore_errors=True)
        if self._lock is not None:
            if not calls_in(self.folder):
                (self.folder / LOCK).unlink(missing_ok=True)
                self.folder.rmdir()
            os.close(self._lock)
            self._lock = None

    def call(self, request_id: str, header: bytes) -> SpooledCall:
        """Open the folder of a new call; `header` is what recovery knows of it before the manifest."""
        return SpooledCall(self.folder / request_id, header, self._writers)

    @contextmanager
    def room_for(self, images: int) -> Iterator[None]:
        """Set room aside for a call's images while it runs. Raises StorageFull before any money is spent."""
        free = _free_bytes(self.root)
        if free < ROOM_FLOOR_BYTES + ROOM_PER_IMAGE_BYTES * (self._images_under_way + images):
            message = "The proxy's disk is full. Nothing was sent upstream; try again when the operator has made room."
            raise StorageFull(message, headers={"retry-after": "30"})
        self._images_under_way += images
        try:
            yield
        finally:
            self._images_under_way -= images

    def find(self, request_id: str, file: str) -> Path | None:
        """Look for an image that storage has not got yet, in the folders of all processes on this host."""
        own = self.folder / request_id / file
        if own.is_file():
            return own
        return next((path for path in self.root.glob(f"*/{request_id}/{file}") if path.is_file()), None)

    @contextmanager
    def dead_processes(self) -> Iterator[list[Path]]:
        """Give the folders of processes that are gone, locked so that no other start recovers them as well."""
        locks: list[int] = []
        folders: list[Path] = []
        try:
            for folder in sorted(self.root.iterdir()):
                if folder.name in {UPLOADS, self.process} or not folder.is_dir():
                    continue
                try:
                    locks.append(_take_lock(folder / LOCK))
                except BlockingIOError:
                    continue
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
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
