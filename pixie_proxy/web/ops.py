"""Whether we live, and whether we are ready for paid calls."""

from __future__ import annotations

from aiohttp import web

from pixie_proxy.errors import ProxyError
from pixie_proxy.web.context import context_of
from pixie_proxy.web.gallery import json_response


async def healthz(_: web.Request) -> web.Response:
    """Say that the process answers."""
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Say whether a paid call would be admitted now; 503 with the reason where not."""
    context = context_of(request)
    try:
        context.generation.refuse_early()
        await context.index.read(lambda tx: tx.one("SELECT 1 AS one"))
    except ProxyError as exc:
        response = json_response({"status": "not_ready", "reason": exc.code, "message": exc.message})
        response.set_status(503)
        return response
    return json_response({"status": "ready"})
