"""Whether we live, and whether we are ready for paid calls."""

from __future__ import annotations

import asyncio

from aiohttp import web

from pixie_proxy.errors import IndexUnavailable, ProxyError, StorageUnavailable
from pixie_proxy.index import Index
from pixie_proxy.web.context import Context, context_of
from pixie_proxy.web.gallery import json_response

_INDEX_WAIT_S = 3.0
"""How long a commit may take before the index counts as away: a slow disk needs seconds for its fsync."""


async def healthz(_: web.Request) -> web.Response:
    """Say that the process answers."""
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Say whether a paid call would be admitted now, and what is wrong all the same; 503 with the reason where not."""
    try:
        trouble = await see_ready(context_of(request))
    except ProxyError as exc:
        return _not_ready(exc)
    degraded = [] if trouble is None else [{"reason": trouble.code, "message": trouble.message}]
    return json_response({"status": "ready", **({"degraded": degraded} if degraded else {})})


async def see_ready(context: Context) -> StorageUnavailable | None:
    """See that a paid call would be admitted now; give what is wrong all the same. Raises ProxyError where not."""
    await asyncio.gather(*[disk.fresh() for disk in context.disks])
    context.generation.refuse_early()
    _, trouble = await asyncio.gather(_see_index(context.index), context.outlook.trouble())
    return trouble


async def _see_index(index: Index) -> None:
    """See that a transaction can be written: this one is empty, so it needs the lock and no fsync."""
    try:
        async with asyncio.timeout(_INDEX_WAIT_S):
            await index.write(lambda _: None)
    except TimeoutError:
        raise IndexUnavailable("The index can't be written: it is locked, or its disk hangs.") from None


def _not_ready(why: ProxyError) -> web.Response:
    response = json_response({"status": "not_ready", "reason": why.code, "message": why.message})
    response.set_status(503)
    return response
