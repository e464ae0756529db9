"""Whether we live, and whether we are ready for paid calls."""

from __future__ import annotations

import asyncio

from aiohttp import web

from pixie_proxy.errors import IndexUnavailable, ProxyError
from pixie_proxy.web.context import context_of
from pixie_proxy.web.gallery import json_response

_INDEX_WAIT_S = 2.0


async def healthz(_: web.Request) -> web.Response:
    """Say that the process answers."""
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Say whether a paid call would be admitted now; 503 with the reason where not."""
    context = context_of(request)
    try:
        await asyncio.gather(*[disk.fresh() for disk in context.disks])
        context.generation.refuse_early()
        async with asyncio.timeout(_INDEX_WAIT_S):
            await context.index.read(lambda tx: tx.one("SELECT 1 AS one"))
    except TimeoutError:
        return _not_ready(IndexUnavailable("The index does not answer."))
    except ProxyError as exc:
        return _not_ready(exc)
    return json_response({"status": "ready"})


def _not_ready(why: ProxyError) -> web.Response:
    response = json_response({"status": "not_ready", "reason": why.code, "message": why.message})
    response.set_status(503)
    return response
