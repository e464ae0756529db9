"""Images on a local disk: one rename takes a request's folder over, and every new directory entry is fsynced.

obstore's LocalStore never fsyncs, so a power cut could take images that clients already have; this store is our own.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import aiofiles

from pixie_proxy.disk import SharedSync, fsync, fsync_directory, write_durably
from pixie_proxy.disk.watch import Disk
from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import MANIFEST, PAGE_FILES, PIECE_BYTES, SENTINEL, ObjectMissing, StoredFile
from pixie_proxy.storage.probe import round_trip
from pixie_proxy.threads import WorkerThreads


class LocalStorage:
    """Storage in a folder. Durable work runs in `writers`, so that slow fsyncs never delay a read."""

    def __init__(self, root: Path, writers: WorkerThreads, beside: Disk | None = None) -> None:
        """Use the folder `root`, which must exist; `beside` is a disk in the same file system, if there is one."""
        self.disk = Disk("storage", root, marks=(root / SENTINEL,), beside=beside)
        self._root = str(root)
        self._writers = writers
        self._sync = SharedSync()
        self._durable: set[str] = set()
        """Directories whose own names have been fsynced."""

    async def adopt(self, folder: str, ref: str) -> None:
        """Rename the folder into place; from another device, copy it to `.incoming` first."""
        await self._write(self._adopt, folder, self._path(ref))

    async def size(self, ref: str) -> int:
        """Ask the file system, in this thread: it is one look at an inode."""
        with _read_errors(ref):
            found = os.stat(self._path(ref))
        if not stat.S_ISREG(found.st_mode):
            raise ObjectMissing(ref)
        return found.st_size

    async def read(self, ref: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Read piece by piece, each in a thread."""
        with _read_errors(ref):
            async with aiofiles.open(self._path(ref), "rb") as file:
                await file.seek(start)
                while piece := await file.read(
                    PIECE_BYTES if stop is None else min(PIECE_BYTES, stop - start)
                ):
                    start += len(piece)
                    yield piece

    async def walk(self, ref: str) -> AsyncIterator[list[StoredFile]]:
        """Read directory by directory, a page at a time in a thread."""
        files = _files_below(self._root, ref)
        with _read_errors(ref):
            while page := await asyncio.to_thread(lambda: list(islice(files, PAGE_FILES))):
                yield page

    async def put(self, ref: str, data: bytes) -> None:
        """Write beside the target, fsync, and rename over it."""
        await self._write(self._put, self._path(ref), data)

    async def delete(self, ref: str) -> None:
        """Unlink a file or a whole folder."""
        await self._write(self._delete, self._path(ref))

    async def link(self, ref: str, expires_s: int) -> str | None:
        """Give none: files are read through us."""
        return None

    async def probe(self) -> str | None:
        """Take a small file there and back; none is written where no storage is mounted."""
        return await round_trip(self, self.put)

    async def close(self) -> None:
        """Hold nothing: files are closed as they are read."""

    def _path(self, ref: str) -> str:
        return f"{self._root}/{ref}"

    async def _write(self, work: Callable[..., None], *args: object) -> None:
        try:
            await self._writers.run(lambda: self.disk.roomy(work, *args, for_index=True))
        except OSError as exc:
            self.disk.suspect(exc)
            raise _unavailable("written", exc) from exc

    def _adopt(self, folder: str, target: str) -> None:
        parent = os.path.dirname(target)
        if parent not in self._durable:
            self._make_directory(parent)
        is_left = False
        try:
            is_left = self._move(folder, target)
        except FileNotFoundError:
            if not os.path.exists(
                f"{target}/{MANIFEST}"
            ):  # else it was taken over before, by a start that then died
                self._make_directory(parent)
                is_left = self._move(folder, target)
        try:
            self._sync(parent)
        except OSError:
            # An fsync after one that failed says nothing about what was there before: the entry must be made anew.
            with suppress(OSError):
                self._take_back(folder, target, is_left=is_left)
            raise
        if is_left:  # and only now: until then it may be the one copy that a power cut leaves
            shutil.rmtree(folder)

    def _move(self, folder: str, target: str) -> bool:
        """Bring a folder to `target`; True if it is now in both places."""
        try:
            os.rename(folder, target)
        except OSError as exc:
            if exc.errno == errno.EXDEV:
                self._copy_in(folder, target)
            elif exc.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not os.path.exists(
                f"{target}/{MANIFEST}"
            ):
                raise
            return True
        return False

    def _take_back(self, folder: str, target: str, *, is_left: bool) -> None:
        """Undo `_move`, so that the next try makes it again."""
        if is_left:
            shutil.rmtree(f"{self._root}/.incoming/{os.path.basename(target)}", ignore_errors=True)
            os.rename(target, f"{self._root}/.incoming/{os.path.basename(target)}")
        else:
            os.rename(target, folder)

    def _copy_in(self, folder: str, target: str) -> None:
        """Copy across devices: whole and durable under `.incoming` before the name that counts exists."""
        if os.path.exists(f"{target}/{MANIFEST}"):
            return
        self._make_directory(os.path.dirname(target))
        incoming = f"{self._root}/.incoming/{os.path.basename(target)}"
        shutil.rmtree(incoming, ignore_errors=True)
        self._make_directory(os.path.dirname(incoming))
        os.mkdir(incoming, 0o700)
        for name in os.listdir(folder):
            _copy_durably(f"{folder}/{name}", f"{incoming}/{name}")
        fsync_directory(incoming)
        os.rename(incoming, target)

    def _make_directory(self, path: str) -> None:
        """Make a directory and its parents, fsyncing each directory that gained an entry.

        One that is there already may be the work of another thread, or of a process that died before its fsync. None is
        made where no storage is mounted: what went in there would be out of sight once it is.
        """
        if path == self._root:
            os.stat(f"{path}/{SENTINEL}")
            return
        if path in self._durable and os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self._make_directory(parent)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        try:
            self._sync(parent)
        except OSError:
            with suppress(OSError):
                os.rmdir(path)  # to be made anew, as in `_adopt`
            raise
        self._durable.add(path)

    def _put(self, target: str, data: bytes) -> None:
        parent, name = os.path.split(target)
        if name != SENTINEL:
            self._make_directory(parent)
        part = f"{parent}/.{name}.{secrets.token_hex(4)}.part"  # two may write the same file at once
        try:
            write_durably(part, data)
            os.replace(part, target)
        except OSError:
            with suppress(OSError):
                os.unlink(part)
            raise
        self._sync(parent)

    def _delete(self, target: str) -> None:
        try:
            if os.path.isdir(target):
                shutil.rmtree(target)
            else:
                os.unlink(target)
        except FileNotFoundError:
            os.stat(f"{self._root}/{SENTINEL}")  # nothing is deleted where no storage is mounted
        with suppress(FileNotFoundError):
            self._sync(os.path.dirname(target))


def _files_below(root: str, ref: str) -> Iterator[StoredFile]:
    """Give the files below a folder; sorted as their whole refs are, in which a `/` follows a folder's name."""
    try:
        with os.scandir(f"{root}/{ref}") as entries:
            found = sorted((f"{entry.name}/" if entry.is_dir() else entry.name, entry) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, entry in found:
        if name.endswith("/"):
            yield from _files_below(root, f"{ref}/{entry.name}")
            continue
        try:
            status = entry.stat()
        except FileNotFoundError:  # it has gone since
            continue
        yield StoredFile(
            ref=f"{ref}/{name}", size_bytes=status.st_size, modified_us=status.st_mtime_ns // 1000
        )


def _copy_durably(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _read_errors(ref: str) -> Iterator[None]:
    """Translate what the file system says when a file can't be read."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ObjectMissing(ref) from None
    except OSError as exc:
        raise _unavailable("read", exc) from exc


def _unavailable(what: str, exc: OSError) -> StorageUnavailable:
    reason = errno.errorcode.get(exc.errno or 0, "unknown error")
    message = f"The storage folder can't be {what} ({reason})."
    return StorageUnavailable(message, headers={"retry-after": "10"})
