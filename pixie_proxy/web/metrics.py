"""What Prometheus asks for."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from pixie_proxy import logs
from pixie_proxy.web.context import Context, context_of
from pixie_proxy.web.exposition import render


async def metrics(request: web.Request) -> web.Response:
    """Tell all numbers of this process and its siblings, and those of spool and index as they are now."""
    context = context_of(request)
    context.metrics.log_lines_lost.add(by=logs.take_lost())
    body, content_type = await asyncio.to_thread(_scrape, context, request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


def _scrape(context: Context, accept: str) -> tuple[bytes, str]:
    numbers = context.metrics
    with suppress(OSError):  # the disk is away: what is known of the rest is wanted all the more
        depth = context.depth.measure()
        numbers.spool_calls.value = depth.calls
        numbers.spool_oldest.value = depth.oldest_s
        numbers.spool_size.value = depth.size_bytes
        numbers.spool_max.value = context.spool.max_bytes or 0
        numbers.spool_free.value = depth.free_bytes
        numbers.index_log.value = context.index.log_bytes
    return render(context.collector, accept)
