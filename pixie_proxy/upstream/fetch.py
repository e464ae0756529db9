"""Fetch an image that the upstream only linked to, without becoming a door into the operator's network.

The upstream's own origin may be anything (it is the operator's choice); any other host must resolve to public addresses
only, and the connection goes to the very address that was checked. No redirect, no key, no cookie, a size cap.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

MAX_IMAGE_BYTES = 256 * 1024 * 1024
_TIMEOUT_S = 120
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class FetchRefused(Exception):
    """The image was not fetched; the text says why and holds no part of the URL."""


class _PublicResolver(AbstractResolver):
    """Resolves names to public addresses only. aiohttp connects to what this returns: nothing is looked up twice."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look a name up; one private address among the answers spoils them all."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM
        )
        if not all(is_public(str(address[0])) for *_, address in found):
            message = "the link leads to an address that is not public"
            raise FetchRefused(message)
        flags = socket.AI_NUMERICHOST
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=proto, flags=flags
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Hold nothing."""


class ImageFetcher:
    """Downloads images from links in answers."""

    def __init__(self, base_url: str) -> None:
        """Trust the origin of `base_url`, and public addresses."""
        self._origin = _origin(URL(base_url))

    async def fetch(self, url: str) -> AsyncIterator[bytes]:
        """Yield the image's bytes. Raises FetchRefused, also half way."""
        link = _parsed(url)
        is_own = _origin(link) == self._origin
        # aiohttp does not resolve a host that is an address already, so the resolver would never see it.
        if not is_own and _is_address(link.raw_host or "") and not is_public(link.raw_host or ""):
            message = "the link leads to an address that is not public"
            raise FetchRefused(message)
        connector = aiohttp.TCPConnector(resolver=None if is_own else _PublicResolver(), force_close=True)
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S, sock_connect=10),
            trust_env=False,
        ) as session:
            try:
                async for chunk in self._download(session, link):
                    yield chunk
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
                message = f"the link could not be fetched ({type(exc).__name__})"
                raise FetchRefused(message) from exc

    @staticmethod
    async def _download(session: aiohttp.ClientSession, url: URL) -> AsyncIterator[bytes]:
        async with session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                message = f"the link answered with status {response.status}"
                raise FetchRefused(message)
            size_bytes = 0
            async for chunk in response.content.iter_any():
                size_bytes += len(chunk)
                if size_bytes > MAX_IMAGE_BYTES:
                    message = "the linked image is too large"
                    raise FetchRefused(message)
                yield chunk


def is_public(address: str) -> bool:
    """Tell whether an IP address is reachable for anyone: also looks into IPv4 inside IPv6 (mapped, 6to4, NAT64)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if (
            ip not in _GLOBAL_UNICAST
        ):  # is_global knows the reserved rest only by exceptions, fewer in older Pythons
            return False
    return ip.is_global and not ip.is_multicast


def _parsed(url: str) -> URL:
    """Read a URL by the client's own parser: by another one, a host in odd digits would be no address."""
    try:
        link = URL(url)
    except ValueError:
        link = URL()
    if link.scheme not in {"http", "https"} or not link.raw_host or link.raw_user or link.raw_password:
        message = "the link is no plain http(s) URL"
        raise FetchRefused(message)
    return link


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.raw_host, url.port
