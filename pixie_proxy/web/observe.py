"""What every request leaves behind: its numbers, and its line in the log."""

from __future__ import annotations

import logging
import time

from aiohttp import web
from aiohttp.typedefs import Handler

from pixie_proxy.errors import (
    ProxyError,
    UpstreamOutcomeUnknown,
    UpstreamRefused,
)
from pixie_proxy.logs import short_address
from pixie_proxy.metrics import BROKEN_ANSWER, OTHER, REFUSALS, UPSTREAM_REFUSED, Outcome
from pixie_proxy.web.context import BEGAN, CONTEXT, FAULT, MODEL, REQUEST_ID, USER
from pixie_proxy.web.peers import client_of

log = logging.getLogger(__name__)

_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines: a line only at DEBUG, unless something is wrong."""


def note_error(request: web.Request, error: ProxyError) -> None:
    """Remember the error that a request is answered with."""
    if isinstance(error, UpstreamOutcomeUnknown):
        outcome: Outcome = "unknown"
    elif isinstance(error, REFUSALS):
        outcome = "refused"
    else:
        outcome = "failed"
    reason = UPSTREAM_REFUSED if isinstance(error, UpstreamRefused) else error.code or error.type
    request[FAULT] = (outcome, reason)


def note_broken(request: web.Request) -> None:
    """Remember that a request's answer had to be broken off."""
    request[FAULT] = ("failed", BROKEN_ANSWER)


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Time a request, whatever becomes of it."""
    in_flight = request.app[CONTEXT].metrics.requests_in_flight
    in_flight.value += 1
    began = time.perf_counter()
    response: web.StreamResponse | None = None
    try:
        response = await handler(request)
    except web.HTTPException as exc:
        response = exc
        raise
    finally:
        in_flight.value -= 1
        _record(request, response, began)
    return response


def _record(request: web.Request, response: web.StreamResponse | None, began: float) -> None:
    """Count a request and write its line; without a response nobody was left to take one."""
    context = request.app[CONTEXT]
    metrics = context.metrics
    took_s = time.perf_counter() - began
    resource = request.match_info.route.resource
    route = OTHER if resource is None else resource.canonical
    outcome, reason = _judge(request, response)
    model = metrics.model(context.catalog.named(request[MODEL])) if MODEL in request else ""
    sent_bytes = 0 if response is None else _size_bytes(request, response)
    metrics.requests.add(route, outcome, model)
    metrics.request_duration.observe(took_s, route)
    metrics.response_bytes.add(route, by=sent_bytes)
    metrics.request_bytes.add(route, by=request.content.total_bytes)
    if model and response is not None:
        metrics.first_byte.observe(request.get(BEGAN, began + took_s) - began, model)
    if reason is not None:
        (metrics.refusals if outcome == "refused" else metrics.failures).add(reason)
    level = logging.DEBUG if route in _QUIET and outcome == "ok" else logging.INFO
    if log.isEnabledFor(level):
        user = request.get(USER)
        status = 0 if response is None else response.status
        log.log(
            level,
            "%s %s %d",
            request.method,
            route,
            status,
            extra={
                "request_id": request.get(REQUEST_ID),
                "replay_of": _replay_of(request, response),
                "method": request.method,
                "route": route,
                "status": status,
                "outcome": outcome,
                "reason": reason,
                "ms": round(took_s * 1000, 1),
                "bytes": sent_bytes,
                "user": user.id if user is not None else None,
                "client": short_address(client_of(request)),
            },
        )


def _judge(request: web.Request, response: web.StreamResponse | None) -> tuple[Outcome, str | None]:
    """Say how a request ended for its client, and why not well."""
    if FAULT in request:
        return request[FAULT]
    if response is None or request.transport is None or request.transport.is_closing():
        return "client_gone", None
    if response.status < 400:
        return "ok", None
    return (
        "refused" if response.status < 500 or response.status == 503 else "failed",
        f"http_{response.status}",
    )


def _replay_of(request: web.Request, response: web.StreamResponse | None) -> str | None:
    """Name the earlier request that this one was answered with: its id is the one that the client sees."""
    said = None if response is None else response.headers.get("x-request-id")
    return said if said != request.get(REQUEST_ID) else None


def _size_bytes(request: web.Request, response: web.StreamResponse) -> int:
    """Tell how much of an answer went out: its body, or what was written of a stream, head and framing included."""
    if request.method == "HEAD":
        return 0
    if response.content_length is not None and (response.body_length or not response.prepared):
        return response.content_length
    return request.writer.output_size
