"""The price of a request without making it: read, checked and priced as the real one, and no more."""

from __future__ import annotations

import asyncio
import shutil
import time

from aiohttp import web

from pixie_proxy.records import to_datetime
from pixie_proxy.web.context import REQUEST_ID, USER, context_of
from pixie_proxy.web.gallery import json_response
from pixie_proxy.web.images import read_request
from pixie_proxy.web.wire.models import estimate_json


async def estimate(request: web.Request) -> web.Response:
    """Price a request. It takes nothing from a limit, is in no ledger, and the upstream never hears of it."""
    context = context_of(request)
    uploads = context.spool.uploads / request[REQUEST_ID]
    is_form = request.content_type == "multipart/form-data"
    if is_form:  # whose files go to disk before they can be counted
        context.generation.refuse_early()
    try:
        with context.uploads.hold(request[USER]):
            asked = await read_request(request, "edit", uploads)  # which may come in either form
    finally:
        if is_form:
            await asyncio.to_thread(shutil.rmtree, uploads, ignore_errors=True)
    now_us = time.time_ns() // 1000
    today = to_datetime(now_us).date()
    quote = context.quotes.quote(asked, now_us, request[USER].key_models)
    response = json_response(
        estimate_json(
            quote,
            requested_model=asked.model,
            estimated_micros=context.prices.estimate_micros(quote.wanted, today),
            rates=context.prices.rates(quote.model, today),
        )
    )
    response.headers.update(quote.said)
    return response
