"""The public gallery, where `gallery.allow_public` opens one: the images whose owners let anyone see them."""

from __future__ import annotations

from aiohttp import web

from pixie_proxy.index import browsing
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import ImageRecord, Page
from pixie_proxy.web import files, queries, thumbnails
from pixie_proxy.web.context import context_of
from pixie_proxy.web.html import page
from pixie_proxy.web.pictures import IMAGE_PX, LIST_PX, picture_of, size_px

_PER_PAGE = 24


async def wall(request: web.Request) -> web.Response:
    """List all public images, newest first."""
    _check_open(request)
    settings = context_of(request).settings
    after, before = (queries.cursor(request, name, "img", "an image") for name in ("after", "before"))
    before = None if after else before
    found = await _list(request, after=after, before=before)
    if (
        before is not None and not found.has_more
    ):  # the way back ends here: a full first page, not the few that are newer
        before, found = None, await _list(request)
    items = found.items
    return page(
        request,
        "public.html",
        pictures=[picture_of(record, size_px(settings, LIST_PX)) for record in items],
        dense_px=size_px(settings, IMAGE_PX),
        older=items[-1].id if items and (found.has_more or before) else None,
        newer=items[0].id if items and (after or before) else None,
    )


async def image(request: web.Request) -> web.Response:
    """Show one public image: what it was made of, and not by whom."""
    record = await _image(request)
    context = context_of(request)
    preview = picture_of(record, size_px(context.settings, IMAGE_PX))
    return page(
        request,
        "public_image.html",
        image=record,
        path=f"/public/{record.id}",
        url=f"{context.links.base_url}/public/{record.id}",
        title=preview.alt,
        prompt=record.prompt,
        preview=preview,
        has_preview=record.mime != "image/svg+xml",
    )


async def content(request: web.Request) -> web.StreamResponse:
    """Serve a public image."""
    return await files.serve(request, await _image(request), files.OWN)


async def thumbnail(request: web.Request) -> web.StreamResponse:
    """Serve a public image made small."""
    _check_open(request)
    asked_px = thumbnails.asked_size(request)
    return await thumbnails.serve(request, await _image(request), asked_px)


async def _image(request: web.Request) -> ImageRecord:
    """Find a public image. Raises NotFound for any other, whether or not it exists."""
    _check_open(request)
    return await context_of(request).library.get_public(request.match_info["id"])


async def _list(
    request: web.Request, *, after: str | None = None, before: str | None = None
) -> Page[ImageRecord]:
    walk = Walk(after=after, before=before, limit=_PER_PAGE)
    return await context_of(request).index.read(lambda tx: browsing.public_page(tx, walk))


def _check_open(request: web.Request) -> None:
    """Answer as if there were no such address where the operator has not opened the gallery."""
    if not context_of(request).settings.gallery.allow_public:
        raise web.HTTPNotFound
