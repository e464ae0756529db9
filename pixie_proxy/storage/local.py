"""Images on a local disk: one rename takes a request's folder over, and every new directory entry is fsynced.

obstore's LocalStore never fsyncs, so a power cut could take images that clients already have; this store is our own.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

import aiofiles

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import MANIFEST, PIECE_BYTES, ObjectMissing

T = TypeVar("T")


def fsync_directory(path: Path | str) -> None:
    """Make a directory's entries durable: without it a power cut forgets the name of a file that was fsynced."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and fsync it; the directory is the caller's to fsync."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class LocalStorage:
    """Storage in a folder. Durable work runs in `writers`, so that slow fsyncs never delay a read."""

    def __init__(self, root: Path, writers: Executor) -> None:
        """Use the folder `root`, which must exist."""
        self._root = root
        self._writers = writers
        self._known: set[Path] = {root}

    async def adopt(self, folder: Path, ref: str) -> None:
        """Rename the folder into place; from another device, copy it to `.incoming` first."""
        await self._write(self._adopt, folder, self._root / ref)

    async def size(self, ref: str) -> int:
        """Ask the file system."""
        try:
            return (await asyncio.to_thread(os.stat, self._root / ref)).st_size
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissing(ref) from None

    async def read(self, ref: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Read piece by piece, each in a thread."""
        try:
            async with aiofiles.open(self._root / ref, "rb") as file:
                await file.seek(start)
                while piece := await file.read(
                    PIECE_BYTES if stop is None else min(PIECE_BYTES, stop - start)
                ):
                    start += len(piece)
                    yield piece
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectMissing(ref) from None

    async def put(self, ref: str, data: bytes) -> None:
        """Write beside the target, fsync, and rename over it."""
        await self._write(self._put, self._root / ref, data)

    async def delete(self, ref: str) -> None:
        """Unlink a file or a whole folder."""
        await self._write(self._delete, self._root / ref)

    async def close(self) -> None:
        """Hold nothing: files are closed as they are read."""

    async def _write(self, work: Callable[..., None], *args: object) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._writers, work, *args)
        except OSError as exc:
            message = f"The storage folder can't be written ({errno.errorcode.get(exc.errno or 0, 'unknown error')})."
            raise StorageUnavailable(message, headers={"retry-after": "10"}) from exc

    def _adopt(self, folder: Path, target: Path) -> None:
        if (target / MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._make_directory(target.parent)
        try:
            folder.rename(target)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            self._copy_in(folder, target)
        fsync_directory(target.parent)

    def _copy_in(self, folder: Path, target: Path) -> None:
        """Copy across devices: whole and durable under `.incoming` before the name that counts exists."""
        incoming = self._root / ".incoming" / target.name
        shutil.rmtree(incoming, ignore_errors=True)
        self._make_directory(incoming.parent)
        incoming.mkdir()
        for source in folder.iterdir():
            copy = incoming / source.name
            shutil.copyfile(source, copy)
            descriptor = os.open(copy, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_directory(incoming)
        incoming.rename(target)
        shutil.rmtree(folder)

    def _make_directory(self, path: Path) -> None:
        """Make a directory and its parents, fsyncing each directory that gained an entry."""
        if path in self._known and path.is_dir():
            return
        if path != self._root:
            self._make_directory(path.parent)
            try:
                path.mkdir()
            except FileExistsError:
                pass
            else:
                fsync_directory(path.parent)
        self._known.add(path)

    def _put(self, target: Path, data: bytes) -> None:
        self._make_directory(target.parent)
        part = target.with_name(f".{target.name}.part")
        write_durably(part, data)
        part.replace(target)
        fsync_directory(target.parent)

    def _delete(self, target: Path) -> None:
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
