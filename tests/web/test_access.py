"""Who may use which route: matrices over the list of routes, so that a new one is in them by itself."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pixie_proxy.app import create_app
from pixie_proxy.web.routes import ROUTES, Route
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, RunningProxy, settings_for
from tests.support.upstream import ScriptedUpstream
from tests.web.browsing import HTML, make, sign_in
from tests.web.calling import error_of, http, noted, raw_call
from tests.web.routing import ACCESSES, EVERY_ROUTE, OPEN, path_of, whole_index

WRONG = "px-wrong-" + "x" * 30
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
READS = {"GET", "HEAD"}
BY_COOKIE = [route for route in ROUTES if route.access not in {"open", "admin key"}]
CHANGES = [route for route in BY_COOKIE if route.method not in READS]


def test_every_route_has_an_access(tmp_path: Any) -> None:
    """The router knows the routes of the list and no other, and those that are open are known to be."""
    assert {route.access for route in ROUTES} <= set(ACCESSES)
    assert {f"{route.method} {route.path}" for route in ROUTES if route.access == "open"} == OPEN
    app = create_app(settings_for(tmp_path, "http://127.0.0.1:1"))
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }
    listed = {(route.method, route.path) for route in ROUTES}
    assert served == listed | {("HEAD", path) for method, path in listed if method == "GET"}
    with pytest.raises(TypeError):
        Route("GET", "/new", ROUTES[0].handler)  # type: ignore[call-arg]


async def _refused(proxy: RunningProxy, route: Route, method: str, **headers: str) -> None:
    """Without credentials a program gets 401, a browser is led to the sign-in page."""
    status, answered, body = await proxy.request(
        method, path_of(route.path), key=None, headers=headers, allow_redirects=False
    )
    if route.access in {"page", "maker page", "admin page"}:
        assert status == 303
        assert answered["Location"].startswith("/login")
    else:
        assert status == 401
        if method != "HEAD":
            assert error_of(body)["code"] == "invalid_api_key"


TRICKS: list[dict[str, str]] = [
    {},
    {"Authorization": f"Bearer {WRONG}"},
    {"Authorization": "Basic YWxpY2U6eA=="},
    {"Cookie": "pixie=" + "x" * 43},
    {"Cookie": "__Host-pixie=" + "x" * 43 + "; pixie="},
    {"Cookie": f"pixie={MEMBER_KEY}"},
    {"Host": "localhost/login?"},
    {"Host": "127.0.0.1:80@evil.example"},
    {"Host": "a#b"},
    {"Host": "/healthz"},
    {"X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"},
    {"X-Forwarded-Host": "localhost", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/login"},
    {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1;host=localhost"},
    {"X-HTTP-Method-Override": "GET", "X-Forwarded-User": "alice", "Remote-User": "alice"},
]


@EVERY_ROUTE
async def test_nothing_is_open_without_credentials(proxy: RunningProxy, route: Route) -> None:
    """Whatever the headers pretend, in both methods of a GET route."""
    if route.access == "open":
        return
    for trick in TRICKS:
        for method in {"GET": ("GET", "HEAD")}.get(route.method, (route.method,)):
            await _refused(proxy, route, method, **trick)


@EVERY_ROUTE
async def test_no_form_of_the_address_goes_around(proxy: RunningProxy, route: Route) -> None:
    """An absolute target, doubled slashes, dots and escapes: the same route or none, never an open one."""
    if route.access == "open":
        return
    path = path_of(route.path)
    targets = [
        f"http://localhost{path}",
        f"http://localhost/healthz/..{path}",
        f"/{path}",
        f"/.{path}",
        f"/static/x/..{path}",
        f"/static/x/%2e%2e{path}",
        path.replace("/", "/%2f", 1),
        f"{path}%00",
        f"{path}/../healthz",
        f"{path};/healthz",
        f"{path}?/healthz",
        f"{path}#/healthz",
    ]
    for target in targets:
        answer = await raw_call(proxy.url, http(target, method=route.method, key=WRONG))
        assert answer.status in {303, 400, 401, 404, 405}, target
        assert answer.status != 303 or answer.headers["location"].startswith("/login")


async def test_the_header_wins_over_the_cookie(proxy: RunningProxy) -> None:
    """Two credentials are one caller: that of the header, and a wrong header is nobody."""
    browser = await sign_in(proxy, MEMBER_KEY)
    for header, expected in ((f"Bearer {ADMIN_KEY}", "alice"), ("", None), (f"Bearer {WRONG}", None)):
        status, _, body = await browser.get("/v1/me", Authorization=header)
        assert (status == 200) == (expected is not None)
        assert expected is None or f'"name":"{expected}"' in body
    status, _, body = await browser.get("/v1/me")
    assert (status, '"name":"bob"' in body) == (200, True)


BAD_SENDERS: dict[str, dict[str, str | None]] = {
    "no token": {"csrf": None},
    "wrong token": {"csrf": "x" * 32},
    "empty token": {"csrf": ""},
    "another session's token": {"csrf": "OTHER"},
    "foreign origin": {"Origin": "https://evil.example"},
    "sub-domain": {"Origin": "http://sub.127.0.0.1"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "origin with our name in it": {"Origin": "PROXY.evil.example"},
    "null origin": {"Origin": "null"},
    "broken origin": {"Origin": "http://[::1"},
    "empty origin": {"Origin": ""},
    "cross-site": {"Sec-Fetch-Site": "cross-site"},
    "same-site": {"Sec-Fetch-Site": "same-site"},
    "cross-site without origin": {"Origin": None, "Sec-Fetch-Site": "cross-site"},
    "no proof of origin": {"Origin": None},
}


@pytest.mark.parametrize("sender", BAD_SENDERS)
@pytest.mark.parametrize("carrier", ["field", "header"])
async def test_a_change_must_come_from_our_own_page(
    proxy: RunningProxy, upstream: ScriptedUpstream, sender: str, carrier: str
) -> None:
    """Every route that is no GET, with a session: refused with 403 csrf_failed, nothing changed, nothing called."""
    (image_id,) = await make(proxy)
    browser, other = await sign_in(proxy), await sign_in(proxy, ADMIN_KEY)
    await noted(proxy)
    before, calls = await whole_index(proxy), len(upstream.requests)
    given: dict[str, str | None] = {"csrf": browser.csrf, "Origin": proxy.url, **BAD_SENDERS[sender]}
    token = (
        other.csrf
        if given.pop("csrf") == "OTHER"
        else {**given, "csrf": browser.csrf, **BAD_SENDERS[sender]}["csrf"]
    )
    headers = {
        name: value.replace("PROXY", proxy.url)
        for name, value in {**given, "Accept": "application/json"}.items()
        if value is not None
    }
    body = b"visibility=private"
    if token is not None and carrier == "field":
        body += b"&csrf=" + token.encode()
    elif token is not None:
        headers["X-CSRF-Token"] = token
    assert len(CHANGES) >= 7
    for route in CHANGES:
        status, _, text = await browser.send(
            route.method, path_of(route.path, image_id), headers={**FORM, **headers}, data=body
        )
        assert (status, error_of(text.encode())["code"]) == (403, "csrf_failed"), route
    assert await whole_index(proxy) == before
    assert len(upstream.requests) == calls


@pytest.mark.parametrize("site", ["same-origin", "none", None])
@pytest.mark.parametrize("origin", ["own", None])
async def test_our_own_page_may(proxy: RunningProxy, origin: str | None, site: str | None) -> None:
    """The token in the form or in the header, with what browsers say of our own pages."""
    if origin is None and site is None:
        return
    (image_id,) = await make(proxy)
    browser = await sign_in(proxy)
    headers = {**({"Origin": proxy.url} if origin else {}), **({"Sec-Fetch-Site": site} if site else {})}
    path = f"/images/{image_id}/visibility"
    by_field = {"data": {"csrf": browser.csrf, "visibility": "private"}, "headers": headers}
    by_header = {"data": {"visibility": "team"}, "headers": {**headers, "X-CSRF-Token": browser.csrf}}
    for options in (by_field, by_header):
        assert (await browser.send("POST", path, **options))[0] == 303
    made = {"json": {"prompt": "a cat"}, "headers": {**headers, "X-CSRF-Token": browser.csrf}}
    assert (await browser.send("POST", "/v1/images/generations", **made))[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_can_not_read_with_our_cookie(proxy: RunningProxy, site: str) -> None:
    """Pictures and JSON stay with our own pages; a link from a chat to a page works."""
    (image_id,) = await make(proxy)
    browser = await sign_in(proxy)
    for route in BY_COOKIE:
        if route.method in READS and route.path.startswith("/v1"):
            path = path_of(route.path, image_id)
            status, _, body = await browser.get(path, **{"Sec-Fetch-Site": site})
            assert (status, error_of(body.encode())["code"]) == (403, "csrf_failed")
    for path in ("/", f"/images/{image_id}"):
        assert (await browser.get(path, **{"Sec-Fetch-Site": site}))[0] == 200
    assert (await browser.get(f"/v1/images/{image_id}/content", **{"Sec-Fetch-Site": "same-origin"}))[
        0
    ] == 200


async def test_reading_changes_nothing(proxy: RunningProxy) -> None:
    """All GETs and HEADs, with a session and without: the index is the same afterwards."""
    (image_id,) = await make(proxy)
    browser = await sign_in(proxy)
    await noted(proxy)
    before = await whole_index(proxy)
    for route in ROUTES:
        if route.method == "GET":
            path = path_of(route.path, image_id)
            for method in ("GET", "HEAD"):
                await browser.send(method, path)
                await browser.send(
                    method, f"{path}?trashed={image_id}&visibility=private&csrf={browser.csrf}"
                )
                await proxy.request(method, path, key=None, allow_redirects=False)
    assert await whole_index(proxy) == before


async def test_links_may_be_shown_anywhere(proxy: RunningProxy) -> None:
    """Whoever has a link may embed it: the one class that other sites may read."""
    await make(proxy)
    (image,) = (await proxy.get("/v1/images"))["data"]
    name = os.path.basename(image["url"])  # noqa: PTH119 - of an address, not a file
    _, headers, _ = await proxy.request("GET", f"/i/{name}", key=None)
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


async def test_faults_speak_html_to_people_only(proxy: RunningProxy) -> None:
    """Pages' addresses to a browser; JSON under /v1, and to programs everywhere."""
    browser = await sign_in(proxy)
    cases = [("/images/img_x", 404), ("/nothing", 404), ("/logout", 405), ("/?after=x", 400)]
    for path, expected in cases:
        status, headers, body = await browser.get(path)
        assert (status, headers["Content-Type"]) == (expected, "text/html; charset=utf-8")
        assert "To the gallery" in body
        status, _, body = await browser.get(path, Accept="*/*")
        assert status == expected
        error_of(body.encode())
    status, _, body = await browser.get("/v1/images/img_x", **HTML)
    assert (status, error_of(body.encode())["code"]) == (404, "not_found")
