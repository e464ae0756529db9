"""Raw bytes of images: by key under /v1, by link under /i. With ETag, Range and 304, and inert in any browser."""

from __future__ import annotations

import re
from urllib.parse import quote

from aiohttp import web

from pixie_proxy.errors import RangeNotSatisfiable
from pixie_proxy.media import EXTENSIONS
from pixie_proxy.records import ImageRecord
from pixie_proxy.web import queries
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.edge import begin_stream

INERT = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Referrer-Policy": "no-referrer",
}
"""Bytes that others made: whatever they hold, no browser runs it."""

OWN = {"Vary": "Authorization, Cookie", "Cross-Origin-Resource-Policy": "same-origin"}
"""Beside it where a key or a cookie opens them: no page but ours may use them."""

_NAME_CHARACTERS = 60


async def content(request: web.Request) -> web.StreamResponse:
    """Serve an image that the caller may see; with `download`, as a file that is named by its prompt."""
    is_download = queries.choice(request, "download", ("true",)) is not None
    record = await context_of(request).library.get(request.match_info["id"], request[USER])
    extra = {**OWN, "Content-Disposition": _attachment(record)} if is_download else OWN
    # Our own pages show images of our own address only: they are not sent elsewhere, as programs are.
    return await serve(request, record, extra, may_redirect="Authorization" in request.headers)


async def linked(request: web.Request) -> web.StreamResponse:
    """Serve an image to whoever holds its link."""
    record = await context_of(request).library.get_by_link(request.match_info["name"])
    return await serve(request, record, {}, may_redirect=True)


async def serve(
    request: web.Request, record: ImageRecord, extra: dict[str, str], *, may_redirect: bool = False
) -> web.StreamResponse:
    """Serve an image to somebody who may have it. `may_redirect`: an address of the storage's own will do as well."""
    etag = f'"{record.sha256}"'
    headers = {**INERT, "Cache-Control": "private, no-cache", "ETag": etag, "Accept-Ranges": "bytes", **extra}
    if matches(request.headers.get("If-None-Match"), etag):
        return web.Response(status=304, headers=headers)
    size = record.size_bytes
    status, start, stop = 200, 0, size
    if "Range" in request.headers and request.headers.get("If-Range", etag) == etag:
        span = _range(request, size)
        if span is not None:
            status, (start, stop) = 206, span
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    library = context_of(request).library
    image = await library.open(record)
    # A signed address is good for GET alone.
    if may_redirect and request.method == "GET" and (url := await library.link(record, image)):
        private = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", **extra}
        return web.Response(status=302, headers={**private, "Location": url})
    headers.setdefault("Content-Disposition", f'inline; filename="{record.id}.{EXTENSIONS[record.mime]}"')
    response = web.StreamResponse(status=status, headers=headers)
    response.content_type = record.mime
    response.content_length = stop - start
    begin_stream(request, response)
    await response.prepare(request)
    if request.method != "HEAD":
        async for piece in library.read(image, start, stop):  # one that raises breaks the answer off
            await response.write(piece)
    await response.write_eof()
    return response


def matches(header: str | None, etag: str) -> bool:
    """Compare as If-None-Match does: weakly, any of a list, or `*`."""
    if header is None:
        return False
    return header.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in header.split(",")]


def _attachment(record: ImageRecord) -> str:
    """Name a file by the first words of its prompt (RFC 6266); by its id for whoever reads ASCII only."""
    extension = EXTENSIONS[record.mime]
    words = re.findall(r"\w+", (record.prompt or "").lower())
    name = "-".join(words)[:_NAME_CHARACTERS].strip("-") or record.id
    if record.siblings > 1:
        name += f"-{record.position + 1}"
    return f"attachment; filename=\"{record.id}.{extension}\"; filename*=UTF-8''{quote(name)}.{extension}"


def _range(request: web.Request, size: int) -> tuple[int, int] | None:
    """Read a single byte range as [start, stop); None when the header is none that we know (RFC 9110, 14.2)."""
    try:
        wanted = request.http_range
    except ValueError:
        return None
    start, stop, _ = wanted.indices(size)
    is_nothing = request.headers["Range"].strip().endswith("=-0")  # which aiohttp reads as everything
    if start >= stop or is_nothing:
        message = f"The image has {size} bytes; the range lies outside."
        raise RangeNotSatisfiable(message, headers={"Content-Range": f"bytes */{size}"})
    return start, stop
