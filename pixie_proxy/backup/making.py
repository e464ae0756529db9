"""Make a backup while a proxy serves. What the folder holds from an earlier run stays whole until the new one is."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from pixie_proxy import __version__
from pixie_proxy.audit.contents import Folder, folder_of
from pixie_proxy.audit.judging import PART
from pixie_proxy.audit.rebuild import check_ids
from pixie_proxy.backup.files import Tree, copy_spool, file_sha256, side_by_side, size_of
from pixie_proxy.backup.record import (
    INDEX,
    STATE_PREFIX,
    SUMS,
    Record,
    Sum,
    folder_sums,
)
from pixie_proxy.backup.target import Source, check_earlier, check_room, claimed, requests, sweep
from pixie_proxy.disk import fsync_directory
from pixie_proxy.errors import ConfigError, StorageUnavailable
from pixie_proxy.index import Tx, copying, images
from pixie_proxy.index import settings as stored
from pixie_proxy.index.sqlite import integrity_fault
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import MANIFEST, STATE, ObjectMissing, folder_ref, sentinel
from pixie_proxy.threads import WorkerThreads

_FOLDERS_AT_ONCE = 8
_BATCH = 64

Progress = Callable[[int, int], None]
"""Is told of images that are done, and of their bytes."""


async def make_backup(source: Source, target: Path, progress: Progress) -> Record:
    """Bring the backup in `target` up to date, or make its first. Raises ConfigError, ProxyError, OSError."""
    with source.index.live() as live:
        storage_id = await _check_source(source, live)
        with claimed(target, storage_id):
            earlier = Record.read(target)
            check_earlier(target, earlier, source)
            check_room(source, target, live, earlier)
            writers = WorkerThreads(_FOLDERS_AT_ONCE, "backup")
            try:
                record = await _Run(source, target, live, earlier, progress).make(storage_id)
                await asyncio.to_thread(record.write, target)
                await sweep(target, record, writers)
            finally:
                await asyncio.to_thread(writers.close)
    return record


class _Run:
    """One run."""

    def __init__(
        self, source: Source, target: Path, live: Tx, earlier: Record | None, progress: Progress
    ) -> None:
        self._source = source
        self._target = target
        self._live = live
        self._earlier = earlier
        self._progress = progress
        self._tree = Tree(target)
        self._slots = asyncio.Semaphore(_FOLDERS_AT_ONCE)
        self._made_us = time.time_ns() // 1000
        moment = datetime.fromtimestamp(self._made_us // 1_000_000, UTC)
        self._run = f"{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        self._copy: Tx = live  # the index copy, once that is made
        self._spooled: dict[str, list[Sum]] = {}
        self._files = self._size_bytes = self._image_bytes = 0
        self._missing: set[str] = set()
        self._damaged: set[str] = set()

    async def make(self, storage_id: str) -> Record:
        """Copy everything, in the order that `backup` explains."""
        folder = self._target / self._run
        folder.mkdir(mode=0o700)
        index = folder / INDEX
        await asyncio.to_thread(self._source.index.copy_to, index)
        if (fault := await asyncio.to_thread(integrity_fault, index)) is not None:
            raise ConfigError(f"index: {self._source.index.spoken} is damaged ({fault}): it is not backed up")
        descriptor = os.open(folder / SUMS, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as sums:
            with copying.open_copy(index) as self._copy:
                schema = copying.schema(self._copy)
                self._spooled = await asyncio.to_thread(copy_spool, self._source.spool, self._tree, self._run)
                self._leave_newer()
                if self._source.has_images:
                    await self._copy_images(sums)
                copying.forget_sessions(self._copy)
                self._follow()
                count = images.count(self._copy)
            self._note(sums, [each for found in self._spooled.values() for each in found])
            self._note(sums, [Sum(f"{self._run}/{INDEX}", await asyncio.to_thread(file_sha256, index))])
            sums.flush()
            os.fsync(sums.fileno())
        fsync_directory(folder)
        fsync_directory(self._target)
        return Record(
            pixie=__version__,
            made_us=self._made_us,
            run=self._run,
            schema=schema,
            storage_id=storage_id,
            has_images=self._source.has_images,
            images=count,
            files=self._files,
            size_bytes=self._size_bytes,
            image_bytes=self._image_bytes,
            spooled_calls=len(self._spooled),
            missing=len(self._missing),
            damaged=len(self._damaged),
            sums_sha256=await asyncio.to_thread(file_sha256, folder / SUMS),
        )

    def _note(self, sums: TextIO, found: Iterable[Sum]) -> None:
        for each in found:
            self._files += 1
            self._size_bytes += size_of(self._target / each.path) or 0
            sums.write(each.line())

    def _is_newer(self, request_id: str) -> bool:
        """Tell whether a call began after the index copy was made: its row comes before anything else of it."""
        return not copying.has_call(self._copy, request_id) and copying.has_call(self._live, request_id)

    def _leave_newer(self) -> None:
        """Leave calls that the index copy can't know to the next run."""
        for call in [call for call in self._spooled if self._is_newer(call)]:
            shutil.rmtree((self._target / self._spooled.pop(call)[0].path).parent)

    async def _copy_images(self, sums: TextIO) -> None:
        """Go through storage, the earlier backup and the index copy side by side, folder by folder."""
        batch: list[tuple[str, Folder | None, Any, Any]] = []

        async def copy() -> None:
            # All of them to their end, also when one fails: a read that is cancelled leaves its file open.
            folders = [self._folder(*each) for each in batch]
            for ended in await asyncio.gather(*folders, return_exceptions=True):
                if isinstance(ended, BaseException):
                    raise ended
                self._note(sums, ended)
            batch.clear()

        async for ref, (folder, known, rows) in side_by_side(
            requests(self._source.storage), folder_sums(self._target, self._earlier), _rows(self._copy)
        ):
            batch.append((ref, folder, known, rows))
            if len(batch) == _BATCH:
                await copy()
        await copy()

    async def _folder(self, ref: str, stored: Folder | None, known: Any, rows: Any) -> list[Sum]:
        """Copy what a request's folder has and the backup lacks; give all that the backup is to have of it."""
        request_id = ref.rpartition("/")[2]
        wanted: set[str] = rows or set()
        if not wanted and (stored is None or self._is_newer(request_id)):
            return []
        async with self._slots:
            kept = await self._copy_folder(stored, known or {}) if stored else {}
            if not wanted <= kept.keys():
                kept |= self._from_earlier(ref, known or {}, wanted - kept.keys())
            if not wanted <= kept.keys() | self._in_spool(request_id):  # it moves: spool first, then storage
                spool, run = self._source.spool, self._run
                self._spooled |= await asyncio.to_thread(copy_spool, spool, self._tree, run, request_id)
                kept |= await self._copy_folder(await folder_of(self._source.storage, request_id), {})
        for name in wanted - kept.keys() - self._in_spool(request_id):
            self._missing.add(f"{ref}/{name}")
        size_bytes = sum(size_of(self._target / ref / name) or 0 for name in wanted & kept.keys())
        self._image_bytes += size_bytes
        self._progress(len(wanted), size_bytes)
        return [Sum(f"{ref}/{name}", sha256) for name, sha256 in sorted(kept.items())]

    def _in_spool(self, request_id: str) -> set[str]:
        return {found.path.rpartition("/")[2] for found in self._spooled.get(request_id, ())}

    def _from_earlier(self, ref: str, known: Mapping[str, str], names: set[str]) -> dict[str, str]:
        """Keep what storage has lost since, and the manifest with it."""
        return {
            name: known[name]
            for name in {*names, MANIFEST}
            if name in known and size_of(self._target / ref / name) is not None
        }

    async def _copy_folder(self, folder: Folder, known: Mapping[str, str]) -> dict[str, str]:
        """Bring a folder of storage into the backup; give the digests of its files by their names there."""
        kept: dict[str, str] = {}
        expected: Mapping[str, str] | None = None
        for name, file in sorted(folder.files.items(), key=lambda each: each[0] != MANIFEST):
            if "/" in name or name.endswith(PART):
                continue
            try:
                if name == STATE:
                    kept.update(await self._copy_state(file.ref))
                    continue
                path = self._target / file.ref
                there_bytes = await asyncio.to_thread(size_of, path)
                if (
                    name in known and there_bytes == file.size_bytes
                ):  # summed when it came, and never changed since
                    kept[name] = known[name]
                    continue
                if expected is None:
                    expected = await self._expected(folder)
                wanted = known.get(name) or expected.get(name)
                # What a run that was broken off has brought is there already.
                if there_bytes is not None and await asyncio.to_thread(file_sha256, path) == wanted:
                    kept[name] = wanted
                    continue
                kept[name] = await self._tree.take(self._source.storage, file.ref)
                if wanted not in {None, kept[name]}:
                    self._damaged.add(file.ref)
            except ObjectMissing:  # it went meanwhile
                continue
            except StorageUnavailable:
                if await sentinel(self._source.storage) is None:
                    raise
                self._damaged.add(file.ref)  # a bad sector: the others can be saved
        return kept

    async def _copy_state(self, ref: str) -> dict[str, str]:
        """Copy state.json, which changes, under a name that does not: what the earlier backup has stays as it is."""
        data = b"".join([piece async for piece in self._source.storage.read(ref)])
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{STATE_PREFIX}{sha256[:16]}.json"
        path = f"{ref.rpartition('/')[0]}/{name}"
        if await asyncio.to_thread(size_of, self._target / path) == len(data):
            return {name: sha256}
        return {name: await asyncio.to_thread(self._tree.write, path, [data])}

    async def _expected(self, folder: Folder) -> Mapping[str, str]:
        """Ask a folder's manifest for the digests of its images."""
        try:
            ref = f"{folder.ref}/{MANIFEST}"
            found = Manifest.from_json(b"".join([piece async for piece in self._source.storage.read(ref)]))
        except (ObjectMissing, ValueError):
            return {}
        return {image.file: image.sha256 for image in found.images}

    def _follow(self) -> None:
        """Note in the index copy what has changed since it was made, and may be in the folders that came after it."""
        copy = self._copy
        current = copying.image_states(self._live)
        now = next(current, None)
        for image_id, then in copying.image_states(copy):
            while now is not None and now[0] < image_id:
                now = next(current, None)
            if now is not None and now[0] == image_id:
                if now[1] != then:
                    copying.rewrite_state(copy, then)
                continue
            copying.forget_image(copy, image_id, then)
            self._missing.discard(then.ref)
            if not (self._target / folder_ref(then.request_id)).exists():
                copying.forget_folder(copy, then.request_id)


async def _check_source(source: Source, live: Tx) -> str:
    """See that this is a whole house, and one that we know; give its storage's id. Raises ConfigError."""
    source.index.check()
    return check_ids(await sentinel(source.storage), stored.get(live, "storage_id"))


async def _rows(copy: Tx) -> AsyncIterator[tuple[str, set[str]]]:
    """Give the images of each request by their names, in the order of the requests."""
    for request_id, rows in groupby(copying.image_refs(copy), key=lambda row: row[0]):
        yield folder_ref(request_id), {ref.rpartition("/")[2] for _, ref in rows}
