"""Folders to hand to a storage, and what it says of them afterwards."""

from __future__ import annotations

from pathlib import Path

from pixie_proxy.records import new_id
from pixie_proxy.storage import MANIFEST, Storage, folder_ref

FILES = {"0.png": b"first" * 1000, "1.webp": b"", MANIFEST: b'{"object": "pixie.request"}'}


def a_folder(
    tmp_path: Path, request_id: str | None = None, files: dict[str, bytes] = FILES
) -> tuple[Path, str]:
    """Make a sealed folder; give it and the ref that it is for."""
    request_id = request_id or new_id("req")
    folder = tmp_path / "spool" / request_id
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder, folder_ref(request_id)


async def content(storage: Storage, ref: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([piece async for piece in storage.read(ref, start, stop)])


async def files_of(storage: Storage, ref: str) -> dict[str, bytes]:
    """Read every file that a folder of `FILES` brought."""
    return {name: await content(storage, f"{ref}/{name}") for name in FILES}
