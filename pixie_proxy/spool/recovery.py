"""Recover the calls of processes that died: whole images are kept, ledger rows settled, slots and holds freed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import time
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson

from pixie_proxy.disk import fsync_directory, write_durably
from pixie_proxy.index import Index, accounts, deliveries, ledger
from pixie_proxy.media import MIMES, dimensions
from pixie_proxy.records import CallRecord, Settlement, StoredImage, new_id
from pixie_proxy.spool.area import Spool, calls_in
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import MANIFEST, ObjectMissing, Storage, folder_ref

log = logging.getLogger(__name__)

_REASON = "the proxy stopped before the call had ended"
_HEAD_BYTES = 1024 * 1024


async def recover(spool: Spool, index: Index, storage: Storage, finisher: Finisher) -> int:
    """Bring home what dead processes left; return how many calls that were. Serving goes on meanwhile."""
    recovered = 0
    with spool.dead_processes() as folders:
        for folder in folders:
            await index.write(
                partial(deliveries.leave_all, process=folder.name, at_us=time.time_ns() // 1000)
            )
            for call_folder in calls_in(folder):
                recovered += await _recover_folder(call_folder, index, finisher)
            recovered += await _settle_rows(folder.name, index, storage, finisher)
            await asyncio.to_thread(spool.forget, folder)
    if recovered:
        log.warning("recovered the calls of an earlier process", extra={"calls": recovered})
    return recovered


async def _recover_folder(folder: Path, index: Index, finisher: Finisher) -> int:
    """Bring one call's folder home. What can't be understood stays where it is: it may be somebody's paid image."""
    try:
        manifest = await asyncio.to_thread(_sealed, folder) or await _salvaged(folder, index)
    except (ValueError, OSError) as exc:
        log.error("a call in the spool can't be recovered", extra={"folder": str(folder), "reason": str(exc)})  # noqa: TRY400
        return 0
    if manifest is None:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return 0
    await finisher.keep(manifest, str(folder))
    return 1


def _sealed(folder: Path) -> Manifest | None:
    """Read the manifest of a call that was durable; None if it was not. Raises ValueError when we can't read it.

    A stream is sealed after each of its images, so one more of them may have come whole.
    """
    try:
        manifest = Manifest.from_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):  # none yet, or one that was still being written
        return None
    if more := _whole_images(folder, {image.file for image in manifest.images}):
        manifest = replace(manifest, images=(*manifest.images, *more))
        _write_manifest(folder, manifest)
    return manifest


async def _salvaged(folder: Path, index: Index) -> Manifest | None:
    """Seal what came whole of a call that was not durable yet; None if nothing did. Raises ValueError."""
    row = await index.read(lambda tx: ledger.get(tx, folder.name))
    owner = None if row is None else await index.read(lambda tx: accounts.get_user(tx, row.call.user_id))
    if row is None or owner is None:
        message = "the ledger does not know the call"
        raise ValueError(message)
    return await asyncio.to_thread(_salvage, folder, row.call, owner.name)


def _salvage(folder: Path, call: CallRecord, owner: str) -> Manifest | None:
    """Seal the whole images of a call that had no manifest yet."""
    images = _whole_images(folder, ())
    if not images:
        return None
    manifest = Manifest(
        call=call, owner_name=owner, visibility="private", settlement=unknown(call), images=tuple(images)
    )
    _write_manifest(folder, manifest)
    return manifest


def _whole_images(folder: Path, known: Collection[str]) -> list[StoredImage]:
    """Describe the whole images that no manifest knows, and drop what was still being written."""
    images = []
    for path in folder.iterdir():
        if path.name == MANIFEST or path.name in known:
            continue
        extension = path.suffix.removeprefix(".")
        if path.stem.isdigit() and extension in MIMES:
            images.append(_describe(path, int(path.stem), MIMES[extension]))
        else:
            path.unlink()
    return sorted(images, key=lambda image: image.position)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    part = folder / f"{MANIFEST}.part"
    write_durably(part, manifest.to_json())
    part.rename(folder / MANIFEST)
    fsync_directory(folder)


def _describe(path: Path, position: int, mime: str) -> StoredImage:
    with path.open("rb") as file:
        width, height = dimensions(file.read(_HEAD_BYTES)) or (None, None)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = file.tell()
    return StoredImage(
        id=new_id("img"),
        position=position,
        file=path.name,
        mime=mime,
        size_bytes=size_bytes,
        sha256=digest,
        width=width,
        height=height,
    )


async def _settle_rows(process: str, index: Index, storage: Storage, finisher: Finisher) -> int:
    """Settle the rows that a dead process left open: kept if storage has them after all, else of unknown outcome."""
    rows = await index.read(lambda tx: ledger.open_calls(tx, process))
    for row in rows:
        manifest = await _kept_manifest(storage, row.call.id)
        if manifest is not None:
            await finisher.record(manifest)
        else:
            await finisher.settle(row.call, unknown(row.call))
    return len(rows)


async def _kept_manifest(storage: Storage, request_id: str) -> Manifest | None:
    ref = f"{folder_ref(request_id)}/{MANIFEST}"
    try:
        return Manifest.from_json(b"".join([piece async for piece in storage.read(ref)]))
    except (ObjectMissing, ValueError):
        return None


def unknown(call: CallRecord) -> Settlement:
    """End a call whose outcome nobody can know any more: it is charged at its hold."""
    return Settlement(
        request_id=call.id,
        state="unknown",
        settled_us=time.time_ns() // 1000,
        cost_micros=call.hold_micros,
        error=_REASON,
    )
