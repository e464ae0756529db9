"""The folder that a backup is made in: whose it is, whether it has room, and what must go from it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixie_proxy.audit.contents import Folder, folders
from pixie_proxy.backup.files import side_by_side, size_of
from pixie_proxy.backup.record import MARK, RUN_NAME, Record, folder_sums
from pixie_proxy.disk import fsync_directory, write_all
from pixie_proxy.disk.watch import room
from pixie_proxy.errors import ConfigError
from pixie_proxy.index import Tx, audit
from pixie_proxy.index.places import Place
from pixie_proxy.storage import IMAGES, Storage
from pixie_proxy.storage.local import LocalStorage
from pixie_proxy.threads import WorkerThreads

_SPARE_BYTES = 64 * 1024 * 1024
_FOREIGN = {"lost+found", MARK}
"""What an empty folder may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is backed up: an index, the files of a spool, and a storage. Nothing of it is changed."""

    index: Place
    spool: Path
    storage: Storage
    has_images: bool
    """Whether images are copied, or stay in their bucket."""


def check_place(target: Path, places: Iterable[Path]) -> None:
    """See that a backup is not made within what it is of, nor around it. Raises ConfigError."""
    for place in places:
        ours, theirs = target.resolve(), place.resolve()
        if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
            raise ConfigError(f"{target}: a backup must lie outside of {place}, best on another disk")


@contextmanager
def claimed(target: Path, storage_id: str) -> Iterator[None]:
    """Make the folder ours, for this run alone. Raises ConfigError where it is somebody else's."""
    if target.exists():
        names = {path.name for path in target.iterdir()} - _FOREIGN
        if names and not (target / MARK).exists():
            raise ConfigError(f"{target}: it is not empty, and not a backup: name another folder")
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    target.chmod(0o700)
    descriptor = os.open(target / MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{target}: another pixie backup writes to it now") from None
        if not (whose := os.read(descriptor, 100).decode(errors="replace").strip()):
            write_all(descriptor, f"{storage_id}\n".encode())
            fsync_directory(target)
        elif whose != storage_id:
            raise ConfigError(f"{target}: it holds the backup of another installation: name another folder")
        yield
    finally:
        os.close(descriptor)


def check_earlier(target: Path, earlier: Record | None, source: Source) -> None:
    """Clear up after runs that were broken off. Raises ConfigError where this run would take images away."""
    if earlier is not None and earlier.has_images and not source.has_images:
        raise ConfigError(f"{target}: it holds images, too: add --images, or name another folder")
    _remove_runs(target, earlier)


def check_room(source: Source, target: Path, live: Tx, earlier: Record | None) -> None:
    """See that what comes new has room. Raises ConfigError."""
    needed_bytes = _SPARE_BYTES + source.index.size_bytes() + _bytes_below(source.spool)
    if source.has_images:
        _, image_bytes = audit.totals(live)
        there_bytes = earlier.image_bytes if earlier else _bytes_below(target / IMAGES)
        needed_bytes += max(0, image_bytes - there_bytes)
    free_bytes = room(target).free_bytes
    if free_bytes < needed_bytes:
        raise ConfigError(
            f"{target}: no room for the backup: it takes about {needed_bytes / 1e9:,.2f} GB more, "
            f"and {free_bytes / 1e9:,.2f} GB are free. Nothing was copied"
        )


def _bytes_below(path: Path) -> int:
    """Add up the files of a folder; what goes meanwhile counts nothing."""
    return sum(size_of(Path(folder, name)) or 0 for folder, _, names in os.walk(path) for name in names)


def _remove_runs(target: Path, kept: Record | None) -> None:
    for path in target.iterdir():
        if RUN_NAME.fullmatch(path.name) and (kept is None or path.name != kept.run):
            shutil.rmtree(path)


async def sweep(target: Path, record: Record, writers: WorkerThreads) -> None:
    """Remove what the backup does not have any more: images that were deleted for good, and earlier runs."""
    await asyncio.to_thread(_remove_runs, target, record)
    there = requests(LocalStorage(target, writers))
    async for ref, (found, kept) in side_by_side(there, folder_sums(target, record)):
        if found is not None and kept is None:
            await asyncio.to_thread(shutil.rmtree, target / ref)
        elif found is not None:
            for name in found.files.keys() - kept.keys():
                (target / ref / name).unlink()


async def requests(storage: Storage) -> AsyncIterator[tuple[str, Folder]]:
    """Give the folder of each request, by its ref and in their order."""
    async for folder in folders(storage):
        if folder.request_id is not None:
            yield folder.ref, folder
