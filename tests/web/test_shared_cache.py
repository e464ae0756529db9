"""Behind Varnish, a cache that all share: nobody gets from it what was another's (R83)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest

from pixie_proxy.web.static import address_of
from tests.conftest import require
from tests.support.figures import RecordFigure
from tests.support.front_proxies import serving
from tests.support.pictures import png
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.sockets import free_port
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import HTML, cookie_of, make, sign_in
from tests.web.conftest import ProxyWith

AS_IT_COMES = """
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "%s"; }
"""
BOLD = """
sub vcl_recv {
    # As it comes, Varnish lets everything pass that has a cookie or a key. Here our own headers have to do it all.
    if (req.method == "GET" || req.method == "HEAD") { return (hash); }
}
"""
PASSWORD = "correct horse"
AT_ONCE = 8
TOLD = ("Content-Type", "ETag", "Location", "Set-Cookie", "Content-Disposition")

Answer = tuple[int, bytes, tuple[str | None, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Ask the proxy behind the cache, and remember what each caller gets without it."""

    proxy: RunningProxy
    cache: str
    known: dict[tuple[str, str, str | None], Answer] = field(default_factory=dict)

    async def ask(self, address: str, path: str, headers: Mapping[str, str]) -> tuple[Answer, bool]:
        """Give an answer without what is the request's own, and whether it came out of the cache."""
        async with self.proxy.session.get(address + path, headers=headers, allow_redirects=False) as response:
            told = tuple(
                response.headers.get(name) for name in TOLD if name == "ETag" or response.status != 304
            )
            was_kept = len(response.headers.get("X-Varnish", "").split()) == 2
            return (response.status, await response.read(), told), was_kept

    async def compare(self, caller: str, path: str, headers: Mapping[str, str]) -> tuple[bool, bool]:
        """Tell whether somebody gets through the cache what is theirs, and whether it was kept there."""
        of = (caller, path, headers.get("If-None-Match"))
        if of not in self.known:
            self.known[of], _ = await self.ask(self.proxy.url, path, headers)
        answer, was_kept = await self.ask(self.cache, path, headers)
        return answer == self.known[of], was_kept


@asynccontextmanager
async def varnish(folder: Path, target: str, rules: str) -> AsyncIterator[str]:
    """Run Varnish before `target` and give its address."""
    folder.mkdir()
    rules_file, port = folder / "rules.vcl", free_port()
    rules_file.write_text(AS_IT_COMES % urlsplit(target).port + rules)
    command = [
        *(require("varnishd"), "-F", "-j", "none", "-n", str(folder / "work"), "-f", str(rules_file)),
        *("-a", f"127.0.0.1:{port}", "-s", "malloc,32m", "-p", "thread_pool_min=10"),
    ]
    async with serving(command, port, {}):
        yield f"http://127.0.0.1:{port}"


async def _callers(proxy: RunningProxy) -> dict[str, dict[str, str]]:
    keys = {"alice": ADMIN_KEY, "bob": MEMBER_KEY, "carol": OTHER_KEY, "dan": VIEWER_KEY}
    browsers = {name: await sign_in(proxy, key) for name, key in keys.items()}
    gone = await sign_in(proxy, MEMBER_KEY)
    await gone.post("/logout")
    return {
        "a stranger": dict(HTML),
        "a wrong key": {"Authorization": "Bearer px-wrong"},
        "signed out": {**HTML, "Cookie": gone.cookie},
        **{f"{name} by key": {"Authorization": f"Bearer {key}"} for name, key in keys.items()},
        **{f"{name} in a browser": {**HTML, "Cookie": each.cookie} for name, each in browsers.items()},
    }


async def _addresses(proxy: RunningProxy, upstream: ScriptedUpstream) -> tuple[list[str], list[str], str]:
    """Make images of two people, shares and links; give the addresses, their ETags, and the cookie of an open share."""
    for n in range(4):
        upstream.script(image_json([png(64, 64, seed=n)]))
    images = {
        "private": (await make(proxy, "secret of bob"))[0],
        "carol's": (await make(proxy, "secret of carol", OTHER_KEY))[0],
        "team": (await make(proxy, "for the team"))[0],
        "public": (await make(proxy, "for all"))[0],
    }
    shares, tags, links = [], [], []
    for visibility in ("team", "public"):
        changed = {"visibility": visibility}
        await proxy.request("POST", f"/v1/images/{images[visibility]}", json=changed)
    for said in ({}, {"password": PASSWORD}):
        _, _, body = await proxy.request("POST", f"/v1/images/{images['private']}/shares", json=said)
        shares.append(urlsplit(json.loads(body)["url"]).path)
    _, headers, _ = await proxy.request(
        "POST", shares[1], key=None, data={"password": PASSWORD}, headers=HTML, allow_redirects=False
    )
    for name, image in images.items():
        key = OTHER_KEY if name == "carol's" else MEMBER_KEY
        _, answered, _ = await proxy.request("GET", f"/v1/images/{image}/content", key=key)
        tags.append(answered["ETag"])
        await proxy.request(
            "GET", f"/v1/images/{image}/thumbnail", key=key
        )  # which brings its placeholder along
        links.append(urlsplit((await proxy.get(f"/v1/images/{image}", key))["url"]).path)
    ids = list(images.values())
    return (
        [
            *("/", "/?owner=me", "/create", "/admin/acts", "/login", "/offline", "/nothing", "/public"),
            *("/v1/images", "/v1/images?owner=me", "/v1/me", "/v1/requests", "/v1/models", "/v1/admin/users"),
            *("/manifest.webmanifest", "/worker.js", address_of("base.css"), address_of("api.js")),
            *[
                f"/images/{each}" for each in ids if each != images["private"]
            ],  # its page counts its shares' views
            *[f"/v1/images/{each}{part}" for each in ids for part in ("", "/content", "/thumbnail")],
            *[f"/public/{each}{part}" for each in ids for part in ("", "/thumbnail")],
            *[f"{each}{part}" for each in shares for part in ("", "/content", "/thumbnail")],
            *links,
        ],
        tags,
        cookie_of(headers),
    )


@pytest.mark.parametrize(
    ("rules", "count"),
    [
        pytest.param(BOLD, 250, id="bold"),
        pytest.param(BOLD, 1000, id="bold, whole", marks=pytest.mark.torture),
        pytest.param("", 1000, id="as it comes", marks=pytest.mark.torture),
    ],
)
async def test_no_shared_cache_mixes_people(
    proxy_with: ProxyWith,
    upstream: ScriptedUpstream,
    tmp_path: Path,
    record_figure: RecordFigure,
    rules: str,
    count: int,
) -> None:
    """With conditions and without, eight at a time, by key, by cookie and by nobody: each gets their own answer."""
    proxy = await proxy_with(gallery={"visibility": "private", "allow_public": True})
    addresses, tags, unlocked = await _addresses(proxy, upstream)
    callers = await _callers(proxy)
    callers["a guest"] = {**HTML, "Cookie": unlocked}
    dice, room = Random(83), asyncio.Semaphore(AT_ONCE)
    mixed, kept = [], 0
    async with varnish(tmp_path / "varnish", proxy.url, rules) as cache:
        asking = Asking(proxy=proxy, cache=cache)

        async def one() -> None:
            nonlocal kept
            caller, path = dice.choice(list(callers)), dice.choice(addresses)
            headers = {**callers[caller], "Host": urlsplit(proxy.url).netloc}
            if dice.random() < 0.2:
                headers["If-None-Match"] = dice.choice(tags)
            async with room:
                is_same, was_kept = await asking.compare(caller, path, headers)
            kept += was_kept
            if not is_same:
                mixed.append(f"{path} for {caller}")

        await asyncio.gather(*[one() for _ in range(count)])
    record_figure(
        "R83",
        seed=83,
        requests=count,
        callers=len(callers),
        addresses=len(addresses),
        from_the_cache=kept,
        violations=len(mixed),
    )
    assert mixed == []
    assert (
        kept > 0 or not rules
    )  # as it comes it keeps nothing for whoever has a cookie; strangers' files are few
