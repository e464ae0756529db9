"""What was spent, for whom and on what, as charts with tables."""

from __future__ import annotations

from aiohttp import web

from pixie_proxy.web.html import page


async def usage(request: web.Request) -> web.Response:
    """Show what was spent, for whom and on what, as charts with tables."""
    return page(request, "usage.html")
