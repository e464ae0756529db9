"""Make images in the browser."""

from __future__ import annotations

from aiohttp import web

from pixie_proxy.web.html import page


async def create(request: web.Request) -> web.Response:
    """Make images in the browser."""
    return page(request, "create.html")
