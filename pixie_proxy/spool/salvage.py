"""What is whole in the folder that a dead process or a power cut left: judged by the bytes, never by names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from pixie_proxy.disk import fsync_directory, write_durably
from pixie_proxy.media import HEAD_BYTES, MIMES, dimensions, sniff
from pixie_proxy.records import StoredImage, new_id
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import MANIFEST

_DAMAGED = ".damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What lies in a call's folder. `manifest` is None where none was written whole.

    `images` came whole: those that the manifest names and that are as it says, and those that got their name later
    (a stream is sealed after each image). `damaged` are files that the manifest names and that are not as it says.
    """

    manifest: Manifest | None
    images: tuple[StoredImage, ...]
    damaged: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether the manifest is there and right."""
        return self.manifest is not None and self.images == self.manifest.images


def inspect(folder: Path) -> Remains:
    """Look at a folder and change nothing. Raises ValueError for a manifest that we can't read, OSError."""
    manifest = _read_manifest(folder)
    named = {} if manifest is None else {image.file: image for image in manifest.images}
    images = [image for image in named.values() if _is_as_told(folder / image.file, image)]
    damaged = named.keys() - {image.file for image in images}
    images += [image for path in folder.iterdir() if path.name not in named for image in _describe(path)]
    return Remains(
        manifest=manifest,
        images=tuple(sorted(images, key=lambda image: image.position)),
        damaged=tuple(sorted(damaged)),
    )


def seal(folder: Path, manifest: Manifest) -> None:
    """Make a folder, durably, what `manifest` says; what it does not name goes, but for what was set aside.

    The manifest is written anew even where it stays the same: nobody knows whether its fsync had come. Raises OSError.
    """
    part = folder / f"{MANIFEST}.part"
    write_durably(part, manifest.to_json())
    part.rename(folder / MANIFEST)
    named = {MANIFEST, *[image.file for image in manifest.images]}
    for path in folder.iterdir():
        if path.name not in named and path.suffix != _DAMAGED:
            path.unlink()
    fsync_directory(folder)
    fsync_directory(folder.parent)


def set_aside(folder: Path, files: Iterable[str]) -> None:
    """Rename damaged images, unless they are empty: a picture with a broken line may be better than none."""
    for file in files:
        path = folder / file
        if path.exists() and path.stat().st_size:
            path.rename(f"{path}{_DAMAGED}")


def _read_manifest(folder: Path) -> Manifest | None:
    """Read a manifest; None if there is none, or one that was still being written when all ended."""
    with suppress(FileNotFoundError, orjson.JSONDecodeError):
        return Manifest.from_json((folder / MANIFEST).read_bytes())
    return None


def _is_as_told(path: Path, image: StoredImage) -> bool:
    """Compare a file with what its manifest says of it."""
    try:
        with path.open("rb") as file:
            return (
                path.stat().st_size == image.size_bytes
                and hashlib.file_digest(file, "sha256").hexdigest() == image.sha256
            )
    except FileNotFoundError:
        return False


def _describe(path: Path) -> Iterator[StoredImage]:
    """Describe an image that no manifest names. It got its name after its fsync; what has no image's bytes is none."""
    mime = MIMES.get(path.suffix.removeprefix("."))
    if mime is None or not path.stem.isdigit():
        return
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if not head or sniff(head) != mime:
            return
        width, height = dimensions(head) or (None, None)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = file.tell()
    yield StoredImage(
        id=new_id("img"),
        position=int(path.stem),
        file=path.name,
        mime=mime,
        size_bytes=size_bytes,
        sha256=digest,
        width=width,
        height=height,
    )
