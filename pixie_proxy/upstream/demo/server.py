"""The demo upstream's HTTP: routes, keys, headers and pace. What is drawn and said is other rooms' work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from pixie_proxy.pricing import Prices, load_prices
from pixie_proxy.upstream.demo import answer, pictures
from pixie_proxy.upstream.demo.fields import Fields
from pixie_proxy.upstream.demo.form import read_order, unknown_model
from pixie_proxy.upstream.demo.order import Kind, Order
from pixie_proxy.upstream.demo.refusal import REQUEST_FAULT, Refusal, moderation_blocked

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_BODY_BYTES = 1024**3
REQUESTS_PER_MINUTE = 500
TOKENS_PER_MINUTE = 2_000_000
BLOCKED = "forbidden"
"""A prompt with this word is blocked; `forbidden late` only once the pictures are drawn."""

_SECONDS = {"low": 2.0, "medium": 3.2, "high": 4.4, "xhigh": 5.2, "max": 6.0}
_MODEL_CREATED = 1_776_729_600


@dataclass(frozen=True, slots=True)
class _House:
    """What the handlers share."""

    pace: float
    prices: Prices = field(default_factory=lambda: load_prices({}))
    # Pillow gains nothing from more threads than cores, and each holds a large canvas.
    desks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(os.cpu_count() or 2))

    def seconds(self, order: Order) -> float:
        """Tell how long this order should seem to take."""
        larger = min(1.6, max(1.0, math.sqrt(order.width * order.height) / 1024))
        return self.pace * _SECONDS[order.quality] * larger * (1 + 0.08 * (order.n - 1))

    async def picture(self, order: Order, index: int) -> tuple[pictures.Picture, bytes]:
        """Draw and encode one picture off the loop."""
        async with self.desks:
            picture = await asyncio.to_thread(pictures.draw, order, index)
            return picture, await asyncio.to_thread(pictures.encode, picture, order)


_HOUSE = web.AppKey("house", _House)
_REQUEST_ID = web.RequestKey("request_id", str)


def create_demo_app(*, pace: float = 1.0) -> web.Application:
    """Make the demo upstream. `pace` scales the time that pictures seem to take; 0 answers at once."""
    app = web.Application(middlewares=[_head, _errors, _authenticate], client_max_size=MAX_BODY_BYTES)
    app[_HOUSE] = _House(pace)
    app.add_routes(
        [
            web.post("/v1/images/generations", _generations),
            web.post("/v1/images/edits", _edits),
            web.post("/v1/images/variations", _variations),
            web.get("/v1/models", _models),
            web.get("/v1/models/{model}", _model),
        ]
    )
    return app


@asynccontextmanager
async def demo_upstream(host: str = "127.0.0.1", port: int = 0, pace: float = 1.0) -> AsyncIterator[str]:
    """Serve the demo upstream while the context lasts; yields its `base_url`. Port 0 picks a free one."""
    runner = web.AppRunner(create_demo_app(pace=pace), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound: int = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}/v1"
    finally:
        await runner.cleanup()


@web.middleware
async def _head(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request before anybody needs the name, and give plain answers their headers."""
    request[_REQUEST_ID] = f"req_{uuid.uuid4().hex}"
    started = time.monotonic()
    response = await handler(request)
    if not response.prepared:
        response.headers.update(_headers(request, started))
    return response


def _headers(request: web.Request, started: float) -> dict[str, str]:
    return {
        "openai-organization": "demo",
        "openai-processing-ms": str(round(1000 * (time.monotonic() - started))),
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": str(REQUESTS_PER_MINUTE),
        "x-ratelimit-limit-tokens": str(TOKENS_PER_MINUTE),
        "x-ratelimit-remaining-requests": str(REQUESTS_PER_MINUTE - 1),
        "x-ratelimit-remaining-tokens": str(TOKENS_PER_MINUTE - 1000),
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-reset-tokens": "30ms",
        "x-request-id": request[_REQUEST_ID],
    }


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every refusal OpenAI's envelope, aiohttp's own included."""
    try:
        return await handler(request)
    except Refusal as exc:
        refusal = exc
    except web.HTTPMethodNotAllowed:
        refusal = Refusal(
            f"Not allowed to {request.method} on {request.path}. (HINT: Perhaps you meant to use a different HTTP"
            " method?)",
            code="method_not_supported",
            status=405,
        )
    except web.HTTPNotFound:
        refusal = Refusal(f"Invalid URL ({request.method} {request.path})", code=None, status=404)
    except web.HTTPRequestEntityTooLarge:
        refusal = Refusal("Maximum content size limit exceeded.", code=None, status=413)
    return web.json_response({"error": refusal.error()}, status=refusal.status, dumps=_dumps)


@web.middleware
async def _authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Take any key, but for none at all and for those that say that they are bad."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise Refusal(
            "You didn't provide an API key. You need to provide your API key in an Authorization header using"
            " Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            code=None,
            status=401,
        )
    if key.startswith("sk-bad"):
        raise Refusal(
            f"Incorrect API key provided: {key[:6]}{'*' * 8}. You can find your API key at"
            " https://platform.openai.com/account/api-keys.",
            code="invalid_api_key",
            status=401,
        )
    return await handler(request)


async def _generations(request: web.Request) -> web.StreamResponse:
    if request.content_type != "application/json":
        raise _wrong_content_type(request, "'application/json'")
    return await _serve(request, "generation", await _json_fields(request), {}, is_form=False)


async def _edits(request: web.Request) -> web.StreamResponse:
    if request.content_type == "application/json":
        return await _serve(request, "edit", await _json_fields(request), {}, is_form=False)
    if request.content_type != "multipart/form-data":
        raise _wrong_content_type(request, "'multipart/form-data' and 'application/json'")
    try:
        form = await request.post()
    except (ValueError, AssertionError):
        raise Refusal("Could not parse multipart form.", code=None) from None
    fields: Fields = {}
    files: dict[str, list[bytes]] = {}
    for name, value in form.items():
        if isinstance(value, web.FileField):
            files.setdefault(name, []).append(await asyncio.to_thread(value.file.read))
        elif isinstance(value, str):
            fields[name] = value
    return await _serve(request, "edit", fields, files, is_form=True)


async def _variations(request: web.Request) -> web.StreamResponse:
    with contextlib.suppress(ValueError, AssertionError):
        await request.post()
    raise unknown_model("dall-e-2")


async def _models(request: web.Request) -> web.StreamResponse:
    prices = request.app[_HOUSE].prices
    listed = [_model_object(prices, model) for model in prices.models()]
    return web.json_response({"object": "list", "data": listed}, dumps=_dumps)


async def _model(request: web.Request) -> web.StreamResponse:
    prices, model = request.app[_HOUSE].prices, request.match_info["model"]
    if prices.rates(model) is None:
        raise Refusal(
            f"The model '{model}' does not exist",
            code="model_not_found",
            param="model",
            status=404,
        )
    return web.json_response(_model_object(prices, model), dumps=_dumps)


def _model_object(prices: Prices, model: str) -> dict[str, Any]:
    last = prices.shutdown_date(model)
    return {
        "id": model,
        "object": "model",
        "created": _MODEL_CREATED,
        "owned_by": "system",
        "shutdown_date": last.isoformat() if last else None,
    }


async def _json_fields(request: web.Request) -> Fields:
    try:
        fields = json.loads(await request.read())
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise Refusal(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP"
            " library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)",
            code=None,
        )
    return fields


def _wrong_content_type(request: web.Request, accepted: str) -> Refusal:
    return Refusal(
        f"Unsupported content type: '{request.content_type}'. This API method only accepts {accepted} requests.",
        code="unsupported_content_type",
        type=REQUEST_FAULT,
        status=415,
    )


async def _serve(
    request: web.Request, kind: Kind, fields: Fields, files: dict[str, list[bytes]], *, is_form: bool
) -> web.StreamResponse:
    house = request.app[_HOUSE]
    models = frozenset(house.prices.models())
    order = await asyncio.to_thread(read_order, kind, fields, files, models, is_form=is_form)
    words = " ".join(order.prompt.lower().split())
    late = f"{BLOCKED} late" in words
    if BLOCKED in words and not (late and order.is_stream):
        if late:
            await asyncio.sleep(house.seconds(order))
        raise moderation_blocked(request[_REQUEST_ID], "output" if late else "input")
    if order.is_stream:
        return await _stream(request, house, order, is_blocked=late)
    started = time.monotonic()
    images = await asyncio.gather(*[house.picture(order, index) for index in range(order.n)])
    await asyncio.sleep(house.seconds(order) - (time.monotonic() - started))
    encoded = [data for _, data in images]
    body = await asyncio.to_thread(answer.json_body, order, house.prices, encoded, int(time.time()))
    return web.Response(body=body, content_type="application/json")


async def _stream(
    request: web.Request, house: _House, order: Order, *, is_blocked: bool
) -> web.StreamResponse:
    """Stream an order: its partial images as they would appear, then one completed event an image."""
    started = time.monotonic()
    response = web.StreamResponse(headers=_headers(request, started))
    response.content_type = "text/event-stream"
    response.charset = "utf-8"
    response.headers["cache-control"] = "no-cache"
    await response.prepare(request)
    total = house.seconds(order)

    async def wait_until(share: float) -> None:
        await asyncio.sleep(started + total * share - time.monotonic())

    stages = order.partial_images
    for index in range(order.n):
        picture, data = await house.picture(order, index)
        for stage in range(stages):
            partial = await asyncio.to_thread(_partial, picture, order, stage)
            await wait_until((index + (stage + 1) / (stages + 1)) / order.n)
            await response.write(partial)
        await wait_until((index + 1) / order.n)
        if is_blocked:
            refusal = moderation_blocked(request[_REQUEST_ID], "output")
            await response.write(answer.error_event(refusal.error()))
            break
        made = await asyncio.to_thread(
            answer.completed_event, order, house.prices, index, data, int(time.time())
        )
        await response.write(made)
    await response.write_eof()
    return response


def _partial(picture: pictures.Picture, order: Order, stage: int) -> bytes:
    rough = pictures.encode(pictures.blurred(picture, stage), order)
    return answer.partial_event(order, stage, rough, int(time.time()))


def _dumps(value: Any) -> str:
    return json.dumps(value, indent=2)
