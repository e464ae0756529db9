"""What a caller may still spend."""

from __future__ import annotations

import time

from aiohttp import web

from pixie_proxy.admission.budget import budgets
from pixie_proxy.index import accounts
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.gallery import json_response
from pixie_proxy.web.wire.money import balance_json


async def balance(request: web.Request) -> web.Response:
    """Tell every budget that the caller's next call must fit into, the tightest by name."""
    parties = request[USER].parties
    subjects = [party.account for party in parties]
    now_us = time.time_ns() // 1000
    found = await context_of(request).index.read(lambda tx: accounts.read(tx, subjects, now_us))
    pairs = zip(parties, found, strict=True)
    return json_response(balance_json([budget for each in pairs for budget in budgets(*each)]))
