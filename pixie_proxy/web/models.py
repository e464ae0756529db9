"""The list of models, as OpenAI gives it, with what each can do, what it costs, and the day it shuts down."""

from __future__ import annotations

import time

from aiohttp import web

from pixie_proxy.errors import NotFound
from pixie_proxy.records import to_datetime
from pixie_proxy.web.context import USER, Context, context_of
from pixie_proxy.web.gallery import json_response
from pixie_proxy.web.wire.models import model_json


async def list_models(request: web.Request) -> web.Response:
    """List the image models that are offered here."""
    context = context_of(request)
    data = [_model(context, model) for model in context.catalog.listed(request[USER].key_models)]
    return json_response({"object": "list", "data": data})


async def get_model(request: web.Request) -> web.Response:
    """Describe one model."""
    context, model = context_of(request), request.match_info["model"]
    if model not in context.catalog.listed(request[USER].key_models):
        message = f"The model '{model}' does not exist here."
        raise NotFound(message, param="model")
    return json_response(_model(context, model))


def _model(context: Context, name: str) -> dict[str, object]:
    catalog, prices = context.catalog, context.prices
    model = catalog.target(name)
    return model_json(
        name,
        model=model,
        aliases=[alias for alias in catalog.listed() if alias != name and catalog.target(alias) == name],
        created=int(context.started),
        shutdown_date=prices.shutdown_date(model),
        family=prices.family(model),
        rates=prices.rates(model, to_datetime(time.time_ns() // 1000).date()),
    )
