"""aiohttp's server, with its own refusals told as ours are.

A request whose head can't be read, or whose `Expect` can't be met, is refused by aiohttp before any middleware runs, in
plain text. It gets an id and OpenAI's envelope here; it has no user, so it counts nowhere.
"""

from __future__ import annotations

import logging

from aiohttp import web

from pixie_proxy.errors import ExpectationFailed, InternalError, InvalidBody, ProxyError
from pixie_proxy.records import new_id
from pixie_proxy.web.edge import error_response, stamp

log = logging.getLogger(__name__)


class Runner(web.AppRunner):
    """`web.AppRunner`, for connections of our kind."""

    async def _make_server(self) -> web.Server:
        found = await super()._make_server()
        return _Server(
            found.request_handler,
            request_factory=found.request_factory,
            handler_cancellation=found.handler_cancellation,
            **found._kwargs,  # noqa: SLF001 - there is no other way to have connections of our kind
        )


class _Server(web.Server):
    """Makes the connections."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """One connection of a client's."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp could not even hand to a handler. Raises ConnectionError if an answer has begun."""
        if request.writer.output_size > 0:
            raise ConnectionError
        if status == 400:
            log.info("a request could not be read", extra={"reason": type(exc).__name__})
            return _refusal(InvalidBody("The request could not be read: its head is not what HTTP allows."))
        log.error("a request failed outside of its handler", exc_info=exc)
        return _refusal(InternalError())

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer. An error of aiohttp's own in its place never passed the edge: the expectation failed."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = _refusal(ExpectationFailed("Expect can only be 100-continue."))
        return await super().finish_response(request, resp, start_time)


def _refusal(error: ProxyError) -> web.Response:
    response = error_response(error)
    stamp(response, new_id("req"))
    response.force_close()  # nobody knows where the next request begins
    response.headers["Connection"] = "close"
    return response
