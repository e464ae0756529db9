"""Whose request it is: the client's address, as far as front proxies that we know vouch for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web

_MOST_HOPS = 32
"""Entries of X-Forwarded-For that are looked at, from the right: more proxies in a row than anybody has."""


class Peers:
    """The front proxies whose X-Forwarded-For is believed: `trusted` are their addresses and networks."""

    def __init__(self, trusted: Iterable[str]) -> None:
        """Take what the settings have checked. Raises ValueError if one is neither."""
        self._trusted: list[IPv4Network | IPv6Network] = [ip_network(each) for each in trusted]

    def client(self, peer: str | None, forwarded: Sequence[str]) -> str | None:
        """Give the client's address; `forwarded` are the values of X-Forwarded-For in their order.

        Every proxy appends whom it was called by, so what stands right was said by those near us, and what stands left
        may be anybody's invention: the client is the rightmost address that is not a trusted proxy's. What is no
        address at all ends the search at the proxy that passed it on. None: the peer has no address.
        """
        address = _address(peer or "")
        if address is None or not self._trusts(address):
            return peer
        for hop in reversed(",".join(forwarded).rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]):
            named = _address(hop.strip(" \t"))
            if named is None:
                break
            address = named
            if not self._trusts(address):
                break
        return str(address)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


PEERS: web.AppKey[Peers] = web.AppKey("peers")


def client_of(request: web.Request) -> str | None:
    """Tell where a request came from: see `Peers.client`."""
    return request.app[PEERS].client(request.remote, request.headers.getall("X-Forwarded-For", ()))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, with or without a port: 192.0.2.1:80, [2001:db8::1]:80. IPv4 in IPv6 is IPv4 to us."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if found.version == 6 else found
