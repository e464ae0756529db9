"""Headers: few go up, few come down, and no secret in either direction."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, UPSTREAM_KEY, RunningProxy
from tests.support.upstream import (
    ScriptedUpstream,
    body,
    error_json,
    head,
    image_json,
    image_sse,
)
from tests.web.calling import CAT, EDITS, FORM_TYPE, GENERATIONS, form, http, ledger_rows, listed, raw_call
from tests.web.conftest import ProxyWith

SENT_UP = {
    "host",
    "accept",
    "accept-encoding",
    "user-agent",
    "authorization",
    "x-client-request-id",
    "content-type",
    "content-length",
}
CLIENTS = {
    "Cookie": "pixie=secret-cookie",
    "OpenAI-Organization": "org-client",
    "OpenAI-Project": "proj-client",
    "OpenAI-Beta": "anything",
    "X-Stainless-Retry-Count": "1",
    "Idempotency-Key": "client-idem",
    "X-Client-Request-Id": "client-rid",
    "X-Forwarded-For": "10.1.2.3",
    "Forwarded": "for=10.1.2.3",
    "Traceparent": "00-client",
    "api-key": "client-api-key",
    "User-Agent": "client-agent/1",
    "TE": "trailers",
    "Origin": "https://client.example",
}
OPERATORS = {"organization": "org-operator", "project": "proj-operator"}


@pytest.mark.parametrize("kind", ["json", "form"])
@pytest.mark.parametrize("own", [{}, OPERATORS])
async def test_only_our_own_headers_go_up(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, kind: str, own: dict[str, str]
) -> None:
    """An exact list of names; the operator's key, organisation and project instead of the client's."""
    proxy = await proxy_with(upstream=own)
    sent: dict[str, Any] = {"json": CAT, "headers": CLIENTS}
    if kind == "form":
        fields = form(("prompt", b"hat"), ("image", png(), "a.png"))
        sent = {"data": fields, "headers": {**CLIENTS, **FORM_TYPE}}
    path = GENERATIONS if kind == "json" else EDITS
    status, headers, _ = await proxy.request("POST", path, **sent)
    (request,) = upstream.requests
    expected = SENT_UP | ({"openai-organization", "openai-project"} if own else set())
    assert status == 200
    assert sorted(name.lower() for name, _ in request.headers) == sorted(expected)
    assert request.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert request.header("openai-organization") == own.get("organization")
    assert request.header("openai-project") == own.get("project")
    assert request.header("x-client-request-id") == headers["x-request-id"]
    assert "client" not in str([value for name, value in request.headers])
    assert MEMBER_KEY not in str(request)


async def test_what_the_sdk_adds_stays_here(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """The SDK's own headers, organisation and project included, tell the upstream nothing about the client."""
    client = proxy.sdk(organization="org-client", project="proj-client")
    await client.images.generate(**CAT)
    await client.images.edit(prompt="hat", image=png())
    for request in upstream.requests:
        assert {name.lower() for name, _ in request.headers} == SENT_UP


async def test_a_query_does_not_go_up(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Open WebUI adds `?api-version=`; the upstream's address is the operator's alone."""
    assert (await proxy.request("POST", GENERATIONS + "?api-version=1&x=/../..", json=CAT))[0] == 200
    assert upstream.requests[0].path == GENERATIONS


LEAKS = [
    ("Set-Cookie", "upstream=secret"),
    ("openai-organization", "org-operator-secret"),
    ("openai-processing-ms", "9"),
    ("x-ratelimit-limit-requests", "99999"),
    ("x-ratelimit-remaining-tokens", "7"),
    ("Location", "https://elsewhere.example"),
    ("Strict-Transport-Security", "max-age=1"),
    ("Alt-Svc", "h3"),
    ("Server", "cloudflare"),
    ("Via", "1.1 upstream"),
    ("Access-Control-Allow-Origin", "*"),
]
COMES_DOWN = {
    "content-type",
    "content-length",
    "date",
    "server",
    "cache-control",
    "x-content-type-options",
    "x-request-id",
    "x-upstream-request-id",
}
RATES = {
    f"x-ratelimit-{part}-{what}"
    for part in ("limit", "remaining", "reset")
    for what in ("requests", "images")
}


@pytest.mark.parametrize("limits", [{}, {"requests_per_minute": 60, "images_per_minute": 30}])
@pytest.mark.parametrize("kind", ["small", "large", "stream", "error"])
async def test_only_our_own_headers_come_down(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, limits: dict[str, int], kind: str
) -> None:
    """An exact list of names, however the answer travels; the upstream's own ones stay with us."""
    proxy = await proxy_with(limits=limits)
    answers = {
        "small": image_json(headers=LEAKS),
        "large": image_json([png(size_bytes=500_000)], headers=LEAKS),
        "stream": image_sse(headers=LEAKS),
        "error": error_json(400, headers=LEAKS),
    }
    upstream.script(answers[kind])
    _, headers, _ = await proxy.request("POST", GENERATIONS, json={**CAT, "n": 2, "stream": kind == "stream"})
    expected = COMES_DOWN | (RATES if limits else set())
    if kind in {"large", "stream"}:
        expected = expected - {"content-length"} | {"transfer-encoding"}
    else:
        expected = expected | {"x-pixie-cost-usd"}
    if kind == "stream":
        expected = expected | {"x-accel-buffering"}
    assert {name.lower() for name in headers} == expected
    assert headers["Server"] == "pixie_proxy"
    assert re.fullmatch(r"req_[0-9a-v]{26}", headers["x-request-id"])
    assert headers["x-upstream-request-id"] == "req_scripted"


async def test_what_is_left_of_a_limit(proxy_with: ProxyWith) -> None:
    """Limit, rest and Go duration until full, for requests and for images; absent where nothing limits."""
    proxy = await proxy_with(limits={"requests_per_minute": 6, "images_per_minute": 60})
    _, headers, _ = await proxy.request("POST", GENERATIONS, json={**CAT, "n": 4})
    told = {name: value for name, value in headers.items() if name.startswith("x-ratelimit-")}
    assert told == {
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "10s",
        "x-ratelimit-limit-images": "60",
        "x-ratelimit-remaining-images": "56",
        "x-ratelimit-reset-images": "4s",
    }
    _, headers, _ = await proxy.request("POST", GENERATIONS, json=CAT)
    assert headers["x-ratelimit-remaining-requests"] == "4"
    assert re.fullmatch(r"(1\d(\.\d+)?|20)s", headers["x-ratelimit-reset-requests"])
    assert not [name for name in (await proxy.request("GET", "/v1/me"))[1] if "ratelimit" in name]


async def test_the_sdk_knows_the_request(proxy: RunningProxy) -> None:
    """`_request_id` is ours and leads to the ledger and to the images."""
    answer = await proxy.sdk().images.generate(**CAT)
    (image,) = await listed(proxy)
    assert image["request_id"] == answer._request_id


def escaped(text: str) -> str:
    return "".join([f"\\u{ord(character):04x}" for character in text])


CONFESSIONS: list[list[Any]] = [
    error_json(400, message=f"bad {UPSTREAM_KEY}{UPSTREAM_KEY}", code=UPSTREAM_KEY, param=UPSTREAM_KEY),
    error_json(401, message=f"Incorrect API key provided: {UPSTREAM_KEY}"),
    error_json(403, message=f"{UPSTREAM_KEY} may not", headers=[("WWW-Authenticate", UPSTREAM_KEY)]),
    error_json(429, message=UPSTREAM_KEY, type=UPSTREAM_KEY),
    error_json(500, message=UPSTREAM_KEY),
    [head(400), body(b'{"error":{"message":"%b"}}' % escaped(UPSTREAM_KEY).encode())],
    [head(400), body(b'{"error":"%b"}' % UPSTREAM_KEY.encode())],
    [head(400), body(b'{"detail":"%b"}' % escaped(UPSTREAM_KEY).encode())],
    [head(404), body(UPSTREAM_KEY.encode())],
    [head(502), body(UPSTREAM_KEY.encode())],
    [head(301, [("Location", f"https://elsewhere.example/?key={UPSTREAM_KEY}")]), body(b"")],
    [head(200, [("Content-Type", UPSTREAM_KEY), ("X-Echo", UPSTREAM_KEY)]), body(UPSTREAM_KEY.encode())],
]


@pytest.mark.parametrize("confession", CONFESSIONS)
async def test_the_operators_key_never_reaches_a_client(
    proxy: RunningProxy, upstream: ScriptedUpstream, confession: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the upstream says about it, in whatever form: not in an answer, not in ledger or log."""
    caplog.set_level("DEBUG")
    upstream.script(confession)
    answer = await raw_call(proxy.url, http(body=CAT))
    assert answer.status >= 400
    (row,) = await ledger_rows(proxy)
    seen = f"{answer} {row} {caplog.text} {[record.__dict__ for record in caplog.records]}"
    assert UPSTREAM_KEY not in seen
    assert UPSTREAM_KEY[3:] not in seen
