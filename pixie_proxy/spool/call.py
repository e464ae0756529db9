"""One call's folder in the spool: images as they decode, written in bounded memory and made durable in one hop.

Every disk step runs in a thread of the durable writers'. A call has one writer (its pump), so nothing here locks.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from pixie_proxy.media import EXTENSIONS, dimensions
from pixie_proxy.records import StoredImage
from pixie_proxy.storage import MANIFEST
from pixie_proxy.storage.local import fsync_directory, write_durably

T = TypeVar("T")

FLUSH_BYTES = 256 * 1024
"""How much of an answer may wait in memory: small images are written once, at the seal."""

HEADER = "call.json"
_HEAD_BYTES = 1024 * 1024
"""How far into a JPEG its size may stand: behind EXIF, colour profile and provenance."""


@dataclass(frozen=True, slots=True)
class StoredName:
    """What an image will be called: its id, and its place among the images of its call."""

    id: str
    position: int


@dataclass(slots=True)
class _Part:
    """An image on its way to disk. `file` is None until something was written."""

    mime: str
    waiting: list[bytes] = field(default_factory=list)
    waiting_bytes: int = 0
    file: BinaryIO | None = None
    size_bytes: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    is_whole: bool = False


class SpooledCall:
    """A call's folder. Images are known by their slot (the number of their base64 in the answer)."""

    def __init__(self, folder: Path, header: bytes, writers: Executor) -> None:
        """Plan the folder; nothing touches the disk before the first flush."""
        self.folder = folder
        self._header = header
        self._writers = writers
        self._parts: dict[int, _Part] = {}
        self._kept: dict[int, StoredImage] = {}
        self._is_made = False
        self._waiting_bytes = 0

    @property
    def wants_flush(self) -> bool:
        """Whether enough waits in memory to be worth a write."""
        return self._waiting_bytes >= FLUSH_BYTES

    def begin(self, slot: int, mime: str) -> None:
        """Expect an image."""
        self._parts[slot] = _Part(mime)

    def add(self, slot: int, data: bytes) -> None:
        """Take the next decoded bytes of an image."""
        part = self._parts[slot]
        part.waiting.append(data)
        part.waiting_bytes += len(data)
        self._waiting_bytes += len(data)

    def end(self, slot: int) -> None:
        """Note that an image is whole."""
        self._parts[slot].is_whole = True

    def mime(self, slot: int) -> str:
        """Give the type of an image, as its bytes told it."""
        return self._parts[slot].mime if slot in self._parts else self._kept[slot].mime

    async def drop(self, slot: int) -> None:
        """Forget an image that turned out to be none (a partial, or broken base64)."""
        part = self._parts.pop(slot)
        self._waiting_bytes -= part.waiting_bytes
        if part.file is not None:
            await self._hop(self._discard, slot, part.file)

    async def flush(self) -> None:
        """Write what waits in memory."""
        await self._hop(self._flush)

    async def keep(self, names: dict[int, StoredName]) -> None:
        """Put whole images under their final names, so that a crash from here on finds them."""
        await self._hop(self._keep, names)

    async def seal(
        self, names: dict[int, StoredName], manifest: Callable[[tuple[StoredImage, ...]], bytes]
    ) -> tuple[StoredImage, ...]:
        """Make the call durable: its whole images, its manifest, its folder. Later seals replace the manifest."""
        return await self._hop(self._seal, names, manifest)

    async def remove(self) -> None:
        """Delete the folder of a call that brought nothing."""
        for part in self._parts.values():
            if part.file is not None:
                part.file.close()
        self._parts.clear()
        if self._is_made:
            await self._hop(shutil.rmtree, self.folder, True)

    def paths(self) -> Iterable[tuple[StoredImage, Path]]:
        """Give every kept image with its place."""
        return [(image, self.folder / image.file) for image in self._kept.values()]

    async def _hop(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writers, work, *args)

    def _make(self, *, with_header: bool) -> None:
        if self._is_made:
            return
        self.folder.mkdir()
        self._is_made = True
        if with_header:
            (self.folder / HEADER).write_bytes(self._header)

    def _flush(self) -> None:
        self._make(with_header=True)
        for slot, part in self._parts.items():
            if part.waiting:
                self._write(slot, part)

    def _write(self, slot: int, part: _Part) -> None:
        if part.file is None:
            part.file = (self.folder / f"{slot}.part").open("w+b", buffering=0)
        data = part.waiting[0] if len(part.waiting) == 1 else b"".join(part.waiting)
        part.waiting.clear()
        self._waiting_bytes -= part.waiting_bytes
        part.waiting_bytes = 0
        _write_all(part.file, data)
        part.digest.update(data)
        part.size_bytes += len(data)

    def _keep(self, names: dict[int, StoredName]) -> None:
        self._make(with_header=True)
        self._settle_parts(names)

    def _settle_parts(self, names: dict[int, StoredName]) -> None:
        """Write, fsync and rename every whole image that has a name."""
        for slot in [slot for slot, part in self._parts.items() if part.is_whole and slot in names]:
            part = self._parts[slot]
            if part.waiting or part.file is None:
                self._write(slot, part)
            self._kept[slot] = self._settle(slot, self._parts[slot], names[slot])
            del self._parts[slot]

    def _settle(self, slot: int, part: _Part, name: StoredName) -> StoredImage:
        file = part.file
        if file is None:
            message = "an image was settled before it was written"
            raise RuntimeError(message)
        head = os.pread(file.fileno(), _HEAD_BYTES if part.mime == "image/jpeg" else 64, 0)
        width, height = dimensions(head) or (None, None)
        os.fsync(file.fileno())
        file.close()
        final = f"{name.position}.{EXTENSIONS[part.mime]}"
        (self.folder / f"{slot}.part").rename(self.folder / final)
        return StoredImage(
            id=name.id,
            position=name.position,
            file=final,
            mime=part.mime,
            size_bytes=part.size_bytes,
            sha256=part.digest.hexdigest(),
            width=width,
            height=height,
        )

    def _seal(
        self, names: dict[int, StoredName], manifest: Callable[[tuple[StoredImage, ...]], bytes]
    ) -> tuple[StoredImage, ...]:
        had_header = self._is_made
        self._make(with_header=False)
        self._settle_parts(names)
        images = tuple(sorted(self._kept.values(), key=lambda image: image.position))
        target = self.folder / MANIFEST
        if target.exists():
            part = self.folder / f"{MANIFEST}.part"
            write_durably(part, manifest(images))
            part.rename(target)
        else:
            write_durably(target, manifest(images))
        if had_header:
            (self.folder / HEADER).unlink(missing_ok=True)
        fsync_directory(self.folder)
        fsync_directory(self.folder.parent)
        return images

    def _discard(self, slot: int, file: BinaryIO) -> None:
        file.close()
        (self.folder / f"{slot}.part").unlink(missing_ok=True)


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write everything through an unbuffered file, whose `write` may take only a part."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
