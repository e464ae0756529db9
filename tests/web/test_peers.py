"""Whose request it is: X-Forwarded-For is believed from front proxies that the settings name, and from nobody else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pixie_proxy.web import attempts, peers
from pixie_proxy.web.peers import Peers
from tests.support.proxy import MEMBER_KEY, spawn_proxy
from tests.support.upstream import ScriptedUpstream
from tests.test_logs import log_of
from tests.web.browsing import login
from tests.web.conftest import ProxyWith

FRONT = ["127.0.0.1", "10.0.0.0/8", "2001:db8:ffff::/48"]
WRONG = "px-wrong-" + "x" * 30


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["192.0.2.1, 203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["192.0.2.1", "203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["192.0.2.1, 203.0.113.7, 10.1.2.3", "10.4.5.6"], "203.0.113.7"),
        ("127.0.0.1", ["10.1.2.3, 10.4.5.6"], "10.1.2.3"),
        ("2001:db8:ffff::1", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:127.0.0.1", ["::ffff:203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("127.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("127.0.0.1", ["\t[2001:db8::7] "], "2001:db8::7"),
        ("127.0.0.1", ["fe80::1%eth0"], "fe80::1"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_front_proxy(
    peer: str, forwarded: Sequence[str], client: str
) -> None:
    """Through any number of them, in either version of IP, with or without a port."""
    assert Peers(FRONT).client(peer, forwarded) == client


@pytest.mark.parametrize(
    "peer", ["203.0.113.7", "127.0.0.2", "2001:db8:fffe::1", "::ffff:203.0.113.7", "", None]
)
def test_nobody_else_is_believed(peer: str | None) -> None:
    """A peer that is not named is the client, whatever it says; one behind a Unix socket has no address."""
    assert Peers(FRONT).client(peer, ["192.0.2.1", "10.0.0.1"]) == peer


@pytest.mark.parametrize(
    "said", ["", "unknown", "_hidden", "10.0.0.1.2", "1.2.3.4/8", "a" * 8000, "\udcff", ":", "["]
)
def test_what_is_no_address_names_nobody(said: str) -> None:
    """Then the client is whoever passed it on; what stands left of it is not looked at."""
    assert Peers(FRONT).client("127.0.0.1", [said]) == "127.0.0.1"
    assert Peers(FRONT).client("127.0.0.1", [f"192.0.2.1, {said}, 10.0.0.9"]) == "10.0.0.9"
    assert Peers(FRONT).client("127.0.0.1", [f"{said}, 192.0.2.1"]) == "192.0.2.1"


def test_a_long_list_is_not_read_to_its_end() -> None:
    """A header of a megabyte, all of them trusted, costs as much as a short one."""
    hops = ["192.0.2.1", *["10.0.0.1"] * 100_000, "10.0.0.2", *["10.0.0.3"] * (peers._MOST_HOPS - 1)]
    assert Peers(FRONT).client("127.0.0.1", [",".join(hops)]) == "10.0.0.2"


async def test_behind_a_front_proxy_each_person_has_wrong_keys_of_their_own(proxy_with: ProxyWith) -> None:
    """And an invented address in front of one's own makes no new person."""
    proxy = await proxy_with(server={"trusted_proxies": ["127.0.0.0/8"]})
    for n in range(attempts.PER_ADDRESS):
        seen = {"X-Forwarded-For": f"198.51.100.{n}, 203.0.113.7"}
        assert (await login(proxy, WRONG, **seen))[0] == 401
    assert (await login(proxy, MEMBER_KEY, **{"X-Forwarded-For": "192.0.2.1, 203.0.113.7"}))[0] == 429
    assert (await login(proxy, MEMBER_KEY, **{"X-Forwarded-For": "203.0.113.8"}))[0] == 303


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8"]])
async def test_who_is_no_front_proxy_can_not_speak_for_others(
    proxy_with: ProxyWith, trusted: list[str]
) -> None:
    """Ten wrong keys a minute are ten, under however many names."""
    proxy = await proxy_with(server={"trusted_proxies": trusted})
    for n in range(attempts.PER_ADDRESS):
        assert (await login(proxy, WRONG, **{"X-Forwarded-For": f"203.0.113.{n}"}))[0] == 401
    assert (await login(proxy, MEMBER_KEY, **{"X-Forwarded-For": "203.0.113.99"}))[0] == 429


@pytest.mark.parametrize(("trusted", "told"), [(["127.0.0.1"], "203.0.113.0/24"), ([], "127.0.0.0/24")])
async def test_the_log_tells_the_clients_network(
    tmp_path: Path, upstream: ScriptedUpstream, trusted: list[str], told: str
) -> None:
    """Of the client behind the front proxy, and no whole address of anybody."""
    async with spawn_proxy(
        tmp_path / "data", upstream.base_url, server={"trusted_proxies": trusted}
    ) as proxy:
        await proxy.request("GET", "/v1/me", headers={"X-Forwarded-For": "192.0.2.77, 203.0.113.78"})
        log = await log_of(proxy)
    assert [line["client"] for line in map(json.loads, log.splitlines()) if "route" in line] == [told]
    assert [address for address in ("192.0.2.", "113.78", "127.0.0.1") if address in log] == []
