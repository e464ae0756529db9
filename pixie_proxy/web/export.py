"""Many images in one file: their originals, and what is known of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import orjson
from aiohttp import web

from pixie_proxy.errors import InvalidValue
from pixie_proxy.gallery.archive import Archive
from pixie_proxy.gallery.library import Library
from pixie_proxy.index import Index, Tx, browsing
from pixie_proxy.index.seen import Seen, look
from pixie_proxy.index.walking import Walk
from pixie_proxy.media import EXTENSIONS
from pixie_proxy.records import User, id_time_us
from pixie_proxy.web import filters, queries
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.edge import begin_stream
from pixie_proxy.web.filters import Filters
from pixie_proxy.web.wire.images import exported_json

MAX_IMAGES = 5_000
"""In one archive: what a broken connection costs has to be asked for again."""

_PAGE = 200
_NAMES = (filters.NAMES - {"deleted"}) | {"since", "until"}


async def export(request: web.Request) -> web.StreamResponse:
    """Stream an archive of what a list would show, oldest first. It breaks off where an image can't be read whole."""
    context, viewer = context_of(request), request[USER]
    queries.check_names(request, _NAMES)
    asked = filters.read(request)
    span = Walk(
        since_us=queries.time_us(request, "since"),
        until_us=queries.time_us(request, "until"),
        order="asc",
        limit=_PAGE,
    )
    ids = await _find(context.index, viewer, asked, span)
    response = web.StreamResponse(
        headers={
            "Content-Disposition": 'attachment; filename="images.zip"',
            "Cache-Control": "private, no-store",
            "Vary": "Authorization, Cookie",
        }
    )
    response.content_type = "application/zip"
    begin_stream(request, response)
    await response.prepare(request)
    if request.method != "HEAD":
        async with aclosing(_write(context.index, context.library, viewer, ids)) as pieces:
            async for piece in pieces:  # one that raises breaks the answer off
                await response.write(piece)
    await response.write_eof()
    return response


async def _find(index: Index, viewer: User, asked: Filters, span: Walk) -> list[str]:
    """List the ids of all that is asked for. Raises InvalidValue where there are too many."""
    ids: list[str] = []
    has_more = True
    while has_more:
        walk = replace(span, after=ids[-1] if ids else None)
        page = await index.read(partial(asked.page, viewer=viewer, walk=walk))
        ids += [record.id for record in page.items]
        has_more = page.has_more
        if len(ids) > MAX_IMAGES:
            message = (
                f"These are more than {MAX_IMAGES} images, which is as many as one archive holds. "
                "Ask for them in parts, by 'since' and 'until'."
            )
            raise InvalidValue(message, param="since")
    return ids


_EPOCH_US = 315_532_800_000_000
"""The oldest day that an archive can tell: 1980-01-01."""


class _File(NamedTuple):
    """An image of the archive, and what it is called there."""

    image_id: str
    name: str


async def _write(
    index: Index, library: Library, viewer: User, ids: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    """Yield the archive: first what is known of the images, then the images."""
    archive = Archive()
    files: list[_File] = []
    manifest = _manifest(index, viewer, ids, files)
    async with aclosing(
        archive.add("manifest.json", id_time_us(ids[-1]) if ids else _EPOCH_US, manifest)
    ) as pieces:
        async for piece in pieces:
            yield piece
    for file in files:
        # Asked once more: it may have been hidden or deleted since, and nobody gets what is not theirs.
        record = await library.get(file.image_id, viewer)
        content = library.read(await library.open(record), 0, record.size_bytes)
        async with aclosing(archive.add(file.name, id_time_us(record.id), content)) as pieces:
            async for piece in pieces:
                yield piece
    yield archive.end()


async def _manifest(
    index: Index, viewer: User, ids: Sequence[str], files: list[_File]
) -> AsyncGenerator[bytes, None]:
    """Yield the manifest, some images at a time, and note which files it tells of. What has gone since is left out."""
    yield b'{"object": "pixie.export", "version": 1, "images": ['
    for start in range(0, len(ids), _PAGE):
        lines = []
        for seen in await index.read(partial(_look, viewer=viewer, ids=ids[start : start + _PAGE])):
            name = f"images/{seen.record.id}.{EXTENSIONS[seen.record.mime]}"
            lines.append((b",\n" if files else b"\n") + orjson.dumps(exported_json(seen, viewer, name)))
            files.append(_File(seen.record.id, name))
        yield b"".join(lines)
    yield b"\n]}\n"


def _look(tx: Tx, viewer: User, ids: Sequence[str]) -> list[Seen]:
    return look(tx, viewer, browsing.visible(tx, viewer, ids))
