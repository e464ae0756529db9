"""Every route, method and kind of caller; every id of another's; every field that is not one's to write (R65–R67, R75).

The matrices are made of the list of routes, so that a new one is in them by itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product
from random import Random
from typing import Any, Literal, get_args

import orjson
import pytest

from pixie_proxy.accounts import keyring, people
from pixie_proxy.accounts.keys import digest, new_key
from pixie_proxy.index import Tx
from pixie_proxy.web.routes import ROUTES, Route
from tests.support.dead_keys import make_dead_keys
from tests.support.figures import RecordFigure
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream
from tests.web.browsing import make, sign_in
from tests.web.calling import CAT, GENERATIONS, context_of, ended, noted
from tests.web.conftest import ProxyWith
from tests.web.routing import path_of, whole_index

Role = Literal["viewer", "member", "admin"]
Proof = Literal["key", "token", "none", "foreign"]
Outcome = Literal["in", "nobody", "forbidden", "forged"]

READS = ("GET", "HEAD")
PAGES = ("page", "maker page", "admin page")
HARMLESS = frozenset({"/create/incoming"})
"""Where a form of another site may be sent: it is not read, and changes nothing."""

PROOFS: frozenset[Proof] = frozenset(get_args(Proof))
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
TRICKS: list[dict[str, str]] = [
    {},
    {"X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"},
    {"X-Forwarded-Host": "localhost", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/login"},
    {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1;host=localhost"},
    {"X-HTTP-Method-Override": "GET", "X-Forwarded-User": "alice", "Remote-User": "alice"},
    {"X-Api-Key": ADMIN_KEY, "Api-Key": ADMIN_KEY, "Proxy-Authorization": f"Bearer {ADMIN_KEY}"},
]
LAST = sorted(ROUTES, key=lambda route: route.path == "/logout")
"""Every route; the one that ends sessions comes when nobody needs them any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who calls. `role` None: nobody who is known.

    `proof`: a key, or a cookie with the token of our own pages, without one, or from another site.
    """

    headers: Mapping[str, str]
    role: Role | None = None
    proof: Proof = "key"

    def expected(self, route: Route, method: str) -> Outcome:
        """Tell what a route's declared access makes of them."""
        is_read, is_page = method in READS, route.access in PAGES
        if route.access == "open":
            is_forged = self.proof == "foreign" and not is_read and route.path not in HARMLESS
            return "forged" if is_forged else "in"
        takes = (
            {"token", "none", "foreign"} if is_page else {"key"} if route.access == "admin key" else PROOFS
        )
        if self.role is None or self.proof not in takes:
            return "nobody"
        if self.proof == "foreign" and not (is_read and is_page):
            return "forged"
        if self.proof == "none" and not is_read:
            return "forged"
        is_admins = route.access in {"admin", "admin key", "admin page"}
        is_makers = route.access in {"maker", "maker page"}
        barred = (is_admins and self.role != "admin") or (is_makers and self.role == "viewer")
        return "forbidden" if barred else "in"


async def other_keys(proxy: RunningProxy) -> tuple[dict[str, str], str]:
    """Make keys that are no good, by what is wrong with them, and one that is for little."""
    limited = new_key()

    def work(tx: Tx) -> dict[str, str]:
        limits = {"requests_per_minute": 1, "usd_total": 0.0}
        bob = people.find_user(tx, "bob")
        keyring.add_key(tx, bob, "d", None, key_text=limited, limits=limits, models=("none",))
        return make_dead_keys(tx)

    dead = await context_of(proxy).index.write(work)
    await context_of(proxy).directory.load()
    half = MEMBER_KEY[: len(MEMBER_KEY) // 2]
    return {**dead, "wrong": new_key(), "digest": digest(MEMBER_KEY), "half": half}, limited


async def everybody(proxy: RunningProxy, bad: Mapping[str, str], limited: str) -> dict[str, Caller]:
    """Give every kind of caller, browsers with new sessions."""
    roles: dict[Role, str] = {"viewer": VIEWER_KEY, "member": MEMBER_KEY, "admin": ADMIN_KEY}
    callers = {"nobody": Caller(headers={})}
    callers |= {f"{name} key": Caller(headers=bearer(key)) for name, key in bad.items()}
    callers |= {f"{role} by key": Caller(headers=bearer(key), role=role) for role, key in roles.items()}
    callers["other member"] = Caller(headers=bearer(OTHER_KEY), role="member")
    callers["limited key"] = Caller(headers=bearer(limited), role="member")
    for role, key in roles.items():
        browsers = [await sign_in(proxy, key) for _ in range(3)]
        cookies = [{"Cookie": browser.cookie} for browser in browsers]
        ours = {"Origin": proxy.url, "X-CSRF-Token": browsers[0].csrf}
        theirs = {
            "Origin": "https://evil.example",
            "Sec-Fetch-Site": "cross-site",
            "X-CSRF-Token": browsers[2].csrf,
        }
        callers[f"{role} in a browser"] = Caller(headers=cookies[0] | ours, role=role, proof="token")
        callers[f"{role} without the token"] = Caller(
            headers=cookies[1] | {"Origin": proxy.url}, role=role, proof="none"
        )
        callers[f"{role} from elsewhere"] = Caller(headers=cookies[2] | theirs, role=role, proof="foreign")
    out = await sign_in(proxy, MEMBER_KEY)
    await out.post("/logout")
    callers["signed out"] = Caller(
        headers={"Cookie": out.cookie, "Origin": proxy.url, "X-CSRF-Token": out.csrf}
    )
    return callers


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def outcome(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Tell what a caller met: the guard, or what is behind it."""
    if status == 303 and headers["Location"].startswith("/login") and "Set-Cookie" not in headers:
        return "nobody"
    code = ""
    if headers.get("Content-Type", "").startswith("application/json") and status in {401, 403}:
        code = orjson.loads(body)["error"]["code"]
    found: dict[str, Outcome] = {
        "invalid_api_key": "nobody", "permission_denied": "forbidden", "csrf_failed": "forged",
    }  # fmt: skip
    return found.get(code, "in")


@pytest.mark.parametrize("tricks", [TRICKS[:1], pytest.param(TRICKS, marks=pytest.mark.torture)], ids=len)
async def test_every_route_asks_everybody(
    proxy: RunningProxy, record_figure: RecordFigure, tricks: list[dict[str, str]]
) -> None:
    """Whoever calls meets what the route's access says; HEAD is as GET; other methods open nothing; nothing changes."""
    bad, limited = await other_keys(proxy)
    await noted(proxy)
    before = await whole_index(proxy, without=("sessions",))
    cells, wrong = 0, []
    names: set[str] = set()
    for trick in tricks:
        callers = await everybody(proxy, bad, limited)
        names |= callers.keys()
        for route, (name, caller) in product(LAST, callers.items()):
            path, headers = path_of(route.path), {**trick, **caller.headers}
            answer = await proxy.request(route.method, path, key=None, headers=headers, allow_redirects=False)
            met, wanted = outcome(*answer), caller.expected(route, route.method)
            cells += 1
            if met != wanted:
                wrong.append(f"{route.method} {route.path} by {name}, {trick}: {met}, not {wanted}")
            if route.method == "GET":
                cells += 1
                head = await proxy.request("HEAD", path, key=None, headers=headers, allow_redirects=False)
                if (head[0], head[2]) != (answer[0], b""):
                    wrong.append(f"HEAD {route.path} by {name}, {trick}: {head[0]}, not {answer[0]}")
    more, opened = await other_methods(proxy)
    record_figure(
        "R65", routes=len(ROUTES), callers=len(names), cells=cells + more, violations=len(wrong + opened)
    )
    assert wrong + opened == []
    assert await whole_index(proxy, without=("sessions",)) == before


async def other_methods(proxy: RunningProxy) -> tuple[int, list[str]]:
    """Use every address with methods that it has no route for; give the count, and what was not refused."""
    routed = {(route.method, route.path) for route in ROUTES}
    cells = [
        (path, method, key)
        for path, method, key in product(sorted({route.path for route in ROUTES}), METHODS, (None, ADMIN_KEY))
        if (method.replace("HEAD", "GET"), path) not in routed
    ]
    opened = []
    for path, method, key in cells:
        status, _, _ = await proxy.request(method, path_of(path), key=key, allow_redirects=False)
        if status not in {303, 401, 404, 405, 415}:  # 415: what /v1/images/{id} says to no JSON
            opened.append(f"{method} {path}: {status}")
    return len(cells), opened


# --- What is another's ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, pytest.param(25, marks=pytest.mark.torture)])
async def test_whats_not_yours_looks_like_nothing(
    proxy_with: ProxyWith, record_figure: RecordFigure, count: int
) -> None:
    """Every address and filter that takes an id answers for another's as for none: status, body and headers."""
    proxy = await proxy_with(gallery={"visibility": "private"})
    privates = [(await make(proxy, "secret"))[0] for _ in range(count)]
    gone = [(await make(proxy, "secret"))[0] for _ in range(count)]
    private, deleted = privates[0], gone[0]
    shown = await proxy.get(f"/v1/images/{deleted}")
    requests = [call["id"] for call in (await proxy.get("/v1/requests?limit=100"))["data"]]
    for image in gone:
        await proxy.request("DELETE", f"/v1/images/{image}")
    keys = (await proxy.get("/v1/admin/keys?user=bob", ADMIN_KEY))["data"]
    owner = (await proxy.get("/v1/admin/users/bob", ADMIN_KEY))["id"]
    kinds: dict[str, list[str]] = {
        "img": privates + gone,
        "req": requests,
        "key": [keys[0]["id"]],
        "usr": [owner],
    }
    unknown = {kind: ids[0][:-4] + "0000" for kind, ids in kinds.items()}
    callers = {
        "nobody": {},
        **{key: bearer(key) for key in (OTHER_KEY, VIEWER_KEY)},
        **{f"cookie {key}": await _cookie(proxy, key) for key in (OTHER_KEY, VIEWER_KEY)},
    }
    cells, wrong = 0, []
    for method, path, kind in _addresses():
        none = unknown[kind]
        others = [
            *kinds[kind],
            *[ids[0] for other, ids in kinds.items() if other != kind],
            f"{kind}_~",
            "~" * 30,
        ]
        if not path.startswith("/v1") or "?" in path:  # other addresses; no ids at all
            others = kinds[kind]
        for name, headers in callers.items():
            expected = await _seen(proxy, method, path, none, headers)
            for each in others:
                cells += 1
                if await _seen(proxy, method, path, each, headers) != expected:
                    wrong.append(f"{method} {path} with {each} by {name}")
    linked = shown["url"].rpartition("/")[2]
    for name in (linked, linked.replace(deleted, private), linked.replace(deleted, unknown["img"])):
        cells += 1
        if (await _seen(proxy, "GET", "/i/ID", name, {}))[0] != 404:
            wrong.append(f"/i/{name}")
    record_figure("R66", callers=len(callers), cells=cells, violations=len(wrong))
    assert wrong == []


def _addresses() -> list[tuple[str, str, str]]:
    """Give every address that takes an id as (method, path, kind of id), and every filter that does."""
    found = [
        ("GET", "/v1/images?after=ID", "img"),
        ("GET", "/v1/images?before=ID", "img"),
        ("GET", "/?after=ID", "img"),
        ("GET", "/v1/requests?after=ID", "req"),
        ("GET", "/v1/requests?key=ID", "key"),
        ("GET", "/v1/requests?owner=ID", "usr"),
        ("GET", "/v1/images?owner=ID", "usr"),
        ("GET", "/v1/usage?since=1&until=2&owner=ID", "usr"),
    ]
    for route in ROUTES:
        for hole in ("{id}", "{key}", "{user}"):
            if hole in route.path:
                kind = (
                    "req"
                    if "/requests" in route.path
                    else {"{id}": "img", "{key}": "key", "{user}": "usr"}[hole]
                )
                found.append((route.method, route.path.replace(hole, "ID"), kind))
    assert len(found) >= 20
    return found


async def _cookie(proxy: RunningProxy, key: str) -> dict[str, str]:
    browser = await sign_in(proxy, key)
    return {"Cookie": browser.cookie, "Origin": proxy.url, "X-CSRF-Token": browser.csrf}


async def _seen(
    proxy: RunningProxy, method: str, path: str, which: str, headers: Mapping[str, str]
) -> tuple[int, str, tuple[str, ...]]:
    """Give an answer without what is the request's own."""
    sent: dict[str, Any] = {}
    if method != "GET":
        sent = {"json" if path.startswith("/v1") else "data": {"visibility": "team"}}
    status, answered, body = await proxy.request(
        method, path.replace("ID", which), key=None, headers=headers, allow_redirects=False, **sent
    )
    own = {"x-request-id", "date", "content-length"}
    told = sorted(f"{name}: {value}" for name, value in answered.items() if name.lower() not in own)
    return status, body.decode().replace(which, "ID"), tuple(line.replace(which, "ID") for line in told)


VIEWS = (
    "/v1/images", "/v1/images?limit=1", "/v1/images?order=asc", "/v1/images?q=secret", "/v1/images?owner=bob",
    "/v1/images?model=gpt-image-2", "/v1/requests", "/v1/requests?owner=bob", "/v1/usage?since=1&until=2",
    "/v1/credits/balance", "/v1/me", "/v1/models", "/",
)  # fmt: skip


@pytest.mark.parametrize("steps", [15, pytest.param(1000, marks=pytest.mark.torture)])
async def test_anothers_private_images_change_nothing(
    proxy_with: ProxyWith, record_figure: RecordFigure, steps: int
) -> None:
    """Whatever one makes, deletes or restores, the other's lists, pages and searches stay byte for byte."""
    proxy = await proxy_with(gallery={"visibility": "private"})
    await make(proxy, "my own secret", OTHER_KEY)
    await noted(proxy)
    cookie = await _cookie(proxy, OTHER_KEY)

    async def world() -> list[Any]:
        return [
            await _seen(proxy, "GET", view, "\0", bearer(OTHER_KEY) if view != "/" else cookie)
            for view in VIEWS
        ]

    random, before, mine = Random(67), await world(), [*await make(proxy, "secret of bob")]
    differing = 0
    for _ in range(steps):
        image = random.choice(mine)
        act = random.choice(["make", "DELETE", "restore", "look"])
        if act == "make":
            mine += await make(proxy, f"secret {random.random()}")
        elif act == "DELETE":
            await proxy.request("DELETE", f"/v1/images/{image}")
        elif act == "restore":
            await proxy.request("POST", f"/v1/images/{image}/restore")
        else:
            await proxy.request("GET", f"/v1/images/{image}/content")
        differing += await world() != before
    record_figure("R67", seed=67, steps=steps, answers=steps * len(VIEWS), violations=differing)
    assert differing == 0
    assert before[0][1].count('"object":"image"') == 1


# --- What is not one's to write ---------------------------------------------------------------------------------------

GRANTS: dict[str, Any] = {
    "role": "admin", "disabled": False, "limits": {"usd_per_day": None}, "usd_total": 1e6, "budget": 1e6,
    "models": [], "key_models": [], "scope": "admin", "is_admin": True, "owner": "alice", "owner_id": "usr_x",
    "user_id": "usr_x", "user": "alice", "key": "key_x", "key_id": "key_x", "name": "root", "price": 0,
    "prices": {"gpt-image-2": {"usd_per_image": 0}}, "cost_usd": 0, "cost_micros": 0, "hold_micros": 0,
    "hold_usd": 0, "usage": {"input_tokens": 0, "output_tokens": 0}, "state": "failed", "overlap_s": 0,
    "expires_in_s": 10**6, "created": 0, "team_limits": {}, "__class__": "x",
}  # fmt: skip
"""What would be worth something to whoever could set it."""


OWN = {"/v1/images/estimate", "/v1/images/{id}/favorite", "/v1/collections"}
"""Routes that change nothing, or nothing but a list of one's own; what else they are told means nothing to them."""

OWN_TABLES = {"favorites", "collections", "attempts"}
"""Lists of one's own; and wrong keys are counted."""


def grants(at_once: int) -> list[dict[str, Any]]:
    """Give bodies: so many fields at once, each with each; and all of them."""
    return [*map(dict, combinations(GRANTS.items(), at_once)), GRANTS]


@pytest.mark.parametrize("at_once", [1, pytest.param(2, marks=pytest.mark.torture)])
async def test_nobody_writes_what_is_not_theirs(
    proxy: RunningProxy, record_figure: RecordFigure, at_once: int
) -> None:
    """Each field that grants something, to every route that writes, by everybody below an admin: nothing changes."""
    (theirs,) = await make(proxy)
    (own,) = await make(proxy, key=OTHER_KEY)
    me = await proxy.get("/v1/admin/users/carol", ADMIN_KEY)
    (key,) = (await proxy.get("/v1/admin/keys?user=carol", ADMIN_KEY))["data"]
    callers = {"nobody": {}, "viewer": bearer(VIEWER_KEY), "member": bearer(OTHER_KEY)}
    callers["browser"] = await _cookie(proxy, OTHER_KEY)
    await noted(proxy)
    before = await whole_index(proxy)
    tried, accepted = 0, []
    for route in ROUTES:
        if route.method in READS or route.is_paid or route.path == "/logout":
            continue
        changes = (
            route.path.endswith("{id}") and route.method == "POST"
        )  # of one's own nothing else may be changed
        path = path_of(
            route.path.replace("{user}", me["id"]).replace("{key}", key["id"]), own if changes else theirs
        )
        for (name, headers), fields in product(callers.items(), grants(at_once)):
            sent: dict[str, Any] = {"json": fields}
            if not route.path.startswith("/v1"):
                sent = {"data": {field: str(value) for field, value in fields.items()}}
            tried += 1
            status, _, body = await proxy.request(
                route.method, path, key=None, headers=headers, allow_redirects=False, **sent
            )
            if (
                status < 400
                and route.path not in OWN
                and outcome(status, {"Location": "/login"}, body) != "nobody"
            ):
                accepted.append(f"{route.method} {path} {list(fields)} by {name}: {status}")
    after = await whole_index(proxy)
    changed = [table for table in before if before[table] != after[table] and table not in OWN_TABLES]
    record_figure("R75", fields=len(GRANTS), tries=tried, violations=len(accepted) + len(changed))
    assert accepted == []
    assert changed == []


@pytest.mark.parametrize("at_once", [1, pytest.param(2, marks=pytest.mark.torture)])
async def test_a_paid_call_costs_and_counts_as_ever(
    proxy: RunningProxy, upstream: ScriptedUpstream, record_figure: RecordFigure, at_once: int
) -> None:
    """A paid call with such fields is its caller's and its key's, at its price: in body, query and headers."""
    begun = time.time_ns() // 1000
    for fields in ({}, *grants(at_once)):
        await proxy.request("POST", GENERATIONS, json={**fields, **CAT})
    for name, value in GRANTS.items():
        query = {name: str(value)}
        await proxy.request(
            "POST", GENERATIONS, params=query, json=CAT, headers={f"X-{name.replace('_', '-')}": "0"}
        )
    await ended(proxy)

    def work(tx: Tx) -> list[tuple[Any, ...]]:
        rows = tx.all("SELECT * FROM requests WHERE created_us >= :begun ORDER BY id", begun=begun)
        return [
            (row["user_id"], row["key_id"], row["hold_micros"], row["cost_micros"], row["state"])
            for row in rows
        ]

    rows = await context_of(proxy).index.read(work)
    different = sum(row != rows[0] for row in rows)
    record_figure("R75", paid_calls=len(rows), violations=different)
    assert len(rows) == len(upstream.requests) > len(GRANTS)
    assert different == 0
