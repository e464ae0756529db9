"""Storage: where images live for good. Here is the contract; `local`, `s3` and `memory` keep it.

A *ref* is an address such as `images/2026/11/21/req_…/0.png`, the same in every backend. A request's files come in one
folder, taken over whole; afterwards they never change. Only a `state.json` may come to lie beside them and be replaced.
`tests/storage/test_contract.py` is the specification.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Protocol

from pixie_proxy.disk.watch import Disk
from pixie_proxy.errors import ConfigError, StorageUnavailable
from pixie_proxy.records import id_day

PIECE_BYTES = 256 * 1024
"""Largest piece that `read` yields."""

PAGE_FILES = 1000
"""Most files in a page that `walk` yields: what one question to S3 brings."""

IMAGES = "images"
INCOMING = ".incoming"

MANIFEST = "request.json"
STATE = "state.json"
SENTINEL = ".pixie"
UNFINISHED = "copying "
"""What goes before the id while a collection is still on its way here."""


class ObjectMissing(Exception):
    """There is nothing at this ref."""


class StorageRefused(StorageUnavailable):
    """The storage answers, and will not have us: the settings or the clock are wrong, and waiting mends neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file as a walk finds it. `modified_us` is when it was last written, in µs since the epoch."""

    ref: str
    size_bytes: int
    modified_us: int


def folder_ref(request_id: str) -> str:
    """Give the ref of a request's folder; the day comes from the id, so no clock can move it."""
    return f"{_day_ref(id_day(request_id))}/{request_id}"


@lru_cache(maxsize=64)
def _day_ref(day: date) -> str:
    return f"{IMAGES}/{day:%Y/%m/%d}"


class Storage(Protocol):
    """Folders of files under flat refs. Raises `StorageUnavailable` when it can't."""

    @property
    def disk(self) -> Disk | None:
        """Give the disk that must be watched for it; None where there is none."""

    async def adopt(self, folder: str, ref: str) -> None:
        """Take over a sealed spool folder as `ref`: durable on return, all or nothing, and the folder is gone.

        A ref that is there already is left alone: the call was taken over before, by a start that then died.
        """

    async def size(self, ref: str) -> int:
        """Give a file's size in bytes. Raises ObjectMissing."""

    def read(self, ref: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of `[start, stop)`. Raises ObjectMissing at the first step, whatever the backend."""

    def walk(self, ref: str) -> AsyncIterator[list[StoredFile]]:
        """Yield every file below a folder, in the order of their refs, in pages of 1 to PAGE_FILES.

        What is there all the while is yielded once; what comes or goes meanwhile may be. No folder: no pages.
        """

    async def put(self, ref: str, data: bytes) -> None:
        """Write a small file whole, replacing what is there."""

    async def delete(self, ref: str) -> None:
        """Delete a file, or a folder with all in it. Idempotent."""

    async def link(self, ref: str, expires_s: int) -> str | None:
        """Give an address that a file can be read at for so long, without us; None if there is to be none."""

    async def probe(self) -> str | None:
        """Write a small file of its own, read it back and delete it; tell what is peculiar here, if anything is.

        Raises StorageUnavailable, which says what failed.
        """

    async def close(self) -> None:
        """Release what is held."""


async def sentinel(storage: Storage) -> str | None:
    """Read the storage's id; None where there is none, as in a folder that was not mounted.

    Raises ConfigError where a copy into the storage has not ended: whoever looks there would miss images.
    """
    found = await sentinel_text(storage)
    if found is not None and found.startswith(UNFINISHED):
        raise ConfigError(
            "storage: a copy into it has not ended: run the same pixie storage copy again. Nothing was changed"
        )
    return found


async def sentinel_text(storage: Storage) -> str | None:
    """Read what stands for the storage's id; None where there is nothing."""
    try:
        return b"".join([piece async for piece in storage.read(SENTINEL)]).decode(errors="replace").strip()
    except ObjectMissing:
        return None
