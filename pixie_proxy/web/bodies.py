"""Read what a client sends: JSON within its limit, forms with their files straight to disk."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import orjson
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from pixie_proxy.config import UploadSettings
from pixie_proxy.disk import write_all
from pixie_proxy.errors import (
    InvalidBody,
    InvalidValue,
    RequestTooLarge,
    StorageUnavailable,
    UnsupportedMediaType,
)
from pixie_proxy.media import SNIFF_BYTES, sniff
from pixie_proxy.upstream import FilePart, TextPart

T = TypeVar("T")

MEGABYTE = 1_000_000
_PIECE_BYTES = 65536
_WRITE_BYTES = 256 * 1024
"""How much of a file waits in memory: a hop to a thread costs as much as writing this."""

_MAX_PARTS = 64
_MAX_OBJECT_BYTES = 64 * 1024
_MAX_TEXTS_BYTES = 1024 * 1024
_PATHLIKE = re.compile(r"[/\\]")


async def read_json(request: web.Request, limits: UploadSettings) -> bytes:
    """Read a JSON body whole. Raises RequestTooLarge before it is, where the header tells."""
    most = limits.max_json_mb * MEGABYTE
    if (request.content_length or 0) > most:
        raise _too_large(f"The JSON body is larger than {limits.max_json_mb} MB.")
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > most:
            raise _too_large(f"The JSON body is larger than {limits.max_json_mb} MB.")
    return bytes(body)


async def read_object(request: web.Request, known: Collection[str]) -> dict[str, Any]:
    """Read a small JSON object whose fields are all known. Raises InvalidValue, which names the one that is not."""
    if request.content_type != "application/json":
        message = f"Send this as application/json, not {request.content_type}."
        raise UnsupportedMediaType(message)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _MAX_OBJECT_BYTES:
            message = f"The body is larger than {_MAX_OBJECT_BYTES} bytes."
            raise RequestTooLarge(message)
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        message = "The body must be a JSON object."
        raise InvalidBody(message)
    for name in said:
        if name not in known:
            message = f"Unknown field: {name[:64]!r}. Known here: {', '.join(sorted(known))}."
            raise InvalidValue(message, param=name[:64])
    return said


@dataclass(slots=True)
class Form:
    """A form read whole: texts in memory, files in `folder`."""

    folder: Path
    texts: list[TextPart] = field(default_factory=list)
    files: list[FilePart] = field(default_factory=list)


async def read_form(request: web.Request, folder: Path, limits: UploadSettings) -> Form:
    """Read a multipart form in whatever order its parts come. `folder` is made when the first file arrives."""
    form = Form(folder)
    texts_bytes = 0
    try:
        async for part in _parts(request):
            if len(form.texts) + len(form.files) >= _MAX_PARTS:
                raise _too_large(f"The form has more than {_MAX_PARTS} parts.")
            if part.filename is None:
                value = await _read_text(part, _MAX_TEXTS_BYTES - texts_bytes)
                texts_bytes += len(value)
                form.texts.append(TextPart(name=part.name or "", value=value))
            else:
                # mask and markup come beside the images, so they have room of their own.
                if len(form.files) >= limits.max_files + 2:
                    raise _too_large(f"The form has more than {limits.max_files} images.")
                form.files.append(await _read_file(part, folder, len(form.files), limits))
    except (ValueError, AssertionError, EOFError) as exc:
        message = f"The multipart form is broken: {exc}" if str(exc) else "The multipart form is broken."
        raise InvalidBody(message) from None
    except HttpProcessingError:
        message = "The multipart form is broken: a part's headers can't be read."
        raise InvalidBody(message) from None
    images = sum(file.name.startswith("image") for file in form.files)
    if images > limits.max_files:
        raise _too_large(f"The form has more than {limits.max_files} images.")
    return form


async def _parts(request: web.Request) -> AsyncIterator[BodyPartReader]:
    """Yield the parts of a form; parts within parts are nothing that an SDK sends. Raises ValueError."""
    if request.content_type != "multipart/form-data" or "boundary" not in request.headers.get(
        "Content-Type", ""
    ):
        message = "Send this as multipart/form-data, or as application/json where the API takes it."
        raise UnsupportedMediaType(message)
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader) or not part.name:
            message = "a part has no name, or parts of its own"
            raise ValueError(message)
        yield part


async def _read_text(part: BodyPartReader, most: int) -> bytes:
    value = bytearray()
    while chunk := await part.read_chunk(_PIECE_BYTES):
        value += chunk
        if len(value) > most:
            raise _too_large(f"The text fields of the form are larger than {_MAX_TEXTS_BYTES} bytes.")
    return bytes(value)


async def _read_file(part: BodyPartReader, folder: Path, number: int, limits: UploadSettings) -> FilePart:
    """Write a file to disk as it comes. Its name is the client's only in what we forward, never in a path."""
    most = limits.max_file_mb * MEGABYTE
    path = folder / str(number)
    digest = hashlib.sha256()
    head = b""
    size_bytes = waiting_bytes = 0
    waiting: list[bytes] = []
    file = await _in_thread(_open, path)
    try:
        while chunk := await part.read_chunk(_PIECE_BYTES):
            size_bytes += len(chunk)
            if size_bytes > most:
                raise _too_large(f"A file of the form is larger than {limits.max_file_mb} MB.")
            head = head or bytes(chunk[:SNIFF_BYTES])
            waiting.append(chunk)
            waiting_bytes += len(chunk)
            if waiting_bytes >= _WRITE_BYTES:
                await _in_thread(_append, file, digest, waiting)
                waiting, waiting_bytes = [], 0
        await _in_thread(_append, file, digest, waiting)
    finally:
        file.close()
    return FilePart(
        name=part.name or "",
        filename=_PATHLIKE.split(part.filename or "upload")[-1] or "upload",
        mime=sniff(head),
        path=path,
        size_bytes=size_bytes,
        sha256=digest.hexdigest(),
    )


def _open(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb", buffering=0)


def _append(file: BinaryIO, digest: hashlib._Hash, chunks: list[bytes]) -> None:
    for chunk in chunks:
        write_all(file.fileno(), chunk)
        digest.update(chunk)


async def _in_thread(work: Callable[..., T], *args: object) -> T:
    """Work on a file. Who is cancelled waits for the thread, which must not find its file closed, or make it again."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        await asyncio.wait({working})
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise
    try:
        return working.result()
    except OSError as exc:
        message = "The proxy's disk can't take the upload. Nothing was sent upstream."
        raise StorageUnavailable(message, headers={"retry-after": "30"}) from exc


def _too_large(message: str) -> RequestTooLarge:
    return RequestTooLarge(f"{message} Nothing was sent upstream.")
