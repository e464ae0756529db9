"""Thumbnails of images, under the same rule as their bytes; a picture of ours where there is none."""

from __future__ import annotations

from aiohttp import web

from pixie_proxy.errors import InvalidValue
from pixie_proxy.gallery.thumbnails import Missing
from pixie_proxy.records import ImageRecord
from pixie_proxy.web import files, queries
from pixie_proxy.web.context import USER, context_of

PLACEHOLDER_HEADER = "x-pixie-placeholder"
"""Says that the answer is no thumbnail, and why: unsupported, failed or pending."""

_PLACEHOLDER = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96" role="img">'
    b"<title>No preview</title>"
    b'<rect width="96" height="96" fill="#8884"/>'
    b'<path d="M24 32h48v32H24zM24 58l14-12 10 8 12-12 12 12" fill="none" stroke="#888" stroke-width="3"/>'
    b"</svg>"
)


async def thumbnail(request: web.Request) -> web.StreamResponse:
    """Serve an image made small to a caller who may see it; one in the trash to those who may restore it."""
    size_px = asked_size(request)
    record = await context_of(request).library.find(request.match_info["id"], request[USER])
    return await serve(request, record, size_px)


async def serve(request: web.Request, record: ImageRecord, size_px: int) -> web.StreamResponse:
    """Serve an image made small to somebody who may have it. An SVG is its own thumbnail; nobody draws it here."""
    if record.mime == "image/svg+xml":
        return await files.serve(request, record, files.OWN)
    etag = f'"{record.sha256}-{size_px}"'
    headers = {
        **files.INERT,
        **files.OWN,
        "Cache-Control": "private, no-cache",
        "ETag": etag,
    }
    if files.matches(request.headers.get("If-None-Match"), etag):
        return web.Response(status=304, headers=headers)
    made = await context_of(request).thumbnails.get(record, size_px)
    if isinstance(made, Missing):
        del headers["ETag"]
        headers |= {"Cache-Control": "private, no-store", PLACEHOLDER_HEADER: made.reason}
        return web.Response(body=_PLACEHOLDER, content_type="image/svg+xml", headers=headers)
    return web.Response(body=made, content_type="image/webp", headers=headers)


def asked_size(request: web.Request) -> int:
    """Read which of the sizes that there are is asked for: the smallest, if none is."""
    queries.check_names(request, {"size"})
    known_px = context_of(request).settings.gallery.thumbnail_px
    sizes = {str(size): size for size in known_px}
    asked = request.query.get("size", str(min(known_px)))
    if asked not in sizes:
        message = f"'size' must be one of {', '.join(sizes)}."
        raise InvalidValue(message, param="size")
    return sizes[asked]
