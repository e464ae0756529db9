"""A network in front of an S3 server that breaks as told, request by request.

    async with S3Relay(ceph.url, lambda call: RESET if call.method == "PUT" else None) as relay:
        storage = ...  # with endpoint_url=relay.url
        ...
        assert [call.key for call in relay.calls if call.method == "PUT"] == [...]

The Host header is signed and passes as it came, so the server checks what the client signed.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, Self

import aiohttp
from aiohttp import web
from yarl import URL

_PIECE = 64 * 1024
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to a call.

    error: it is answered with `status` and `code`, and does not reach the server · reset: the connection breaks before
    it does · lost: after it did, in the place of the answer · held: it does, and is never answered · stall: it waits
    for `for_s`, then passes · cut: the answer breaks off behind `at` bytes of its body · short: it is whole with only
    these · flip: a bit of the body that goes to (`PUT`) or comes from the server is another, `at` bytes in.
    """

    kind: Literal["error", "reset", "lost", "held", "stall", "cut", "short", "flip"]
    status: int = 500
    code: str = "InternalError"
    for_s: float = 0
    at: int = 0


RESET, LOST = Fault(kind="reset"), Fault(kind="lost")


@dataclass(slots=True, kw_only=True)
class Call:
    """One request, how many of its method and path came before, and what happened to it."""

    method: str
    key: str
    query: str
    size_bytes: int
    tries: int
    fault: Fault | None = None
    status: int | None = None


Plan = Callable[[Call], Fault | None]


def calm(call: Call) -> Fault | None:
    """Let everything pass."""
    return None


def always(fault: Fault) -> Plan:
    """Let the same happen to every call."""
    return lambda _: fault


def flaky(seed: int, *, stalls: float = 0) -> Plan:
    """Let three calls in ten fail: 500, 503, resets, lost answers, and, as a share of all, silences of five seconds."""
    lot = Random(seed)
    slow_down = Fault(kind="error", status=503, code="SlowDown")
    others = [Fault(kind="error", status=500), slow_down, RESET, LOST]

    def plan(call: Call) -> Fault | None:
        drawn = lot.random()
        if drawn < stalls:
            return Fault(kind="stall", for_s=5)
        return lot.choice(others) if drawn < 0.3 else None

    return plan


class S3Relay:
    """The relay. `calls` are all that came; `plan` may be changed at any time."""

    def __init__(self, target: str, plan: Plan = calm) -> None:
        """Pass on to `target`, a URL without a path."""
        self.plan = plan
        self.calls: list[Call] = []
        self._tries: Counter[tuple[str, str, str]] = Counter()
        self._target = target
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        self._session: aiohttp.ClientSession | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def keys(self, method: str) -> list[str]:
        """Give the keys (without the bucket) of all calls of a method that the server answered well, in order."""
        return [
            call.key
            for call in self.calls
            if call.method == method and call.status is not None and call.status < 300
        ]

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0),
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
        )
        await self._runner.setup()
        await self.come_back()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()
        assert self._session is not None
        await self._session.close()

    async def go_away(self) -> None:
        """Stop listening, and cut what is open: connections are refused from now on."""
        for site in tuple(self._runner.sites):
            await site.stop()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def come_back(self) -> None:
        """Listen again, at the same address."""
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = bytearray(await request.content.read())
        path, _, query = request.raw_path.partition("?")
        key = path.removeprefix("/").partition("/")[2]
        tries = self._tries[request.method, key, query]
        self._tries[request.method, key, query] += 1
        call = Call(method=request.method, key=key, query=query, size_bytes=len(body), tries=tries)
        self.calls.append(call)
        call.fault = fault = self.plan(call)
        if fault is not None:
            if fault.kind == "error":
                text = f"<Error><Code>{fault.code}</Code><Message>{fault.code}</Message></Error>"
                return web.Response(status=fault.status, text=text, content_type="application/xml")
            if fault.kind == "reset":
                return _broken(request)
            if fault.kind == "stall":
                await asyncio.sleep(fault.for_s)
            if fault.kind == "flip" and request.method == "PUT":
                body[fault.at] ^= 1
        assert self._session is not None
        async with self._session.request(
            request.method,
            URL(self._target + request.raw_path, encoded=True),
            headers=[(name, value) for name, value in request.headers.items() if name != "Content-Length"],
            data=io.BytesIO(body) if body or request.method == "PUT" else None,
            allow_redirects=False,
        ) as answer:
            data = bytearray(await answer.read())
            call.status = answer.status
            if fault is not None and fault.kind == "held":
                await asyncio.sleep(60)
            if fault is not None and fault.kind == "lost":
                return _broken(request)
            return await self._answer(request, answer, data, fault)

    async def _answer(
        self,
        request: web.BaseRequest,
        answer: aiohttp.ClientResponse,
        data: bytearray,
        fault: Fault | None,
    ) -> web.StreamResponse:
        spoils = fault is not None and request.method == "GET" and answer.status in {200, 206}
        kind, at = (fault.kind, fault.at) if fault is not None and spoils else (None, 0)
        if kind == "flip" and len(data) > at:
            data[at] ^= 1
        if kind == "short":
            del data[at:]
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                response.headers.add(name, value)
        is_head = request.method == "HEAD"
        response.content_length = int(answer.headers.get("Content-Length", 0)) if is_head else len(data)
        await response.prepare(request)
        if kind == "cut":
            await response.write(bytes(data[:at]))
            return _broken(request)
        if not is_head:
            for start in range(0, len(data), _PIECE):
                await response.write(bytes(data[start : start + _PIECE]))
        await response.write_eof()
        return response


def _broken(request: web.BaseRequest) -> web.Response:
    """Break the connection; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
