"""A call's files on their way: read from the source into a folder of ours, and each held against its manifest.

What the destination takes over from there is right, whatever network or disk it came from; memory holds a piece.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pixie_proxy.audit.contents import Folder, read_manifest
from pixie_proxy.audit.judging import PART
from pixie_proxy.disk import fsync, fsync_directory
from pixie_proxy.errors import ConfigError, StorageUnavailable
from pixie_proxy.gallery.state import FolderState
from pixie_proxy.moving.report import Fault
from pixie_proxy.moving.walking import patiently
from pixie_proxy.storage import MANIFEST, STATE, ObjectMissing, Storage, sentinel

_LOCK = "lock"


@dataclass(slots=True, kw_only=True)
class Staged:
    """A call's good files in a folder of ours, with their sizes by name, and what was wrong with the others.

    Without a `manifest` there is nothing to take over.
    """

    path: Path
    manifest: bytes | None = None
    images: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    purged: frozenset[str] = frozenset()
    """Names of files that are gone for good, and on purpose."""
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Read:
    size_bytes: int
    sha256: str


class Staging:
    """Where calls are gathered. `is_durable`: the destination takes folders over by renaming them."""

    def __init__(self, root: Path, source: Storage, *, is_durable: bool) -> None:
        """Gather below `root`, which `opened` has made."""
        self._root = root
        self._source = source
        self._is_durable = is_durable

    async def take(self, folder: Folder) -> Staged:
        """Read a folder. Raises StorageUnavailable where all of the source is away, OSError."""
        staged = Staged(path=self._root / (folder.request_id or ""))
        await self.drop(staged)
        await asyncio.to_thread(staged.path.mkdir, 0o700)
        found: dict[str, _Read] = {}
        for name in folder.files:
            if is_leftover(name):
                continue
            read = await self._read(f"{folder.ref}/{name}", staged.path / name)
            if isinstance(read, str):
                staged.faults.append(Fault(ref=f"{folder.ref}/{name}", reason=read))
            else:
                found[name] = read
        await asyncio.to_thread(_judge, staged, folder, found)
        if self._is_durable and staged.manifest is not None:
            await asyncio.to_thread(fsync_directory, staged.path)
        return staged

    async def drop(self, staged: Staged) -> None:
        """Throw away what was not taken over."""
        await asyncio.to_thread(shutil.rmtree, staged.path, ignore_errors=True)

    async def _read(self, ref: str, path: Path) -> _Read | str:
        """Read a file; say why where it can't be read, twice, although the source is there."""
        reason = ""
        for _ in range(2):
            try:
                return await self._fetch(ref, path)
            except ObjectMissing:
                return "it went while it was read"
            except StorageUnavailable as exc:
                reason = exc.message
            if await patiently(partial(sentinel, self._source)) is None:
                raise StorageUnavailable("The storage at --from is gone: is it still mounted?")
        return reason

    async def _fetch(self, ref: str, path: Path) -> _Read:
        digest, size_bytes = hashlib.sha256(), 0
        with await asyncio.to_thread(path.open, "wb") as file:
            async for piece in self._source.read(ref):
                await asyncio.to_thread(_add, file, digest, piece)
                size_bytes += len(piece)
            if self._is_durable:
                await asyncio.to_thread(_flush, file)
        return _Read(size_bytes, digest.hexdigest())


@contextmanager
def opened(root: Path) -> Iterator[None]:
    """Make the folder, sweep what a killed copy left in it, and remove it at the end. Raises ConfigError."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (root / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"storage copy: another one is at work in {root}. Nothing was changed"
            ) from None
        for path in root.iterdir():
            if path.name != _LOCK:
                shutil.rmtree(path, ignore_errors=True)
        yield
    shutil.rmtree(root, ignore_errors=True)


def is_leftover(name: str) -> bool:
    """Tell whether a file is what a write left that never ended."""
    return name.endswith(PART)


def state_fault(text: bytes) -> str | None:
    """Say what is wrong with a state.json."""
    try:
        FolderState.from_json(text)
    except ValueError as exc:
        return f"{STATE} can't be read: {exc}"
    return None


def _judge(staged: Staged, folder: Folder, found: dict[str, _Read]) -> None:
    """Keep what is as the manifest says, and as it is what the manifest does not name; half a file is none."""
    for path in staged.path.iterdir():
        if path.name not in found:
            path.unlink()
    if MANIFEST not in found:
        if not staged.faults:
            staged.faults.append(Fault(ref=folder.ref, reason=f"there is no {MANIFEST}"))
        return
    text = (staged.path / MANIFEST).read_bytes()
    try:
        images = read_manifest(text, folder).images
    except ValueError as exc:
        staged.faults.append(Fault(ref=f"{folder.ref}/{MANIFEST}", reason=str(exc)))
        return
    purged = _purged_images(staged, folder) if STATE in found else frozenset()
    staged.purged = frozenset(image.file for image in images if image.id in purged)
    told = {fault.ref for fault in staged.faults}
    for image in images:
        ref = f"{folder.ref}/{image.file}"
        read = found.get(image.file)
        if read == _Read(image.size_bytes, image.sha256):
            staged.images += 1
        elif read is not None:
            staged.faults.append(Fault(ref=ref, reason=f"sha256 {read.sha256} instead of {image.sha256}"))
            (staged.path / image.file).unlink()
            del found[image.file]
        elif image.file not in staged.purged and ref not in told:
            staged.faults.append(Fault(ref=ref, reason="there is no file"))
    staged.manifest = text
    staged.sizes = {name: read.size_bytes for name, read in found.items()}


def _purged_images(staged: Staged, folder: Folder) -> frozenset[str]:
    """Read in state.json which images are gone on purpose; one that can't be read is told of, and goes along."""
    text = (staged.path / STATE).read_bytes()
    if (fault := state_fault(text)) is not None:
        staged.faults.append(Fault(ref=f"{folder.ref}/{STATE}", reason=fault))
        return frozenset()
    return frozenset(FolderState.from_json(text).purged)


def _add(file: BinaryIO, digest: hashlib._Hash, piece: bytes) -> None:
    digest.update(piece)
    file.write(piece)


def _flush(file: BinaryIO) -> None:
    file.flush()
    fsync(file.fileno())
