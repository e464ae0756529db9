"""A ZIP file that is written while it is read: stored, not compressed, and never in memory as a whole.

Pictures are compressed already. What a file's checksum and length are stands behind it, and again at the archive's end,
as for any archive that goes out over a pipe. One that breaks off lacks that end, and no program takes it for whole.
"""

from __future__ import annotations

import zipfile
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pixie_proxy.records import to_datetime


class Archive:
    """Files one after the other. `add` and `end` give the bytes that are ready to go out."""

    def __init__(self) -> None:
        """Begin an empty one."""
        self._pipe = _Pipe()
        self._zip = zipfile.ZipFile(self._pipe, "w", zipfile.ZIP_STORED)  # type: ignore[call-overload]

    async def add(
        self, name: str, made_us: int, pieces: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """Put a file in, as its pieces come; what they raise ends it."""
        entry = zipfile.ZipInfo(name, to_datetime(made_us).timetuple()[:6])
        entry.external_attr = 0o644 << 16
        with self._zip.open(entry, "w") as file:
            async with aclosing(pieces):
                async for piece in pieces:
                    file.write(piece)
                    yield self._pipe.take()
        yield self._pipe.take()

    def end(self) -> bytes:
        """Write the table of contents, without which it is no archive."""
        self._zip.close()
        return self._pipe.take()


class _Pipe:
    """What was written and not yet taken. It can't be gone back in, so that an archive is written from front to end."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, data: bytes) -> int:
        self._waiting += data
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken, self._waiting = bytes(self._waiting), bytearray()
        return taken
