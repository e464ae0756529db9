"""One call's folder in the spool: images as they decode, written in bounded memory and made durable in one hop.

Every disk step runs in a thread of the durable writers'. A call has one writer (its pump), so nothing here locks.
A step that meets a full disk goes on with room that the ballast gives up. After any other error the folder is begun
anew and the step taken once more: what a failed write or fsync may have touched is never trusted again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pixie_proxy.disk import (
    FULL,
    LostWrite,
    SharedSync,
    copy_checked,
    fsync,
    fsync_directory,
    write_at,
    write_durably,
)
from pixie_proxy.disk.watch import Disk
from pixie_proxy.media import EXTENSIONS, HEAD_BYTES, dimensions
from pixie_proxy.records import StoredImage
from pixie_proxy.spool.partials import Partials
from pixie_proxy.storage import MANIFEST
from pixie_proxy.threads import WorkerThreads

log = logging.getLogger(__name__)
T = TypeVar("T")

FLUSH_BYTES = 512 * 1024
"""How much of an answer may wait in memory: small images are written once, at the seal."""

HELD_BYTES = 16 * 1024 * 1024
"""How much of it waits there when the disk fails: it may be back before the answer's end."""

HEADER = "call.json"
_PIECE_BYTES = 144 * 1024


@dataclass(frozen=True, slots=True)
class StoredName:
    """What an image will be called: its id, and its place among the images of its call."""

    id: str
    position: int


@dataclass(slots=True)
class _Part:
    """An image on its way to disk. `descriptor` is None until something was written."""

    mime: str
    waiting: list[bytes] = field(default_factory=list)
    waiting_bytes: int = 0
    descriptor: int | None = None
    size_bytes: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    is_whole: bool = False


class SpooledCall:
    """A call's folder. Images are known by their slot (the number of their base64 in the answer)."""

    def __init__(
        self,
        parent: str,
        name: str,
        header: bytes,
        writers: WorkerThreads,
        sync: SharedSync,
        disk: Disk,
        partials: Partials,
    ) -> None:
        """Plan the folder `parent/name`; nothing touches the disk before the first flush."""
        self._parent = parent
        self._name = name
        self._partials = partials
        self.folder = f"{parent}/{name}"
        self._header = header
        self._writers = writers
        self._sync = sync
        self._disk = disk
        self._parts: dict[int, _Part] = {}
        self._kept: dict[int, StoredImage] = {}
        self.sealed: tuple[StoredImage, ...] = ()
        """The images that the manifest names."""
        self._is_made = self._has_header = False
        self._is_spoilt = False
        """The disk failed a step, and the folder has not been begun anew since."""
        self._waiting_bytes = 0

    @property
    def wants_flush(self) -> bool:
        """Whether enough waits in memory to be worth a write."""
        return self._waiting_bytes >= (HELD_BYTES if self._disk.is_failing else FLUSH_BYTES)

    @property
    def holds_too_much(self) -> bool:
        """Whether what waits for a disk that fails would fill our memory."""
        return self._waiting_bytes >= HELD_BYTES

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

    def read(self, slot: int) -> Iterator[bytes]:
        """Read a sealed image again; it blocks. Raises OSError, and KeyError if it was never sealed."""
        with open(f"{self.folder}/{self._kept[slot].file}", "rb", buffering=0) as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece

    async def drop(self, slot: int) -> None:
        """Forget an image that turned out to be none (broken base64)."""
        part = self._parts.pop(slot)
        self._waiting_bytes -= part.waiting_bytes
        if part.descriptor is not None:
            await self._writers.run(self._discard, slot, part.descriptor)

    async def set_aside(self, slot: int) -> None:
        """Put a partial image where replays find it for a while. A disk that fails costs them the partial images."""
        part = self._parts.pop(slot, None)
        if part is not None:  # else it was no image
            self._waiting_bytes -= part.waiting_bytes
            await self._writers.run(self._set_aside, slot, part)

    async def flush(self) -> None:
        """Write what waits in memory."""
        await self._writers.run(self._lasting, self._flush)

    async def keep(self, names: dict[int, StoredName]) -> None:
        """Put whole images under their final names, so that a crash from here on finds them."""
        await self._writers.run(self._lasting, self._keep, names)

    async def seal(
        self, names: dict[int, StoredName], manifest: Callable[[tuple[StoredImage, ...]], bytes]
    ) -> tuple[StoredImage, ...]:
        """Make the call durable: its whole images, its manifest, its folder. Later seals replace the manifest."""
        return await self._writers.run(self._lasting, self._seal, names, manifest)

    async def remove(self) -> None:
        """Delete the folder of a call that brought nothing. Whole images stay, for the next start to find."""
        for part in self._parts.values():
            if part.descriptor is not None:
                os.close(part.descriptor)
        self._parts.clear()
        if self._is_made and not self._kept:
            await self._writers.run(lambda: shutil.rmtree(self.folder, ignore_errors=True))

    def _lasting(self, step: Callable[..., T], *args: object) -> T:
        """Take a step, and take it again in a fresh folder if the disk failed it. All steps may be taken twice."""
        was_spoilt = self._is_spoilt
        if was_spoilt:
            self._disk.roomy(self._renew)
        try:
            return self._disk.roomy(step, *args)
        except OSError as exc:
            self._disk.suspect(exc)
            self._is_spoilt = isinstance(exc, LostWrite) or exc.errno not in FULL
            if was_spoilt or not self._is_spoilt:
                raise
        return self._lasting(step, *args)

    def _make(self, *, with_header: bool) -> None:
        if self._is_made:
            return
        os.mkdir(self.folder, 0o700)
        self._is_made = True
        if with_header:
            self._has_header = True
            descriptor = os.open(f"{self.folder}/{HEADER}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                write_at(descriptor, self._header, 0)
            finally:
                os.close(descriptor)

    def _flush(self) -> None:
        self._make(with_header=True)
        for slot, part in self._parts.items():
            if part.waiting:
                self._write(slot, part)

    def _write(self, slot: int, part: _Part) -> int:
        """Write what waits of an image, and return its descriptor."""
        if part.descriptor is None:
            part.descriptor = os.open(
                self._part(slot), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        written = 0
        try:
            for data in part.waiting:
                write_at(part.descriptor, data, part.size_bytes)
                part.digest.update(data)
                part.size_bytes += len(data)
                part.waiting_bytes -= len(data)
                self._waiting_bytes -= len(data)
                written += 1
        finally:
            del part.waiting[:written]
        return part.descriptor

    def _part(self, slot: int) -> str:
        return f"{self.folder}/{slot}.part"

    def _keep(self, names: dict[int, StoredName]) -> None:
        self._make(with_header=True)
        self._settle_whole(names)

    def _settle_whole(self, names: dict[int, StoredName]) -> None:
        for slot in [slot for slot, part in self._parts.items() if part.is_whole and slot in names]:
            self._kept[slot] = self._settle(slot, self._parts[slot], names[slot])
            del self._parts[slot]

    def _settle(self, slot: int, part: _Part, name: StoredName) -> StoredImage:
        """Write the rest of a whole image, fsync it and give it its final name."""
        is_in_memory = part.descriptor is None and len(part.waiting) == 1
        head = part.waiting[0] if is_in_memory else b""
        descriptor = self._write(slot, part)
        if not is_in_memory:
            head = os.pread(descriptor, HEAD_BYTES if part.mime == "image/jpeg" else 64, 0)
        fsync(descriptor)
        width, height = dimensions(head) or (None, None)
        final = f"{name.position}.{EXTENSIONS[part.mime]}"
        os.rename(self._part(slot), f"{self.folder}/{final}")
        os.close(descriptor)
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
        self._make(with_header=False)
        self._settle_whole(names)
        images = tuple(sorted(self._kept.values(), key=lambda image: image.position))
        target = f"{self.folder}/{MANIFEST}"
        # The first manifest may be written in place: without its folder's fsync there is no call. A later one may not.
        is_first = not os.path.exists(target)
        written = target if is_first else f"{target}.part"
        write_durably(written, manifest(images))
        if not is_first:
            os.rename(written, target)
        if self._has_header:
            os.unlink(f"{self.folder}/{HEADER}")
            self._has_header = False
        fsync_directory(self.folder)
        self._sync(self._parent)
        self.sealed = images
        return images

    def _set_aside(self, slot: int, part: _Part) -> None:
        path = None
        if part.descriptor is not None:
            os.close(part.descriptor)
            path = Path(self._part(slot))
        try:
            self._partials.keep(self._name, slot, part.waiting, path, part.size_bytes + part.waiting_bytes)
        except OSError as exc:
            log.warning("a partial image is not kept", extra={"request_id": self._name, "reason": str(exc)})
            if path is not None:
                with suppress(OSError):
                    path.unlink()

    def _discard(self, slot: int, descriptor: int) -> None:
        """Remove a file that holds no image. One that can't be removed must not end a paid call."""
        os.close(descriptor)
        try:
            os.unlink(self._part(slot))
        except OSError as exc:
            self._disk.suspect(exc)

    def _renew(self) -> None:
        """Begin the folder anew, with all that came so far. Raises OSError where that can't be read back as it came."""
        if not self._is_made:
            self._is_spoilt = False
            return
        name = os.path.basename(self.folder)
        fresh, spent = f"{self._parent}/.{name}", f"{self._parent}/.{name}.spent"
        for left in (fresh, spent):
            shutil.rmtree(left, ignore_errors=True)
        os.mkdir(fresh, 0o700)
        copies: dict[int, int] = {}
        with ExitStack() as on_error:
            on_error.callback(shutil.rmtree, fresh, ignore_errors=True)
            for image in self._kept.values():
                os.close(self._carry(image.file, fresh, image.size_bytes, image.sha256))
            if self.sealed:
                with open(f"{self.folder}/{MANIFEST}", "rb") as manifest:
                    write_durably(f"{fresh}/{MANIFEST}", manifest.read())
            for slot, part in self._parts.items():
                if part.descriptor is not None:
                    copy = self._carry(f"{slot}.part", fresh, part.size_bytes, part.digest.hexdigest())
                    on_error.callback(os.close, copy)
                    copies[slot] = copy
            fsync_directory(fresh)
            os.rename(self.folder, spent)
            os.rename(fresh, self.folder)
            on_error.pop_all()
        self._has_header = False
        for slot, copy in copies.items():
            part = self._parts[slot]
            if part.descriptor is not None:
                os.close(part.descriptor)
            part.descriptor = copy
        self._sync(self._parent)
        self._is_spoilt = False
        shutil.rmtree(spent, ignore_errors=True)

    def _carry(self, file: str, fresh: str, size_bytes: int, sha256: str) -> int:
        return copy_checked(f"{self.folder}/{file}", f"{fresh}/{file}", size_bytes, sha256)
