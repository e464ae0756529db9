"""Check a backup, file by file, and bring a house back from it. The index comes last: without it no server starts.

What a storage with the backup's own id has already is left alone. So a restore that was broken off goes on where it
ended, and one for a lost index does not copy the images again.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from pixie_proxy.backup.files import file_sha256, size_of
from pixie_proxy.backup.record import (
    INDEX,
    MARK,
    RECORD,
    SPOOL,
    STATE_PREFIX,
    SUMS,
    Record,
    Sum,
    folder_sums,
    read_sums,
)
from pixie_proxy.disk import copy_checked, fsync_directory
from pixie_proxy.disk.watch import room
from pixie_proxy.errors import ConfigError
from pixie_proxy.index import copying
from pixie_proxy.index.migrate import check_schema
from pixie_proxy.spool.area import is_alive, processes_in
from pixie_proxy.storage import IMAGES, MANIFEST, SENTINEL, STATE, ObjectMissing, Storage, sentinel

_AT_ONCE = 8
STAGE = ".restoring"
_SPARE_BYTES = 64 * 1024 * 1024

Progress = Callable[[int, int], None]
"""Is told of files that are done, and of their bytes."""


@dataclass(slots=True, kw_only=True)
class Restored:
    """What a restore has brought back."""

    images: int = 0
    folders: int = 0
    left_alone: int = 0
    """Folders that storage had already."""
    left_out: list[str] = field(default_factory=list)
    """Files that are damaged in the backup."""


def read_record(target: Path) -> Record:
    """Read what a folder holds. Raises ConfigError where that is no whole backup."""
    record = Record.read(target) if target.is_dir() else None
    if record is None:
        what = "a backup that was broken off" if (target / MARK).exists() else "no backup"
        raise ConfigError(f"{target}: it holds {what}: there is no {RECORD}")
    return record


async def damage(target: Path, record: Record, progress: Progress) -> list[str]:
    """Read every file of a backup, and give the paths of those that are not as they were written.

    Raises ConfigError where the list of the files itself is not.
    """
    sums = target / record.run / SUMS
    if size_of(sums) is None or await asyncio.to_thread(file_sha256, sums) != record.sums_sha256:
        raise ConfigError(f"{sums}: it is not as it was written: the backup is damaged")
    files = read_sums(target, record)
    damaged: list[str] = []

    async def worker() -> None:
        for each in files:
            if not await asyncio.to_thread(_is_sound, target, each):
                damaged.append(each.path)
            progress(1, size_of(target / each.path) or 0)

    await asyncio.gather(*[worker() for _ in range(_AT_ONCE)])
    return sorted(damaged)


async def check_place(
    target: Path, record: Record, data_dir: Path, storage: Storage, *, images_only: bool = False
) -> None:
    """See that a house can be restored here. Raises ConfigError, which says what is in the way."""
    if not images_only:
        _check_index_place(target, record, data_dir)
    found = await sentinel(storage)
    if found is None and [page async for page in storage.walk(IMAGES)]:
        raise ConfigError(
            f"storage: it holds images, and has no {SENTINEL} file: restore into an empty one. Nothing was changed"
        )
    if found not in {None, record.storage_id}:
        raise ConfigError("storage: it is another one than that of the backup. Nothing was changed")
    if not record.has_images and (images_only or found is None):
        raise ConfigError(
            "storage: the backup is without images, and this is not the storage that it was made of. "
            "Nothing was changed"
        )


def _check_index_place(target: Path, record: Record, data_dir: Path) -> None:
    with copying.open_beside(target / record.run / INDEX) as tx:
        check_schema(copying.schema(tx))
    for name in (INDEX, f"{INDEX}-wal"):
        if (data_dir / name).exists():
            raise ConfigError(
                f"server.data_dir: {data_dir} holds an index: stop the server and move pixie.db* aside, "
                "or name an empty folder with --data. Nothing was changed"
            )
    spool = data_dir / SPOOL
    if spool.is_dir() and any(is_alive(spool, folder.name) for folder in processes_in(spool)):
        raise ConfigError(
            f"server.data_dir: a server works in {data_dir}: stop it first. Nothing was changed"
        )


def check_room(record: Record, data_dir: Path, images_dir: Path | None) -> None:
    """See that there is room, on the disk of the data directory and on that of the images. Raises ConfigError."""
    needed = {data_dir: record.size_bytes - record.image_bytes}
    if images_dir is not None:
        beside = data_dir if images_dir.stat().st_dev == data_dir.stat().st_dev else images_dir
        needed[beside] = needed.get(beside, 0) + record.image_bytes
    for path, size_bytes in needed.items():
        if (free_bytes := room(path).free_bytes) < size_bytes + _SPARE_BYTES:
            raise ConfigError(
                f"{path}: no room for what is restored: it takes {size_bytes / 1e9:,.2f} GB, "
                f"and {free_bytes / 1e9:,.2f} GB are free. Nothing was changed"
            )


async def restore(
    target: Path,
    record: Record,
    data_dir: Path,
    storage: Storage,
    *,
    damaged: Collection[str],
    progress: Progress,
    images_only: bool = False,
) -> Restored:
    """Bring images, spool and index back; `damaged` files are left out. Raises ProxyError, OSError, ConfigError."""
    result = Restored(left_out=sorted(damaged))
    if await sentinel(storage) is None:  # first: without it half a storage would look like none
        await storage.put(SENTINEL, f"{record.storage_id}\n".encode())
    stage = data_dir / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700)
    folders = folder_sums(target, record)
    turn = asyncio.Lock()

    async def worker() -> None:
        while True:
            async with turn:
                found = await anext(folders, None)
            if found is None:
                return
            ref, sums = found
            good = {name: sha256 for name, sha256 in sums.items() if f"{ref}/{name}" not in damaged}
            if await _restore_folder(target, ref, good, stage, storage):
                result.folders += 1
            else:
                result.left_alone += 1
            images = [name for name in good if name != MANIFEST and not name.startswith(STATE_PREFIX)]
            result.images += len(images)
            progress(len(images), sum(size_of(target / ref / name) or 0 for name in images))

    await asyncio.gather(*[worker() for _ in range(_AT_ONCE)])
    if not images_only:
        await asyncio.to_thread(_restore_spool, target, record, data_dir, damaged)
        await asyncio.to_thread(_restore_index, target, record, data_dir)
    stage.rmdir()
    return result


async def _restore_folder(
    target: Path, ref: str, sums: Mapping[str, str], stage: Path, storage: Storage
) -> bool:
    """Bring a request's folder back; False if storage has it: then only files come that it lacks."""
    files = {STATE if name.startswith(STATE_PREFIX) else name: name for name in sums}
    if MANIFEST not in files or await _has(storage, f"{ref}/{MANIFEST}"):
        for name, ours in files.items():
            if not await _has(storage, f"{ref}/{name}"):
                await storage.put(f"{ref}/{name}", await asyncio.to_thread((target / ref / ours).read_bytes))
        return MANIFEST not in files
    made = stage / ref.rpartition("/")[2]
    await asyncio.to_thread(
        _copy_all, made, [(target / ref / ours, name, sums[ours]) for name, ours in files.items()]
    )
    await storage.adopt(str(made), ref)
    return True


def _restore_spool(target: Path, record: Record, data_dir: Path, damaged: Collection[str]) -> None:
    """Bring the calls back that lay in the spool: the next recovery takes them home."""
    prefix = f"{record.run}/{SPOOL}/"
    spooled = (each for each in read_sums(target, record) if each.path.startswith(prefix))
    for ref, sums in groupby(spooled, key=lambda each: each.path.rpartition("/")[0]):
        process, call = ref.removeprefix(prefix).split("/")
        files = [
            (target / each.path, each.path.rpartition("/")[2], each.sha256)
            for each in sums
            if each.path not in damaged
        ]
        home = data_dir / SPOOL / process
        if not (home / call).exists():
            made = data_dir / STAGE / call
            _copy_all(made, files)
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            made.rename(home / call)
            for folder in (home, home.parent, data_dir):
                fsync_directory(folder)


def _restore_index(target: Path, record: Record, data_dir: Path) -> None:
    path = f"{record.run}/{INDEX}"
    (found,) = [each for each in read_sums(target, record) if each.path == path]
    made = data_dir / STAGE / "index"
    _copy_all(made, [(target / path, INDEX, found.sha256)])
    (made / INDEX).rename(data_dir / INDEX)
    made.rmdir()
    fsync_directory(data_dir)


def _copy_all(made: Path, files: Sequence[tuple[Path, str, str]]) -> None:
    """Make a folder of copies, each compared with its digest, all of it durable."""
    made.mkdir(mode=0o700)
    for source, name, sha256 in files:
        os.close(copy_checked(str(source), str(made / name), source.stat().st_size, sha256))
    fsync_directory(made)


async def _has(storage: Storage, ref: str) -> bool:
    try:
        await storage.size(ref)
    except ObjectMissing:
        return False
    return True


def _is_sound(target: Path, each: Sum) -> bool:
    try:
        return file_sha256(target / each.path) == each.sha256
    except OSError:  # gone, or a bad sector
        return False
