"""People, keys, limits, and how the proxy is: for admins."""

from __future__ import annotations

from aiohttp import web

from pixie_proxy.web.html import page


async def admin(request: web.Request) -> web.Response:
    """Show people, keys, limits, and how the proxy is."""
    return page(request, "admin.html")
