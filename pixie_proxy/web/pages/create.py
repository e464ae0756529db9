"""Make images in the browser: a form, whose scripts talk to the API, and what comes of it."""

from __future__ import annotations

from aiohttp import web

from pixie_proxy.web.context import context_of
from pixie_proxy.web.html import page


async def create(request: web.Request) -> web.Response:
    """Make images in the browser."""
    context = context_of(request)
    settings = context.settings
    return page(
        request,
        "create.html",
        base_url=f"{context.links.base_url}/v1",
        default_model=settings.models.default,
        max_files=settings.uploads.max_files,
        max_file_mb=settings.uploads.max_file_mb,
        thumbnail_px=max(settings.gallery.thumbnail_px),
    )
