"""One request's folder in storage, as it is: its files by name, its manifest and state, or why they can't be read."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field

from pixie_proxy.gallery.state import FolderState
from pixie_proxy.media import EXTENSIONS
from pixie_proxy.records import KINDS, VISIBILITIES, StoredImage, is_id
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import IMAGES, MANIFEST, STATE, ObjectMissing, Storage, StoredFile, folder_ref

_DEPTH = 5
"""Parts of a request folder's ref: images/2026/11/21/req_…"""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder as storage lists it: its files by their names in it."""

    ref: str
    files: Mapping[str, StoredFile]

    @property
    def request_id(self) -> str | None:
        """Whose folder it is; None if it is no request's."""
        name = self.ref.rpartition("/")[2]
        try:
            return name if is_id(name, "req") and folder_ref(name) == self.ref else None
        except (ValueError, OverflowError):  # an id of no day
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a folder says of itself. A manifest or state that can't be read has its reason instead."""

    folder: Folder
    manifest: Manifest | None = None
    manifest_fault: str | None = None
    state: FolderState | None = None
    state_fault: str | None = None
    purged: frozenset[str] = field(default_factory=frozenset)
    """Images that are gone for good, and on purpose."""


async def folders(storage: Storage) -> AsyncIterator[Folder]:
    """Walk all of storage, folder by folder, in the order of their requests' ids."""
    ref, files = "", dict[str, StoredFile]()
    async for page in storage.walk(IMAGES):
        for file in page:
            folder, name = _split(file.ref)
            if folder != ref:
                if files:
                    yield Folder(ref=ref, files=files)
                ref, files = folder, {}
            files[name] = file
    if files:
        yield Folder(ref=ref, files=files)


async def folder_of(storage: Storage, request_id: str) -> Folder:
    """List one request's folder, which may be empty."""
    ref = folder_ref(request_id)
    files = {_split(file.ref)[1]: file async for page in storage.walk(ref) for file in page}
    return Folder(ref=ref, files=files)


async def read_contents(storage: Storage, folder: Folder) -> Contents:
    """Read what a request's folder says of itself. Raises StorageUnavailable."""
    manifest, manifest_fault = None, None
    try:
        manifest = read_manifest(await read_whole(storage, f"{folder.ref}/{MANIFEST}"), folder)
    except ObjectMissing:
        manifest_fault = f"there is no {MANIFEST}"
    except ValueError as exc:
        manifest_fault = str(exc)
    state, state_fault = None, None
    if STATE in folder.files:
        try:
            state = FolderState.from_json(await read_whole(storage, f"{folder.ref}/{STATE}"))
        except ObjectMissing:  # removed since it was listed
            pass
        except ValueError as exc:
            state_fault = f"{STATE} can't be read: {exc}"
    return Contents(
        folder=folder,
        manifest=manifest,
        manifest_fault=manifest_fault,
        state=state,
        state_fault=state_fault,
        purged=frozenset(state.purged if state else ()),
    )


def read_manifest(text: bytes, folder: Folder) -> Manifest:
    """Read what a folder's request.json says. Raises ValueError where that can't be what we wrote."""
    try:
        manifest = Manifest.from_json(text)
        _check(manifest, folder)
    except (ValueError, TypeError) as exc:
        message = f"{MANIFEST} can't be read: {exc}"
        raise ValueError(message) from exc
    return manifest


async def digest(storage: Storage, ref: str) -> str:
    """Read a file and give its SHA-256 in hex. Raises ObjectMissing, StorageUnavailable."""
    found = hashlib.sha256()
    async for piece in storage.read(ref):
        await asyncio.to_thread(found.update, piece)
    return found.hexdigest()


async def read_whole(storage: Storage, ref: str) -> bytes:
    """Read a small file. Raises ObjectMissing, StorageUnavailable."""
    return b"".join([piece async for piece in storage.read(ref)])


def _split(ref: str) -> tuple[str, str]:
    """Tell a request's folder from the name in it; what lies higher up has its own folder."""
    parts = ref.split("/")
    depth = min(_DEPTH, len(parts) - 1)
    return "/".join(parts[:depth]), "/".join(parts[depth:])


def _check(manifest: Manifest, folder: Folder) -> None:
    """See that what a manifest says can be what we wrote. Raises ValueError: one flipped bit makes other words."""
    call, end = manifest.call, manifest.settlement
    claims: dict[str, bool] = {
        "id": call.id == folder.request_id,
        "owner": is_id(call.user_id, "usr") and _is_text(manifest.owner_name),
        "kind": call.kind in KINDS,
        "model": _is_text(call.model),
        "params": isinstance(call.params, dict),
        "state": end.state in {"done", "unknown"},
        "visibility": manifest.visibility in VISIBILITIES,
        "parents": _are_images(call.parents),
        "numbers": _are_counts(
            call.images_asked, call.hold_micros, call.created_us, end.cost_micros, end.settled_us
        ),
        "images": all(map(_is_image, manifest.images))
        and len({image.position for image in manifest.images}) == len(manifest.images),
    }
    if wrong := [name for name, holds in claims.items() if not holds]:
        message = f"what it says can't be ({', '.join(wrong)})"
        raise ValueError(message)


def _is_image(image: StoredImage) -> bool:
    return (
        is_id(image.id, "img")
        and _are_counts(image.position, image.size_bytes)
        and image.mime in EXTENSIONS
        and image.file == f"{image.position}.{EXTENSIONS[image.mime]}"
        and _SHA256.fullmatch(image.sha256) is not None
    )


def _are_images(parents: Collection[object]) -> bool:
    return len({*parents}) == len(parents) and all(
        isinstance(each, str) and is_id(each, "img") for each in parents
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _are_counts(*values: object) -> bool:
    return all(isinstance(value, int) and value >= 0 for value in values)
