"""A look at an address, for the operator: who answers there, or why does nobody? It costs nothing."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp

from pixie_proxy.upstream import Seen, Unseen

_MOST_BYTES = 64 * 1024


async def look_at(url: str, *, method: str = "GET", timeout_s: float) -> Seen:
    """Ask an address without any key. Raises Unseen."""
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, headers={"Accept-Encoding": "identity"}
    ) as session:
        return await look(session, url, method=method, timeout_s=timeout_s)


async def look(
    session: aiohttp.ClientSession,
    url: str,
    *,
    method: str = "GET",
    proxy_url: str | None = None,
    timeout_s: float,
) -> Seen:
    """Ask an address by this session, with what it sends along. Raises Unseen."""
    began_s = time.monotonic()
    body = bytearray()
    try:
        async with (
            asyncio.timeout(timeout_s),
            session.request(method, url, allow_redirects=False, proxy=proxy_url) as answer,
        ):
            took_s, at_s = time.monotonic() - began_s, time.time()
            with suppress(aiohttp.ClientPayloadError):  # what we want is in its head
                while len(body) < _MOST_BYTES and (piece := await answer.content.readany()):
                    body += piece
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Seen(status=answer.status, headers=headers, body=bytes(body), at_s=at_s, took_s=took_s)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
        raise Unseen(_reason(exc, urlsplit(url).hostname or "", timeout_s)) from exc


def _reason(exc: Exception, host: str, timeout_s: float) -> str:
    """Say why nobody was reached."""
    if isinstance(exc, TimeoutError):
        return f"no answer within {timeout_s:g} seconds"
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return f"the name {host} is not known"
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        cause = exc.certificate_error
        why = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else "not valid"
        return f"its TLS certificate is not to be trusted ({why})"
    if isinstance(exc, aiohttp.ClientSSLError):
        return "it speaks no TLS" if "WRONG_VERSION_NUMBER" in str(exc) else "TLS fails"
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return f"the HTTP proxy answers {exc.status}"
    if isinstance(exc, aiohttp.ClientProxyConnectionError):
        return "the HTTP proxy can't be reached"
    if isinstance(exc, aiohttp.ClientConnectorError):
        refused = isinstance(exc.os_error, ConnectionRefusedError)
        return "nobody listens there" if refused else "it can't be reached"
    return f"the answer is no HTTP, or broke off ({type(exc).__name__})"
