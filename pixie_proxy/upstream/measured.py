"""An upstream whose calls are timed and counted, whichever it is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Literal

from pixie_proxy.errors import UpstreamUnreachable
from pixie_proxy.metrics import Metrics
from pixie_proxy.upstream import Seen, Upstream, UpstreamRequest, UpstreamResponse, UpstreamUnframed

_Outcome = Literal["ok", "refused", "unreachable", "broken"]


class MeasuredUpstream:
    """Passes everything on to another upstream. Calls that are sent again are counted again."""

    def __init__(self, upstream: Upstream, metrics: Metrics) -> None:
        """Measure `upstream`."""
        self._upstream = upstream
        self._metrics = metrics

    def send(self, request: UpstreamRequest) -> _MeasuredSending:
        """Send a call and wait for the answer's head."""
        return _MeasuredSending(
            self._upstream.send(request), self._metrics, self._metrics.model(request.model)
        )

    async def look(self, path: str, timeout_s: float) -> Seen:
        """Ask, and count nothing."""
        return await self._upstream.look(path, timeout_s)

    async def close(self) -> None:
        """Close connections."""
        await self._upstream.close()


class _MeasuredSending:
    """One call, from its sending until we are done with its answer."""

    def __init__(
        self, sending: AbstractAsyncContextManager[UpstreamResponse], metrics: Metrics, model: str
    ) -> None:
        self._sending = sending
        self._metrics = metrics
        self._model = model
        self._began_s = 0.0
        self._response: _MeasuredResponse | None = None

    async def __aenter__(self) -> UpstreamResponse:
        self._began_s = time.perf_counter()
        self._metrics.upstream_in_flight.value += 1
        try:
            response = await self._sending.__aenter__()
        except BaseException as exc:
            self._ended("unreachable" if isinstance(exc, UpstreamUnreachable) else "broken")
            raise
        self._metrics.upstream_first_byte.observe(time.perf_counter() - self._began_s, self._model)
        self._response = _MeasuredResponse(response)
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        response = self._response
        if response is not None:
            self._metrics.upstream_bytes.add(self._model, by=response.read_bytes)
            is_refused = not 200 <= response.status < 300
            self._ended("refused" if is_refused else "ok" if response.is_whole else "broken")
        return await self._sending.__aexit__(kind, error, trace)

    def _ended(self, outcome: _Outcome) -> None:
        self._metrics.upstream_in_flight.value -= 1
        self._metrics.upstream_duration.observe(time.perf_counter() - self._began_s, self._model, outcome)


class _MeasuredResponse:
    """An answer that remembers how much of it was read."""

    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.read_bytes = 0
        self.is_whole = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        try:
            async for chunk in self._response.chunks():
                self.read_bytes += len(chunk)
                yield chunk
        except UpstreamUnframed:
            self.is_whole = True  # as far as its connection can tell
            raise
        self.is_whole = True
