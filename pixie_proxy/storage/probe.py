"""A round trip through a storage: a small file is written, read back and deleted, under a name that no image has."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import ObjectMissing, Storage

_BYTES = 64


async def round_trip(storage: Storage, write: Callable[[str, bytes], Awaitable[str | None]]) -> str | None:
    """Take a file there and back; give what `write` tells. Raises StorageUnavailable, with the step that failed."""
    ref, data = f".probe-{secrets.token_hex(8)}", secrets.token_bytes(_BYTES)
    with _told("be written"):
        note = await write(ref, data)
    try:
        with _told("be read"):
            if b"".join([piece async for piece in storage.read(ref)]) != data:
                raise StorageUnavailable("The storage gives other bytes than it took.")
    finally:
        with _told("be deleted"):
            await storage.delete(ref)
    return note


@contextmanager
def _told(step: str) -> Iterator[None]:
    """Say behind an error which step it was."""
    try:
        yield
    except ObjectMissing:
        raise StorageUnavailable("The storage has lost what was just written.") from None
    except StorageUnavailable as exc:
        exc.message = f"{exc.message.rstrip('.')}, so no probe can {step}."
        raise
