"""Copy files into a backup: each whole and durable before it has its name, and summed as it passes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast

from pixie_proxy.audit.judging import PART
from pixie_proxy.backup.record import SPOOL, Sum
from pixie_proxy.disk import SharedSync, fsync, write_all
from pixie_proxy.spool.area import calls_in, processes_in
from pixie_proxy.storage import MANIFEST, PIECE_BYTES, Storage


class Tree:
    """A folder that files come into. Every directory entry is fsynced, once for all who wait for it."""

    def __init__(self, root: Path) -> None:
        """Write below `root`, which exists."""
        self.root = root
        self._sync = SharedSync()
        self._made: set[Path] = {root}

    async def take(self, storage: Storage, ref: str) -> str:
        """Copy a file of storage to the same ref; return its SHA-256. Raises ObjectMissing, StorageUnavailable."""
        # Closed at once where the disk is full: a file that is left to the collector stays open for a while.
        async with aclosing(cast("AsyncGenerator[bytes, None]", storage.read(ref))) as pieces:
            piece = await anext(pieces, b"")  # a file that is not there leaves no folder behind
            file: _NewFile = await asyncio.to_thread(self._begin, ref)
            try:
                while piece:
                    await asyncio.to_thread(file.add, piece)
                    piece = await anext(pieces, b"")
                return await asyncio.to_thread(self._end, file)
            finally:
                file.close()

    def write(self, ref: str, pieces: Iterable[bytes]) -> str:
        """Write a file and return its SHA-256; it blocks."""
        file = self._begin(ref)
        try:
            for piece in pieces:
                file.add(piece)
            return self._end(file)
        finally:
            file.close()

    def _begin(self, ref: str) -> _NewFile:
        path = self.root / ref
        self._make(path.parent)
        return _NewFile(path)

    def _end(self, file: _NewFile) -> str:
        file.name()
        self._sync(str(file.path.parent))
        return file.digest.hexdigest()

    def _make(self, folder: Path) -> None:
        """Make a directory and those above it, durably."""
        if folder in self._made:
            return
        self._make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        self._sync(str(folder.parent))
        self._made.add(folder)


class _NewFile:
    """A file that has no name of its own before it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = hashlib.sha256()
        self._part = path.with_name(f"{path.name}{PART}")
        self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def add(self, piece: bytes) -> None:
        self.digest.update(piece)
        write_all(self._descriptor, piece)

    def name(self) -> None:
        fsync(self._descriptor)
        self._part.rename(self.path)

    def close(self) -> None:
        os.close(self._descriptor)


def copy_spool(spool: Path, tree: Tree, run: str, only: str | None = None) -> dict[str, list[Sum]]:
    """Copy every call that lies in the spool, or `only` one; give their files by the calls' ids.

    A call that storage takes over meanwhile is left out.
    """
    found: dict[str, list[Sum]] = {}
    for process in processes_in(spool) if spool.is_dir() else ():
        with suppress(FileNotFoundError):  # the process has ended meanwhile
            for call in calls_in(process):
                if only not in {None, call.name}:
                    continue
                ref = f"{run}/{SPOOL}/{process.name}/{call.name}"
                try:
                    found[call.name] = list(_copy_call(call, tree, ref))
                except FileNotFoundError:
                    shutil.rmtree(tree.root / ref, ignore_errors=True)
    return found


def _copy_call(call: Path, tree: Tree, ref: str) -> Iterator[Sum]:
    """Copy a call's files, the manifest before the others are listed: all that it names are there by then.

    Raises FileNotFoundError when the call goes.
    """
    with suppress(FileNotFoundError):
        yield _copy(call / MANIFEST, tree, f"{ref}/{MANIFEST}")
    for path in sorted(call.iterdir()):
        if path.name != MANIFEST and path.suffix != PART:
            yield _copy(path, tree, f"{ref}/{path.name}")


def _copy(source: Path, tree: Tree, ref: str) -> Sum:
    with source.open("rb") as file:
        return Sum(ref, tree.write(ref, iter(lambda: file.read(PIECE_BYTES), b"")))


def file_sha256(path: Path) -> str:
    """Read a file and give its SHA-256 in hex; it blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> int | None:
    """Give a file's size in bytes; None if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


async def side_by_side(
    *streams: AsyncIterator[tuple[str, Any]],
) -> AsyncIterator[tuple[str, list[Any]]]:
    """Walk streams that are ordered by a name as one: give each name with what each stream has under it, or None."""
    heads = [await anext(stream, None) for stream in streams]
    while names := [head[0] for head in heads if head is not None]:
        name = min(names)
        yield name, [head[1] if head is not None and head[0] == name else None for head in heads]
        for at, head in enumerate(heads):
            if head is not None and head[0] == name:
                heads[at] = await anext(streams[at], None)
