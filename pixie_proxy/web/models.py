"""The list of models, as OpenAI gives it, with the day a model shuts down."""

from __future__ import annotations

from aiohttp import web

from pixie_proxy.errors import NotFound
from pixie_proxy.web.context import USER, Context, context_of
from pixie_proxy.web.gallery import json_response
from pixie_proxy.web.wire import model_json


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


def _model(context: Context, model: str) -> dict[str, object]:
    shutdown = context.prices.shutdown_date(context.catalog.target(model))
    return model_json(model, shutdown.isoformat() if shutdown else None, int(context.started))
