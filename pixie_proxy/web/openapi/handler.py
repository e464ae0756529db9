"""Answer with the description of all this, which is made when somebody first asks for it."""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import web

from pixie_proxy.web.context import Context, context_of


async def openapi(request: web.Request) -> web.Response:
    """Describe every address that programs use, in OpenAPI's words."""
    context = context_of(request)
    if context.openapi is None:
        context.openapi = await asyncio.to_thread(_written, context)
    return web.Response(
        body=context.openapi,
        content_type="application/json",
        headers={"Cache-Control": "private, no-store", "Vary": "Authorization"},
    )


def _written(context: Context) -> bytes:
    from pixie_proxy.web.openapi.document import document

    return orjson.dumps(document(context.settings, context.links.base_url))
