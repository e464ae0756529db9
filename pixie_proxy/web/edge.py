"""The edge: every request passes here once. It gets an id, its errors become answers, its headers are made safe."""

from __future__ import annotations

import asyncio
import logging
import time

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from pixie_proxy.errors import (
    ClientError,
    InternalError,
    InvalidBody,
    MethodNotAllowed,
    ProxyError,
    RequestTooLarge,
    UnknownUrl,
)
from pixie_proxy.records import new_id
from pixie_proxy.web.context import BEGAN, CONTEXT, REQUEST_ID, STREAMING
from pixie_proxy.web.html import error_page, wants_page
from pixie_proxy.web.observe import note_broken, note_error

log = logging.getLogger(__name__)

_GONE = 499
"""nginx's word for a client that left before its answer."""


@web.middleware
async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give each request its id, and each error OpenAI's envelope."""
    request[REQUEST_ID] = request_id = new_id("req")
    try:
        response = await handler(request)
    except ProxyError as exc:
        response = _tell(request, exc)
    except web.HTTPException as exc:
        if exc.status < 400:
            raise
        response = _tell(request, _translate(request, exc))
    except asyncio.CancelledError:
        raise
    except web.RequestPayloadError:
        response = _tell(request, InvalidBody("The request's body is broken: its framing can't be read."))
        response.force_close()  # nobody knows where the next request begins
    except Exception as exc:
        if isinstance(exc, ConnectionError) and request.transport is None:
            return web.Response(status=_GONE)  # nobody is left to read it
        log.exception("a handler failed", extra={"request_id": request_id})
        response = _tell(request, InternalError())
    if not response.prepared:
        if request.get(STREAMING):
            # What has begun can't become an error any more: it must end so that nobody takes it for whole.
            note_broken(request)
            if request.transport is not None:
                request.transport.abort()
            return response
        finish_headers(request, response)
    return response


def begin_stream(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers of an answer that is about to begin, and remember that it has."""
    request[STREAMING] = True
    request[BEGAN] = time.perf_counter()
    finish_headers(request, response)


def finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set what every answer carries, and before our end that it is the last of its connection."""
    stamp(response, request[REQUEST_ID])
    context = request.app[CONTEXT]
    if context.is_leaving or context.generation.is_draining:
        response.force_close()
        response.headers["Connection"] = "close"


def stamp(response: web.StreamResponse, request_id: str) -> None:
    """Set what does not depend on the request."""
    headers = response.headers
    headers.setdefault("x-request-id", request_id)  # an answer given again has its own
    headers["Server"] = "pixie_proxy"
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Cache-Control", "no-store")


def _tell(request: web.Request, error: ProxyError) -> web.Response:
    """Answer with an error: a page for people, JSON for programs."""
    note_error(request, error)
    return error_page(request, error) if wants_page(request) else error_response(error)


def error_response(error: ProxyError) -> web.Response:
    """Write an error as its answer."""
    status, body = error.answer()
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/json", headers=error.headers
    )


def _translate(request: web.Request, exc: web.HTTPException) -> ProxyError:
    """Turn aiohttp's own refusals into ours."""
    if isinstance(exc, web.HTTPNotFound):
        return UnknownUrl(f"There is no {request.path} here. The API lives under /v1.")
    if isinstance(exc, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(exc.allowed_methods))
        return MethodNotAllowed(
            f"{request.method} is not for this address; use {allowed}.", headers={"Allow": allowed}
        )
    if isinstance(exc, web.HTTPRequestEntityTooLarge):
        return RequestTooLarge("The request is larger than this proxy takes.")
    if exc.status == 400:
        return InvalidBody("The request could not be read.")
    return ClientError(f"The request was refused with status {exc.status}.")
