"""The only door out: an HTTP client that follows no redirect, keeps no cookie and adds the operator's key last.

aiohttp follows redirects by default, re-sends the body on 307 and 308, and strips only `Authorization` on the way to
another host; none of that may happen to a prompt or to the operator's key.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress

import aiohttp
from aiohttp.client import _RequestContextManager
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from pixie_proxy import __version__
from pixie_proxy.config import UpstreamSettings
from pixie_proxy.errors import UpstreamUnreachable
from pixie_proxy.upstream import FilePart, Seen, TextPart, UpstreamCut, UpstreamRequest, UpstreamUnframed
from pixie_proxy.upstream.connections import QuietConnector
from pixie_proxy.upstream.looking import look

_CUTS = (aiohttp.ClientError, HttpProcessingError, RuntimeError, TimeoutError, OSError)
"""What a broken answer raises: aiohttp's own errors, its parser's, and a bare RuntimeError where the parser gave up."""

_LOOK_S = 1.0
"""How often a call that waits looks whether it still has a connection."""

_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
"""What is raised before the first byte of a request leaves for the upstream."""

_FILE_PIECE_BYTES = 256 * 1024


class OpenAIResponse:
    """An answer of the upstream's whose head has arrived."""

    def __init__(self, response: aiohttp.ClientResponse, deadline: float) -> None:
        """Wrap aiohttp's response, which has to end by `deadline` of the loop's clock."""
        self._response = response
        self._deadline = deadline
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, all of it that came before a cut."""
        content = self._response.content
        try:
            while chunk := await self._next(content):
                yield chunk
        except _CUTS as exc:
            # aiohttp raises as soon as it knows of the cut, and would drop what was not read by then: paid images.
            while rest := content._read_nowait(-1):  # noqa: SLF001
                yield rest
            raise UpstreamCut(type(exc).__name__) from exc
        if "content-length" not in self.headers and "chunked" not in self.headers.get(
            "transfer-encoding", ""
        ):
            raise UpstreamUnframed("unframed")

    async def _next(self, content: aiohttp.StreamReader) -> bytes:
        """Wait for bytes. Where its parser refuses a chunk, aiohttp closes the connection and tells nobody: we look."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout_at(min(self._deadline, loop.time() + _LOOK_S)):
                    return await content.readany()
            except TimeoutError:
                is_lost = (connection := self._response.connection) is None or connection.transport is None
                if is_lost or content.exception() is not None or loop.time() >= self._deadline:
                    raise


class _Sending:
    """A call on its way out, and its answer until we are done with it."""

    def __init__(
        self, sending: _RequestContextManager, body: bytes | AsyncGenerator[bytes], patience_s: float
    ) -> None:
        self._sending = sending
        self._body = body
        self._patience_s = patience_s
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> OpenAIResponse:
        deadline = asyncio.get_running_loop().time() + self._patience_s
        try:
            async with asyncio.timeout_at(deadline):
                self._response = await self._sending
        except _NOT_SENT as exc:
            await self._close_body()
            message = "The upstream can't be reached. Nothing was sent, so nothing was charged."
            raise UpstreamUnreachable(message, headers={"retry-after": "5"}) from exc
        except _CUTS as exc:
            await self._close_body()
            raise UpstreamCut(type(exc).__name__) from exc
        return OpenAIResponse(self._response, deadline)

    async def __aexit__(self, *_: object) -> None:
        # Not `release` alone: an answer that we leave half-read must not be drained for the sake of its connection.
        if self._response is not None:
            if self._response.content.at_eof():
                self._response.release()
            else:
                self._response.close()
        await self._close_body()

    async def _close_body(self) -> None:
        """Close the file that a form was being read from when the upstream had heard enough."""
        if not isinstance(self._body, bytes):
            with suppress(RuntimeError):  # its writer is in the middle of it, and ends it
                await self._body.aclose()


class OpenAIUpstream:
    """Any server that speaks OpenAI's Images API, reached over HTTP."""

    def __init__(self, settings: UpstreamSettings) -> None:
        """Open the client session; needs a running loop."""
        self._base_url = settings.base_url
        self._proxy_url = settings.proxy_url
        self._connect_timeout_s = settings.connect_timeout_s
        self._idle_timeout_s = settings.idle_timeout_s
        self._urls: dict[str, URL] = {}
        self._session = aiohttp.ClientSession(
            headers=_fixed_headers(settings),
            connector=QuietConnector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.idle_timeout_s
            ),
            read_bufsize=65536,
            auto_decompress=True,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            max_line_size=32768,
            max_field_size=32768,
        )

    def send(self, request: UpstreamRequest) -> _Sending:
        """Send a call and wait for the answer's head.

        An upstream that is never silent and never ends is bounded too: each image may take as long as a silence may.
        """
        url = self._urls.get(request.path)
        if url is None:
            url = self._urls[request.path] = URL(self._base_url + request.path)
        body, headers = _encode(request)
        headers["X-Client-Request-Id"] = request.request_id
        sending = self._session.post(
            url, data=body, headers=headers, allow_redirects=False, proxy=self._proxy_url
        )
        return _Sending(sending, body, self._connect_timeout_s + self._idle_timeout_s * (1 + request.images))

    async def look(self, path: str, timeout_s: float) -> Seen:
        """Ask by the way that paid calls take."""
        return await look(
            self._session, self._base_url + path, proxy_url=self._proxy_url, timeout_s=timeout_s
        )

    async def close(self) -> None:
        """Close connections."""
        await self._session.close()


def _fixed_headers(settings: UpstreamSettings) -> dict[str, str]:
    headers = {
        "Accept": "application/json, text/event-stream",
        "Accept-Encoding": "identity",
        "User-Agent": f"pixie-proxy/{__version__}",
    }
    if settings.organization:
        headers["OpenAI-Organization"] = settings.organization
    if settings.project:
        headers["OpenAI-Project"] = settings.project
    if settings.api_key and settings.api_key.get_secret_value():
        headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
    return headers


def _encode(request: UpstreamRequest) -> tuple[bytes | AsyncGenerator[bytes], dict[str, str]]:
    """Turn a call into a body and its framing headers; forms get a length, for some servers refuse chunks."""
    if request.json is not None:
        return request.json, {"Content-Type": "application/json"}
    boundary = f"pixie-{secrets.token_hex(16)}"
    heads = [_part_head(part, boundary) for part in request.form]
    tail = f"--{boundary}--\r\n".encode()
    sizes = [part.size_bytes if isinstance(part, FilePart) else len(part.value) for part in request.form]
    length = sum(map(len, heads)) + sum(sizes) + 2 * len(sizes) + len(tail)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(length)}
    return _form_body(request.form, heads, tail), headers


async def _form_body(
    parts: tuple[TextPart | FilePart, ...], heads: list[bytes], tail: bytes
) -> AsyncGenerator[bytes]:
    for part, head in zip(parts, heads, strict=True):
        if isinstance(part, TextPart):
            yield head + part.value + b"\r\n"
            continue
        yield head
        # Opened here and not in a thread: whoever is cancelled while he waits for one loses the file that it opens.
        with open(part.path, "rb") as file:  # noqa: ASYNC230, PTH123 - a file of our own, made a moment ago
            while piece := await asyncio.to_thread(file.read, _FILE_PIECE_BYTES):
                yield piece
        yield b"\r\n"
    yield tail


def _part_head(part: TextPart | FilePart, boundary: str) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(part.name)}"'
    if isinstance(part, FilePart):
        head += f'; filename="{_quoted(part.filename)}"\r\nContent-Type: {part.mime}'
    return f"{head}\r\n\r\n".encode()


def _quoted(text: str) -> str:
    """Escape a name as browsers do (WHATWG HTML, multipart/form-data encoding): it can't end the header."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
