"""Fetching an image that the upstream only linked to: never a door into the operator's network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from pixie_proxy.upstream import fetch
from pixie_proxy.upstream.fetch import FetchRefused, ImageFetcher, is_public
from tests.support.pictures import png
from tests.support.upstream import ScriptedUpstream, body, cut, head

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
PRIVATE = {
    "this host": "0.0.0.0",
    "loopback": "127.0.0.1",
    "loopback's rest": "127.255.255.254",
    "loopback 6": "::1",
    "unspecified 6": "::",
    "private 10": "10.1.2.3",
    "private 172": "172.31.255.255",
    "private 192": "192.168.0.1",
    "link-local": "169.254.0.1",
    "cloud metadata": "169.254.169.254",
    "cloud metadata 6": "fd00:ec2::254",
    "link-local 6": "fe80::1",
    "link-local 6 with a zone": "fe80::1%eth0",
    "site-local 6": "fec0::1",
    "unique local": "fd12:3456::1",
    "carrier-grade NAT": "100.64.0.1",
    "benchmarks": "198.18.0.1",
    "documentation": "203.0.113.7",
    "documentation 6": "2001:db8::1",
    "multicast": "224.0.0.251",
    "multicast 6": "ff0e::1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped private": "::ffff:10.0.0.1",
    "compatible loopback": "::127.0.0.1",
    "6to4 of a private one": "2002:a00:1::1",
    "NAT64 of loopback": "64:ff9b::7f00:1",
    "NAT64 of metadata": "64:ff9b::a9fe:a9fe",
    "local NAT64": "64:ff9b:1::a00:1",
    "Teredo": "2001::1",
    "discard only": "100::1",
    "segment routing": "5f00::1",
    "never assigned": "4000::1",
}


async def fetched(fetcher: ImageFetcher, url: str) -> bytes:
    return b"".join([chunk async for chunk in fetcher.fetch(url)])


@pytest.fixture
async def stranger() -> AsyncIterator[ScriptedUpstream]:
    """Serve a host that is not the upstream's own origin, on loopback."""
    async with ScriptedUpstream() as server:
        server.default(head(200), body(b"secret"))
        yield server


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_public(address: str) -> None:
    """Also inside an IPv6 that stands for it."""
    assert is_public(address)


@pytest.mark.parametrize("name", PRIVATE)
def test_no_other_address_is(name: str) -> None:
    """Whatever it is wrapped in."""
    assert not is_public(PRIVATE[name])


async def test_an_image_of_the_upstreams_own_origin_is_fetched(upstream: ScriptedUpstream) -> None:
    """Its address may be private: it is the operator's choice. No key and no cookie goes along."""
    picture = png(size_bytes=600_000)
    upstream.script(head(200, [("Set-Cookie", "a=b")]), body(picture))
    upstream.script(head(200), body(b"again"))
    fetcher = ImageFetcher(upstream.base_url)
    url = upstream.base_url.replace("/v1", "/files/a.png")
    assert await fetched(fetcher, url) == picture
    assert await fetched(fetcher, url) == b"again"
    assert [request.path for request in upstream.requests] == ["/files/a.png"] * 2
    assert {
        request.header(name) for request in upstream.requests for name in ("Authorization", "Cookie")
    } == {None}


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.",
     "0", "１２７.0.0.1", "127。0。0。1", "①27.0.0.1", "LOCALHOST", "localhost."],
)  # fmt: skip
async def test_another_host_must_be_public(
    upstream: ScriptedUpstream, stranger: ScriptedUpstream, host: str
) -> None:
    """However its address is written, nobody there hears of it."""
    port = stranger.base_url.split(":")[2].split("/")[0]
    with pytest.raises(FetchRefused) as refused:
        await fetched(ImageFetcher(upstream.base_url), f"http://{host}:{port}/latest/meta-data")
    assert (stranger.connections, upstream.connections) == (0, 0)
    assert "meta-data" not in str(refused.value)


async def test_the_port_is_part_of_the_origin(upstream: ScriptedUpstream, stranger: ScriptedUpstream) -> None:
    """Another service on the upstream's host is a stranger."""
    with pytest.raises(FetchRefused):
        await fetched(ImageFetcher(upstream.base_url), f"{stranger.base_url}/x")
    assert stranger.connections == 0


async def test_one_private_address_spoils_a_name(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that mixes a public address with a private one is up to something."""

    async def answers(*args: object, **options: object) -> list[object]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("8.8.8.8", 80)), (*kind, ("10.0.0.1", 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answers)
    with pytest.raises(FetchRefused, match="not public"):
        await fetched(ImageFetcher(upstream.base_url), "http://images.example.org/x")


async def test_the_address_that_was_checked_is_the_one_that_is_used(
    upstream: ScriptedUpstream, stranger: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is looked up once: a second answer could be another one."""
    monkeypatch.setattr(fetch, "is_public", bool)
    asked = []
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def answers(host: str, port: int, **options: object) -> object:
        asked.append(host)
        return await look_up("127.0.0.1", port, type=socket.SOCK_STREAM)

    monkeypatch.setattr(loop, "getaddrinfo", answers)
    port = stranger.base_url.split(":")[2].split("/")[0]
    assert await fetched(ImageFetcher(upstream.base_url), f"http://images.example.org:{port}/x") == b"secret"
    assert [host for host in asked if host == "images.example.org"] == ["images.example.org"]


@pytest.mark.parametrize(
    "url",
    ["", "/etc/passwd", "file:///etc/passwd", "ftp://example.org/x", "data:image/png;base64,AA==", "//example.org/x",
     "http://", "http:///x", "http://user:pw@example.org/x", "http://[::1/x", "http://a:99999/x", "javascript:1"],
)  # fmt: skip
async def test_only_plain_http_addresses_are_links(url: str) -> None:
    """No file, no credentials, nothing broken."""
    with pytest.raises(FetchRefused, match="plain http"):
        await fetched(ImageFetcher("https://api.openai.com/v1"), url)


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 404, 500])
async def test_only_a_plain_answer_counts(
    upstream: ScriptedUpstream, stranger: ScriptedUpstream, status: int
) -> None:
    """A redirect is not followed."""
    upstream.script(head(status, [("Location", f"{stranger.base_url}/x")]))
    with pytest.raises(FetchRefused, match=str(status)):
        await fetched(ImageFetcher(upstream.base_url), f"{upstream.base_url}/x")
    assert stranger.connections == 0


async def test_an_image_has_a_largest_size(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endless one is cut off at it."""
    monkeypatch.setattr(fetch, "MAX_IMAGE_BYTES", 100_000)
    upstream.script(head(200, framing="eof"), body(bytes(100_000)))
    upstream.script(head(200, framing="eof"), body(bytes(100_001)))
    fetcher = ImageFetcher(upstream.base_url)
    assert len(await fetched(fetcher, f"{upstream.base_url}/x")) == 100_000
    with pytest.raises(FetchRefused, match="too large"):
        await fetched(fetcher, f"{upstream.base_url}/x")


async def test_half_an_image_is_none(upstream: ScriptedUpstream) -> None:
    """The refusal comes where the bytes end."""
    upstream.script(head(200, length=100), body(b"x" * 50), cut("rst"))
    with pytest.raises(FetchRefused, match="could not be fetched"):
        await fetched(ImageFetcher(upstream.base_url), f"{upstream.base_url}/x")
