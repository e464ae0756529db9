"""What we refuse ourselves: status, envelope and SDK class of each fault, and that nothing goes upstream for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json, image_sse
from tests.web.calling import (
    CAT,
    EDITS,
    FORM_TYPE,
    GENERATIONS,
    VARIATIONS,
    AnySdk,
    account,
    context_of,
    error_of,
    form,
    http,
    ledger_rows,
    post_form,
    raw_call,
)
from tests.web.conftest import ProxyWith

PROMPT = ("prompt", b"hat")


@pytest.mark.parametrize(
    ("key", "masked"),
    [("px-wrong-key-0123456789", "px-***6789"), ("short", "***"), ("x" * 5000, "xxx***xxxx")],
)
async def test_a_wrong_key_is_told_in_openais_words(proxy: RunningProxy, key: str, masked: str) -> None:
    """The message names the first 3 and last 4 characters, for that is what people and LiteLLM look for."""
    with pytest.raises(openai.AuthenticationError) as caught:
        await proxy.sdk(key).images.generate(**CAT)
    assert caught.value.code == "invalid_api_key"
    assert error_of(caught.value.response.content)["message"].startswith(
        f"Incorrect API key provided: {masked}."
    )


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic " + MEMBER_KEY,
        MEMBER_KEY,
        f"Bearer {MEMBER_KEY}x",
        f"Bearer {MEMBER_KEY[:-1]}",
    ],
)
async def test_a_key_is_a_bearer_key_and_whole(proxy: RunningProxy, header: str) -> None:
    """Other schemes, no key, a part of one: all are no key."""
    status, _, body = await proxy.request("GET", "/v1/me", key=None, headers={"Authorization": header})
    assert (status, error_of(body)["code"]) == (401, "invalid_api_key")


async def test_a_key_of_any_bytes_is_only_wrong(proxy: RunningProxy) -> None:
    """Bytes that are no text make no error of ours."""
    for key in ("ключ-ключ-ключ-ключ", "\udcff\udcfe" * 10):
        request = http("/v1/me", method="GET").replace(
            MEMBER_KEY.encode(), key.encode("utf-8", "surrogateescape")
        )
        answer = await raw_call(proxy.url, request)
        assert (answer.status, error_of(answer.body)["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/unknown", 404, "unknown_url"),
        ("GET", "/gallery", 404, "unknown_url"),
        ("POST", "/v1/images/generations/", 404, "unknown_url"),
        ("POST", "/images/generations", 404, "unknown_url"),
        ("GET", "/v1/../etc/passwd", 404, "unknown_url"),
        ("GET", GENERATIONS, 404, "not_found"),
        ("DELETE", GENERATIONS, 404, "not_found"),
        ("PUT", GENERATIONS, 405, "method_not_allowed"),
        ("PUT", "/v1/models", 405, "method_not_allowed"),
        ("OPTIONS", "/healthz", 405, "method_not_allowed"),
    ],
)
async def test_wrong_addresses_and_methods(
    proxy: RunningProxy, method: str, path: str, status: int, code: str
) -> None:
    """Both have the envelope; a 405 names what is allowed."""
    answer = await raw_call(proxy.url, http(path, method=method))
    error = error_of(answer.body)
    assert (answer.status, error["type"], error["code"]) == (status, "invalid_request_error", code)
    assert ("allow" in answer.headers) == (status == 405)


async def test_the_sdk_raises_its_own_classes(proxy: RunningProxy) -> None:
    """A wrong base URL is a NotFoundError, a wrong method an APIStatusError, each with its code."""
    client = proxy.sdk()
    with pytest.raises(openai.NotFoundError) as missing:
        await client.post("/nothing", cast_to=object)
    with pytest.raises(openai.APIStatusError) as wrong:
        await client.delete("/models", cast_to=object)
    assert (missing.value.code, wrong.value.code, wrong.value.status_code) == (
        "unknown_url",
        "method_not_allowed",
        405,
    )


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        (GENERATIONS, "multipart/form-data; boundary=xXx"),
        (GENERATIONS, "text/plain"),
        (GENERATIONS, "application/x-www-form-urlencoded"),
        (EDITS, "text/plain"),
        (EDITS, "multipart/mixed; boundary=xXx"),
        (EDITS, "multipart/form-data"),
        (VARIATIONS, "application/json"),
    ],
)
async def test_a_wrong_content_type(
    proxy: RunningProxy, upstream: ScriptedUpstream, path: str, content_type: str
) -> None:
    """It is named as what it is, not as a broken body."""
    headers = {"Content-Type": content_type}
    status, _, body = await proxy.request("POST", path, data=b'{"prompt":"a cat"}', headers=headers)
    error = error_of(body)
    assert (status, error["type"], error["code"]) == (415, "invalid_request_error", "unsupported_media_type")
    assert upstream.requests == []


BAD_BODIES = [
    (b"", "invalid_body", None),
    (b"{", "invalid_body", None),
    (b'{"prompt":"a cat"} {}', "invalid_body", None),
    (b"\xff\xfe", "invalid_body", None),
    (b"[1]", "invalid_body", None),
    (b'"a cat"', "invalid_body", None),
    (b"null", "invalid_body", None),
    (b'{"prompt":NaN}', "invalid_body", None),
    (b"[" * 100_000, "invalid_body", None),
    (b"{}", "missing_required_parameter", "prompt"),
    (b'{"prompt":null}', "missing_required_parameter", "prompt"),
    (b'{"prompt":""}', "invalid_value", "prompt"),
    (b'{"prompt":" \\n\\t "}', "invalid_value", "prompt"),
    (b'{"prompt":["a"]}', "invalid_value", "prompt"),
    (b'{"prompt":7}', "invalid_value", "prompt"),
    (b'{"prompt":"a","model":7}', "invalid_value", "model"),
    (b'{"prompt":"a","n":0}', "invalid_value", "n"),
    (b'{"prompt":"a","n":11}', "invalid_value", "n"),
    (b'{"prompt":"a","n":-1}', "invalid_value", "n"),
    (b'{"prompt":"a","n":1.0}', "invalid_value", "n"),
    (b'{"prompt":"a","n":"1"}', "invalid_value", "n"),
    (b'{"prompt":"a","n":true}', "invalid_value", "n"),
    (b'{"prompt":"a","n":1e400}', "invalid_body", None),
    (b'{"prompt":"a","stream":"yes"}', "invalid_value", "stream"),
    (b'{"prompt":"a","stream":1}', "invalid_value", "stream"),
    (b'{"prompt":"a","partial_images":4}', "invalid_value", "partial_images"),
    (b'{"prompt":"a","partial_images":-1}', "invalid_value", "partial_images"),
    (b'{"prompt":"a","response_format":"base64"}', "invalid_value", "response_format"),
    (b'{"prompt":"a","response_format":{}}', "invalid_value", "response_format"),
]


@pytest.mark.parametrize(("sent", "code", "param"), BAD_BODIES)
async def test_a_bad_body_or_field(
    proxy: RunningProxy, upstream: ScriptedUpstream, sent: bytes, code: str, param: str | None
) -> None:
    """A 400 that names the field; nothing is sent, written down or counted."""
    headers = {"Content-Type": "application/json"}
    status, answer, body = await proxy.request("POST", GENERATIONS, data=sent, headers=headers)
    error = error_of(body)
    assert (status, error["type"], error["code"], error["param"]) == (
        400,
        "invalid_request_error",
        code,
        param,
    )
    assert "x-should-retry" not in answer
    assert upstream.requests == []
    assert await ledger_rows(proxy) == []


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([], "prompt"),
        ([("prompt", b" ")], "prompt"),
        ([PROMPT, ("n", b"0")], "n"),
        ([PROMPT, ("n", b"11")], "n"),
        ([PROMPT, ("n", b"1.5")], "n"),
        ([PROMPT, ("n", "٣".encode())], "n"),
        ([PROMPT, ("n", b"1" * 5000)], "n"),
        ([PROMPT, ("stream", b"1")], "stream"),
        ([PROMPT, ("partial_images", b"4")], "partial_images"),
        ([PROMPT, ("response_format", b"png")], "response_format"),
        ([PROMPT, ("n", b"1"), ("n", b"10")], "n"),
        ([PROMPT, ("model", b"gpt-image-2"), ("model", b"gpt-image-2.5-flare")], "model"),
        ([PROMPT, ("size", b"\xff")], "size"),
    ],
)
async def test_a_bad_field_of_a_form(
    proxy: RunningProxy, upstream: ScriptedUpstream, parts: list[Any], param: str
) -> None:
    """Texts are read as what they mean; what is given twice is refused, for which one counts is anybody's guess."""
    status, body = await post_form(proxy, ("image", png(), "a.png"), *parts)
    assert (status, error_of(body)["param"]) == (400, param)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "fields", [{"n": 1}, {"n": 10}, {"n": None}, {"partial_images": 0}, {"partial_images": 3}]
)
async def test_the_edges_of_what_is_good(
    proxy: RunningProxy, upstream: ScriptedUpstream, fields: dict[str, Any]
) -> None:
    """The last good value on each side goes through, in JSON and in a form."""
    assert (await proxy.request("POST", GENERATIONS, json={**CAT, **fields}))[0] == 200
    parts = [(name, str("null" if value is None else value).encode()) for name, value in fields.items()]
    assert (await post_form(proxy, PROMPT, ("image", png(), "a.png"), *parts))[0] == 200
    assert len(upstream.requests) == 2


def json_of(size_bytes: int) -> bytes:
    empty = json.dumps({**CAT, "pad": ""}).encode()
    return empty[:-2] + b"x" * (size_bytes - len(empty)) + empty[-2:]


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(("size_bytes", "status"), [(1_000_000, 200), (1_000_001, 413)])
async def test_the_largest_json(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, size_bytes: int, status: int, is_chunked: bool
) -> None:
    """`max_json_mb` is exact, whether the length was told or not."""
    proxy = await proxy_with(uploads={"max_json_mb": 1})

    async def pieces() -> AsyncIterator[bytes]:
        yield json_of(size_bytes)

    sent = pieces() if is_chunked else json_of(size_bytes)
    headers = {"Content-Type": "application/json"}
    found, _, body = await proxy.request("POST", GENERATIONS, data=sent, headers=headers)
    assert found == status
    assert len(upstream.requests) == (status == 200)
    if status == 413:
        error = error_of(body)
        assert (error["type"], error["code"]) == ("invalid_request_error", "request_too_large")


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([("image", bytes(1_000_000), "a")], 200),
        ([("image", bytes(1_000_001), "a")], 413),
        ([("image", b"1", "a"), ("image[]", b"2", "b")], 200),
        ([("image", b"1", "a"), ("image[]", b"2", "b"), ("image[2]", b"3", "c")], 413),
        ([("image", b"1", "a"), ("image", b"2", "b"), ("mask", b"m", "m"), ("markup", b"u", "u")], 200),
        ([("x", b"1", "a"), ("y", b"2", "b"), ("z", b"3", "c"), ("q", b"4", "d"), ("r", b"5", "e")], 413),
        ([(f"f{number}", b"") for number in range(63)], 200),
        ([(f"f{number}", b"") for number in range(64)], 413),
        ([("long", b"x" * (1024 * 1024 - 3))], 200),
        ([("long", b"x" * (1024 * 1024 - 2))], 413),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else None,
)
async def test_the_largest_form(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, parts: list[Any], status: int
) -> None:
    """File size, number of images, number of parts and size of texts: each limit is exact, and is a 413."""
    proxy = await proxy_with(uploads={"max_file_mb": 1, "max_files": 2})
    found, body = await post_form(proxy, PROMPT, *parts)
    assert found == status, body[:500]
    assert len(upstream.requests) == (status == 200)
    if status == 413:
        assert error_of(body)["code"] == "request_too_large"


async def test_an_early_refusal_can_be_read(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A client that is still sending megabytes gets its answer, not a broken pipe; nothing is written to disk."""
    with pytest.raises(openai.PermissionDeniedError):
        await AnySdk(proxy, "sync", key=VIEWER_KEY).images(
            "edit", prompt="hat", image=png(size_bytes=20_000_000)
        )
    with pytest.raises(openai.AuthenticationError):
        await AnySdk(proxy, "sync", key="wrong").images("generate", **CAT, extra_body={"x": "x" * 20_000_000})
    assert upstream.requests == []
    assert list(context_of(proxy).spool.uploads.iterdir()) == []


async def test_a_file_that_is_too_large_can_be_told_so(
    proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """Also in the middle of an upload."""
    proxy = await proxy_with(uploads={"max_file_mb": 1})
    with pytest.raises(openai.APIStatusError) as caught:
        await AnySdk(proxy, "sync").images("edit", prompt="hat", image=png(size_bytes=20_000_000))
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
    assert upstream.requests == []


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_an_idempotency_key_is_printable_and_short(
    proxy: RunningProxy, upstream: ScriptedUpstream, key: str
) -> None:
    """What can't be a key is named, and not cut down to one."""
    request = http(body=CAT, headers={"Idempotency-Key": key})
    answer = await raw_call(proxy.url, request)
    assert (answer.status, error_of(answer.body)["param"]) == (400, "Idempotency-Key")
    assert upstream.requests == []


async def test_an_idempotency_key_is_for_one_request(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Used again for another one of the same user on the same route it is refused; elsewhere it is another key."""
    sent = {"extra_headers": {"Idempotency-Key": "k-1"}}
    mine, others = AnySdk(proxy, "async"), AnySdk(proxy, "async", key=OTHER_KEY)
    await mine.images("generate", **CAT, **sent)
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await mine.images("generate", **CAT, n=2, **sent)
    error = error_of(caught.value.response.content)
    assert (error["type"], error["code"]) == ("invalid_request_error", "idempotency_key_reused")
    await others.images("generate", **CAT, n=2, **sent)
    await mine.images("edit", prompt="hat", image=png(), **sent)
    assert (len(upstream.requests), len(await ledger_rows(proxy))) == (3, 3)


# --- When we can't --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_drain_refuses_paid_calls_only(
    proxy: RunningProxy, upstream: ScriptedUpstream, is_whole: bool
) -> None:
    """New calls go elsewhere at once, even before their form is sent; reads are served, on connections that close."""
    context_of(proxy).generation.is_draining = True
    sent = http(EDITS, form(PROMPT, ("image", png(), "a.png")), headers=FORM_TYPE)
    answer = await raw_call(proxy.url, sent if is_whole else sent[:-50] + bytes(50))
    error = error_of(answer.body)
    assert (answer.status, error["type"], error["code"]) == (
        503,
        "service_unavailable_error",
        "shutting_down",
    )
    assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
    status, headers, _ = await proxy.request("GET", "/v1/images")
    assert (status, headers["Connection"]) == (200, "close")
    assert upstream.requests == []


async def test_a_full_disk_refuses_before_money_is_spent(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an answer that SDKs retry later; with room again the next call is served."""
    monkeypatch.setattr("pixie_proxy.spool.area._free_bytes", lambda _: 200_000_000)
    monkeypatch.setattr("pixie_proxy.spool.area._FREE_MAX_AGE_S", 0)
    for n, status in ((1, 200), (10, 503), (1, 200)):
        found, headers, body = await proxy.request("POST", GENERATIONS, json={**CAT, "n": n})
        assert found == status
        if status == 503:
            error = error_of(body)
            assert (error["type"], error["code"]) == ("service_unavailable_error", "storage_full")
            assert 1 <= int(headers["retry-after"]) <= 60
    assert len(upstream.requests) == 2
    assert (await account(proxy)).in_flight == 0
    assert context_of(proxy).spool._images_under_way == 0


async def test_an_index_that_is_away_refuses_before_money_is_spent(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Without a ledger nothing is bought; SDKs may come again."""
    await context_of(proxy).index.close()
    with pytest.raises(openai.InternalServerError) as caught:
        await proxy.sdk().images.generate(**CAT)
    error = error_of(caught.value.response.content)
    assert (caught.value.status_code, error["type"]) == (503, "service_unavailable_error")
    assert error["code"] == "index_unavailable"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
    assert upstream.requests == []


async def test_a_disk_that_fails_refuses_an_upload(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent that could not be sent again."""

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pixie_proxy.web.bodies._open", broken)
    status, body = await post_form(proxy, PROMPT, ("image", png(), "a.png"))
    assert (status, error_of(body)["code"]) == (503, "storage_unavailable")
    assert upstream.requests == []


@pytest.mark.parametrize(
    "where", ["pixie_proxy.web.images.ImageRequest.params", "pixie_proxy.web.images.read_json"]
)
async def test_a_fault_of_ours_shows_no_cause(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    """A fixed text and the request's id, under which the log has the rest."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret cause")

    monkeypatch.setattr(where, broken)
    status, headers, body = await proxy.request("POST", GENERATIONS, json=CAT)
    error = error_of(body)
    assert (status, error["type"], error["code"]) == (500, "server_error", "internal_error")
    assert b"secret" not in body
    assert headers["x-request-id"] in [getattr(record, "request_id", None) for record in caplog.records]
    assert "a secret cause" in caplog.text
    assert upstream.requests == []


async def test_a_fault_of_ours_in_the_middle_of_a_call_settles_it(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent, so it may have been charged; the client is not left waiting, and its slot is free."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret cause")

    monkeypatch.setattr("pixie_proxy.generation.billing.Billing.done", broken)
    for is_stream in (False, True):
        upstream.script(image_sse() if is_stream else image_json())
        answer = await raw_call(proxy.url, http(body={**CAT, "stream": is_stream}))
        assert b"internal_error" in answer.body
        assert b"secret" not in answer.body
        assert (answer.status, answer.end) == ((200, "rst") if is_stream else (500, "whole"))
    assert [row.state for row in await ledger_rows(proxy)] == ["unknown", "unknown"]
    assert (await account(proxy)).in_flight == 0
