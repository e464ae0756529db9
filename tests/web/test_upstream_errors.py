"""What the upstream refuses, breaks or redirects, and what a client makes of it."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.support.pictures import png
from tests.support.proxy import RunningProxy
from tests.support.upstream import (
    ScriptedUpstream,
    body,
    cut,
    error_json,
    head,
    image_json,
    image_sse,
    raw,
    refused_base_url,
)
from tests.web.calling import (
    CAT,
    GENERATIONS,
    AnySdk,
    account,
    context_of,
    error_of,
    files_of,
    kept,
    ledger_rows,
    post_form,
)
from tests.web.conftest import ProxyWith

NO_SLEEP = [("retry-after-ms", "1")]


async def refused(proxy: RunningProxy, **fields: Any) -> openai.APIStatusError:
    """Make a call that must fail with a status; its body must have the envelope."""
    with pytest.raises(openai.APIStatusError) as caught:
        await AnySdk(proxy, "async").images("generate", **CAT, **fields)
    error = error_of(caught.value.response.content)
    assert (caught.value.code, caught.value.type, caught.value.param) == (
        error["code"],
        error["type"],
        error["param"],
    )
    assert 1 <= int(caught.value.response.headers.get("retry-after", 1)) <= 60
    return caught.value


PASSING = [
    (400, "image_generation_user_error", "moderation_blocked", None, openai.BadRequestError),
    (400, "image_generation_user_error", "invalid_value", "size", openai.BadRequestError),
    (404, "invalid_request_error", "model_not_found", "model", openai.NotFoundError),
    (409, "invalid_request_error", None, None, openai.ConflictError),
    (413, "invalid_request_error", "too_large", None, openai.APIStatusError),
    (422, "invalid_request_error", None, "prompt", openai.UnprocessableEntityError),
    (429, "requests", "rate_limit_exceeded", None, openai.RateLimitError),
    (500, "image_generation_server_error", "image_generation_failed", None, openai.InternalServerError),
    (503, "service_unavailable_error", "maintenance", None, openai.InternalServerError),
]


@pytest.mark.parametrize(("status", "type_", "code", "param", "raised"), PASSING)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_refusal_with_openais_envelope_passes(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    status: int,
    type_: str,
    code: str | None,
    param: str | None,
    raised: type[Exception],
    is_stream: bool,
) -> None:
    """Status, type, code, param and text are the upstream's; it was sent once, and cost nothing."""
    upstream.script(error_json(status, type=type_, code=code, param=param, message="Because."))
    error = await refused(proxy, stream=is_stream)
    assert isinstance(error, raised)
    assert (error.status_code, error.type, error.code, error.param) == (status, type_, code, param)
    assert error.message == f"Error code: {status} - Because."
    assert "x-should-retry" not in error.response.headers
    assert len(upstream.requests) == 1
    (row,) = await ledger_rows(proxy)
    taken = await account(proxy)
    assert (row.state, row.cost_micros, taken.held_micros, taken.in_flight) == ("failed", 0, 0, 0)
    assert row.error is not None
    assert "Because." in row.error


async def test_what_a_refusal_says_beside_its_error_passes(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """`moderation_details` and whatever comes next stay readable; missing keys of the envelope are filled in."""
    upstream.script(
        head(400),
        body(b'{"error":{"message":"no","code":"moderation_blocked","moderation_details":{"a":[1]}},"x":1}'),
    )
    status, _, got = await proxy.request("POST", GENERATIONS, json=CAT)
    error = {
        "message": "no",
        "type": None,
        "param": None,
        "code": "moderation_blocked",
        "moderation_details": {"a": [1]},
    }
    assert (status, json.loads(got)) == (400, {"error": error, "x": 1})


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b'{"error":"model is busy"}', "model is busy"),
        (b'{"detail":"Not here"}', "Not here"),
        (b"<html>nginx</html>", "The upstream refused the request with status 404."),
        (b"", "The upstream refused the request with status 404."),
        (b"[1]", "The upstream refused the request with status 404."),
        (b'{"error":{"code":1}}', "The upstream refused the request with status 404."),
    ],
)
async def test_a_refusal_in_another_form_gets_the_envelope(
    proxy: RunningProxy, upstream: ScriptedUpstream, said: bytes, message: str
) -> None:
    """Servers that speak differently are understood where that is safe; foreign pages are not shown."""
    upstream.script(head(404, [("Content-Type", "text/html")]), body(said))
    error = await refused(proxy)
    assert isinstance(error, openai.NotFoundError)
    assert error_of(error.response.content)["message"] == message


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_the_operators_matter(
    proxy: RunningProxy, upstream: ScriptedUpstream, status: int
) -> None:
    """A user can't mend them, so it is a 502 in words of our own, and never a 401 that blames the user's key."""
    upstream.script(error_json(status, code="invalid_api_key", message="account of Acme Corp"))
    error = await refused(proxy)
    assert (error.status_code, error.type, error.code) == (
        502,
        "upstream_error",
        "upstream_rejected_credentials",
    )
    assert "Acme" not in error.response.text
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.cost_micros) == ("failed", 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(
    proxy: RunningProxy, upstream: ScriptedUpstream, status: int
) -> None:
    """Neither prompt nor key nor file goes to another address, on any of the five."""
    async with ScriptedUpstream() as elsewhere:
        for target in (f"{elsewhere.base_url}/images/generations", "/v1/images/generations?again"):
            upstream.script(head(status, [("Location", target)]), body(b""))
            error = await refused(proxy)
            assert (error.status_code, error.type, error.code) == (
                502,
                "upstream_error",
                "upstream_unreachable",
            )
        upstream.script(head(status, [("Location", elsewhere.base_url)]), body(b""))
        assert (await post_form(proxy, ("prompt", b"hat"), ("image", png(), "a.png")))[0] == 502
        assert elsewhere.requests == []
    assert len(upstream.requests) == 3


UNKNOWN = {
    "5xx page": [head(502, [("Content-Type", "text/html")]), body(b"<html>Bad gateway</html>")],
    "5xx empty": [head(524), body(b"")],
    "5xx cut": [head(500, length=500), body(b'{"error":{"mess'), cut()],
    "202": [head(202), body(b"{}")],
    "200 empty": [head(200), body(b"")],
    "200 text": [head(200, [("Content-Type", "text/plain")]), body(b"fine")],
    "200 list": [head(200), body(b"[]")],
    "200 no data": [head(200), body(b'{"created":1}')],
    "200 no base64": [head(200), body(b'{"data":[{"b64_json":"****"}]}')],
    "200 junk": [head(200), body(b'{"data":[{"b64_json":"iVBORw0KGgo="}]} junk')],
    "no answer": [cut()],
    "no answer, reset": [cut("rst")],
    "half a head": [raw(b"HTTP/1.1 200 OK\r\nContent-"), cut()],
    "no HTTP": [raw(b"SSH-2.0-OpenSSH\r\n\r\n")],
    "cut JSON": [head(200, length=9000), body(b'{"data":[{"b64_json":"iVBOR'), cut()],
    "empty stream": [head(200, [("Content-Type", "text/event-stream")]), body(b"")],
}


@pytest.mark.parametrize("script", UNKNOWN.values(), ids=list(UNKNOWN))
async def test_an_unknown_outcome_is_said_and_charged(
    proxy: RunningProxy, upstream: ScriptedUpstream, script: list[Any]
) -> None:
    """It may have been billed: never sent again by us, SDKs are told not to, and it counts at its hold."""
    upstream.script(script)
    if script is UNKNOWN["empty stream"]:
        with pytest.raises(openai.APIError):
            await AnySdk(proxy, "async", max_retries=2).images("generate", **CAT, stream=True)
    else:
        with pytest.raises(openai.InternalServerError) as caught:
            await AnySdk(proxy, "async", max_retries=2).images("generate", **CAT)
        error = error_of(caught.value.response.content)
        assert (caught.value.status_code, error["type"]) == (502, "upstream_error")
        assert error["code"] == "upstream_outcome_unknown"
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert caught.value.response.headers["x-request-id"] in error["message"]
    assert len(upstream.requests) == 1
    (row,) = await ledger_rows(proxy)
    taken = await account(proxy)
    assert (row.state, row.cost_micros) == ("unknown", row.call.hold_micros)
    assert (taken.held_micros, taken.in_flight, taken.spent_day_micros) == (0, 0, row.cost_micros)


async def test_nobody_listens(proxy_with: ProxyWith, no_backoff: list[int]) -> None:
    """A connection that is refused is tried three times in all; nothing was sent, so nothing is charged."""
    proxy = await proxy_with(refused_base_url())
    error = await refused(proxy)
    assert (error.status_code, error.type, error.code) == (502, "upstream_error", "upstream_unreachable")
    assert "retry-after" in error.response.headers
    assert "x-should-retry" not in error.response.headers
    assert no_backoff == [0, 1, 2]
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.cost_micros) == ("failed", 0)


async def test_a_name_that_leads_nowhere(proxy_with: ProxyWith, no_backoff: list[int]) -> None:
    """So is one whose host can't be found."""
    proxy = await proxy_with("http://upstream.invalid/v1", upstream={"max_retries": 0})
    assert (await refused(proxy)).code == "upstream_unreachable"
    assert no_backoff == [0]


@pytest.mark.parametrize(
    "refusal",
    [
        error_json(429, code="rate_limit_exceeded", headers=NO_SLEEP),
        error_json(429, code="rate_limit_exceeded", headers=[("Retry-After", "0")]),
        error_json(503, code="slow_down", type="service_unavailable_error"),
        error_json(503, code="server_is_overloaded", type="service_unavailable_error", headers=NO_SLEEP),
    ],
    ids=["429-ms", "429-s", "slow_down", "overloaded"],
)
async def test_a_call_that_surely_was_not_taken_is_sent_again(
    proxy: RunningProxy, upstream: ScriptedUpstream, refusal: list[Any], no_backoff: list[int]
) -> None:
    """With its files, twice at most; the client sees only the answer."""
    upstream.script(refusal)
    upstream.script(refusal)
    upstream.script(image_json())
    picture = png(size_bytes=400_000)
    answer = await proxy.sdk().images.edit(model="gpt-image-2", prompt="hat", image=picture)
    assert files_of(answer) == [png()]
    assert len({request.part("image").sha256 for request in upstream.requests}) == 1
    assert [request.part("image").size_bytes for request in upstream.requests] == [len(picture)] * 3
    assert await kept(proxy) == [png()]


@pytest.mark.parametrize(
    ("refusal", "raised"),
    [
        (error_json(429, code="rate_limit_exceeded", headers=NO_SLEEP), openai.RateLimitError),
        (error_json(503, code="slow_down"), openai.InternalServerError),
    ],
)
async def test_a_refusal_that_stays_passes(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    refusal: list[Any],
    raised: type[Exception],
    no_backoff: list[int],
) -> None:
    """After two more tries it is the client's to wait, as long as the upstream said."""
    upstream.default(refusal)
    error = await refused(proxy)
    assert isinstance(error, raised)
    assert len(upstream.requests) == 3
    assert ("retry-after" in error.response.headers) == (error.status_code == 429)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([("Retry-After", "21")], "21"),
        ([("Retry-After", "3600")], "60"),
        ([("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT")], None),
        ([("Retry-After", "-1")], None),
        ([("Retry-After", "nan")], None),
        ([("Retry-After", "1e999")], None),
        ([], None),
    ],
)
async def test_a_long_wait_is_the_clients(
    proxy: RunningProxy, upstream: ScriptedUpstream, headers: list[tuple[str, str]], told: str | None
) -> None:
    """We don't sit on a call for longer than 20 s, and tell no SDK more than the 60 s that all of them believe."""
    upstream.script(error_json(429, code="rate_limit_exceeded", headers=headers))
    error = await refused(proxy)
    assert (error.status_code, error.response.headers.get("retry-after")) == (429, told)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("type_", "code"),
    [
        ("insufficient_quota", "credit_balance_exhausted"),
        ("insufficient_quota", "organization_spend_limit_exceeded"),
        ("insufficient_quota", None),
        ("invalid_request_error", "billing_hard_limit_reached"),
    ],
)
async def test_an_exhausted_quota_is_not_tried_again(
    proxy: RunningProxy, upstream: ScriptedUpstream, type_: str, code: str | None
) -> None:
    """Neither by us nor by the SDK, whatever Retry-After says: waiting does not bring money."""
    upstream.default(error_json(429, type=type_, code=code, headers=[("Retry-After", "1")]))
    with pytest.raises(openai.RateLimitError) as caught:
        await AnySdk(proxy, "async", max_retries=2).images("generate", **CAT)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in caught.value.response.headers
    assert (caught.value.type, caught.value.code) == (type_, code)
    assert len(upstream.requests) == 1


async def test_a_200_that_came_after_a_refusal_can_not_be_taken_for_one(
    proxy: RunningProxy, upstream: ScriptedUpstream, no_backoff: list[int]
) -> None:
    """Once an answer has begun nothing is sent again, not even when it breaks in the first byte of a stream."""
    upstream.script(head(200, [("Content-Type", "text/event-stream")], "chunked"), cut("rst"))
    upstream.default(image_sse())
    with pytest.raises(openai.APIError) as caught:
        await AnySdk(proxy, "async", max_retries=2).images("generate", **CAT, stream=True)
    assert caught.value.code == "upstream_outcome_unknown"
    assert (len(upstream.requests), no_backoff) == (1, [])


async def test_a_refusal_larger_than_any_is_cut_off(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A gigabyte of error page does not fill our memory, and the call is settled."""
    upstream.script(head(400, length=1 << 30), body(b"x" * 3_000_000), cut())
    error = await refused(proxy)
    assert error.status_code == 400
    assert len(error.response.content) < 1000
    assert context_of(proxy).generation.is_draining is False
