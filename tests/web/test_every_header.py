"""The headers of every address, class by class: a new address is of one of them, or fails here (R81)."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import pytest

from pixie_proxy.web.routes import ROUTES, Route
from pixie_proxy.web.static import address_of
from tests.support.pictures import png, svg
from tests.support.proxy import ADMIN_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import login, make, sign_in
from tests.web.conftest import ProxyWith

Headers = dict[str, str | None]

CSP = "Content-Security-Policy"
PAGE: Headers = {
    CSP: "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self';"
    " manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types pixie",
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Cookie",
}
BYTES: Headers = {
    CSP: "default-src 'none'; sandbox",
    "Cache-Control": "private, no-cache",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": None,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Authorization, Cookie",
}
NONE: Headers = dict.fromkeys(PAGE)
JSON = {**NONE, "Cache-Control": "private, no-store", "Vary": "Authorization, Cookie"}
APP = {**BYTES, CSP: None, "Cache-Control": "no-cache", "Vary": None}
CLASSES: dict[str, Headers] = {
    "page": PAGE,
    "page of a share": PAGE | {"Referrer-Policy": "no-referrer"},
    "bytes": BYTES,
    "bytes by link": BYTES | {"Cross-Origin-Resource-Policy": "cross-origin", "Vary": None},
    "static": BYTES | {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"},
    "json": JSON,
    "by key alone": JSON | {"Vary": "Authorization"},
    "numbers": NONE | {"Cache-Control": "no-store"},
    "manifest": APP,
    "worker": APP | {CSP: "default-src 'none'; script-src 'self'; connect-src 'self'"},
}
ALONE = {
    "/i/{name}": "bytes by link",
    "/s/{token}": "page of a share",
    "/static/{version}/{name}": "static",
    "/manifest.webmanifest": "manifest",
    "/worker.js": "worker",
    "/metrics": "numbers",
    "/openapi.json": "by key alone",
    "/healthz": "json",
    "/readyz": "json",
}


def class_of(route: Route) -> str:
    """Tell the class of a route: by its address, and else it is a page."""
    if re.search(r"/(content|thumbnail)$", route.path):
        return "bytes"
    return ALONE.get(route.path, "json" if route.path.startswith("/v1/") else "page")


async def _paths(proxy: RunningProxy) -> dict[str, str]:
    """Make one of everything, and give its address in place of a route's beginning."""
    (image,) = await make(proxy, key=ADMIN_KEY)
    told = {"visibility": "public"}
    await proxy.request("POST", f"/v1/images/{image}", key=ADMIN_KEY, json=told)
    _, _, shared = await proxy.request("POST", f"/v1/images/{image}/shares", key=ADMIN_KEY, json={})
    _, _, collection = await proxy.request("POST", "/v1/collections", key=ADMIN_KEY, json={"name": "foxes"})
    (call,) = (await proxy.get("/v1/requests", ADMIN_KEY))["data"]
    return {
        "/requests/{id}": f"/requests/{call['id']}",
        "{id}": image,
        "{collection}": json.loads(collection)["id"],
        "{user}": "bob",
        "{model}": "gpt-image-2",
        "/s/{token}": urlsplit(json.loads(shared)["url"]).path,
        "/i/{name}": urlsplit((await proxy.get(f"/v1/images/{image}", ADMIN_KEY))["url"]).path,
        "/static/{version}/{name}": address_of("base.css"),
    }


@pytest.mark.parametrize("picture", [png(), svg()], ids=["png", "svg"])
async def test_every_address_has_the_headers_of_its_class(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, picture: bytes
) -> None:
    """All that can be read, answered with 200: the whole of its policy, and nowhere a leave for other sites."""
    upstream.default(image_json([picture]))
    proxy = await proxy_with(gallery={"allow_public": True})
    paths = await _paths(proxy)
    cookie = {"Cookie": (await sign_in(proxy, ADMIN_KEY)).cookie}
    for route in ROUTES:
        if route.method != "GET":
            continue
        path = route.path
        for hole, value in paths.items():
            path = path.replace(hole, value)
        by_key = route.access == "admin key"
        status, headers, _ = await proxy.request(
            "GET",
            path,
            key=ADMIN_KEY if by_key else None,
            headers={} if by_key or route.path == "/login" else cookie,
        )
        expected = CLASSES[class_of(route)]
        assert status == 200, route
        assert {name: headers.get(name) for name in expected} == expected, route
        assert headers["X-Content-Type-Options"] == "nosniff", route
        assert not [name for name in headers if name.lower().startswith("access-control-")], route


async def test_a_page_that_is_refused_is_no_less_careful(proxy_with: ProxyWith) -> None:
    """Errors told to people have the policy of pages; those told to programs stay in no cache."""
    proxy = await proxy_with()
    browser = await sign_in(proxy)
    _, headers, _ = await login(proxy, "px-wrong")
    assert {name: headers.get(name) for name in PAGE} == PAGE
    for path in ("/nothing", "/admin", "/images/img_x", "/?after=x", "/s/x", "/public"):
        status, headers, _ = await browser.get(path)
        assert status in {400, 403, 404}
        assert {name: headers.get(name) for name in PAGE} == PAGE, path
        _, headers, _ = await browser.get(path, Accept="application/json")
        assert "no-store" in headers["Cache-Control"]
    _, headers, _ = await browser.get("/static/x/base.css")  # of another version, so asked for again
    assert headers["Cache-Control"] == "public, no-cache"


async def test_a_sign_out_clears_the_browser(proxy_with: ProxyWith) -> None:
    """What a worker or a script kept goes with the session; nothing else has a browser forget."""
    proxy = await proxy_with()
    browser = await sign_in(proxy)
    assert "Clear-Site-Data" not in (await browser.get("/"))[1]
    _, headers, _ = await browser.post("/logout")
    assert headers["Clear-Site-Data"] == '"cache", "storage"'
