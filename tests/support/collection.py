"""A collection of images without a server: folders as calls leave them in a storage, and what a storage holds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

from pixie_proxy.records import new_id
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import IMAGES, MANIFEST, SENTINEL, Storage, folder_ref
from tests.support.calls import a_call, a_manifest, a_picture
from tests.support.pictures import png

STORAGE_ID = "the storage"


def write_collection(root: Path, sizes_bytes: Sequence[Sequence[int]], seed: int = 0) -> list[Manifest]:
    """Make a storage in the folder `root`, with a call for each list of its images' sizes."""
    root.mkdir(parents=True, exist_ok=True)
    (root / SENTINEL).write_text(f"{STORAGE_ID}\n")
    return [write_call(root, sizes, seed=seed * 1_000_003 + at) for at, sizes in enumerate(sizes_bytes)]


def write_call(root: Path, sizes_bytes: Sequence[int], seed: int) -> Manifest:
    """Add one call."""
    request_id = new_id("req")
    folder = root / folder_ref(request_id)
    folder.mkdir(parents=True)
    images = []
    for position, size_bytes in enumerate(sizes_bytes):
        data = png(size_bytes=size_bytes, seed=seed * 101 + position)
        (folder / f"{position}.png").write_bytes(data)
        images.append(a_picture(data, position))
    manifest = a_manifest(a_call(id=request_id), tuple(images))
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return manifest


def some_sizes(calls: int, seed: int, largest_bytes: int = 60_000) -> list[list[int]]:
    """Draw calls of one to four images."""
    random = Random(seed)
    return [[random.randint(1_000, largest_bytes) for _ in range(random.randint(1, 4))] for _ in range(calls)]


async def everything(storage: Storage) -> dict[str, str]:
    """Give the SHA-256 of every file below `images`, by its ref."""
    return {
        file.ref: await _sha256(storage, file.ref) async for page in storage.walk(IMAGES) for file in page
    }


async def _sha256(storage: Storage, ref: str) -> str:
    digest = hashlib.sha256()
    async for piece in storage.read(ref):
        digest.update(piece)
    return digest.hexdigest()
