"""Requests that HTTP itself does not allow: refused before anybody looks at them, in the same words as all others."""

from __future__ import annotations

import pytest

from tests.support.proxy import RunningProxy
from tests.support.upstream import ScriptedUpstream
from tests.web.calling import GENERATIONS, account, error_of, http, ledger_rows, raw_call

HEAD = http().removesuffix(b"\r\n")
BROKEN = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 7\r\n\r\n",
    "length and chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a signed length": HEAD.replace(b"Content-Length: 0", b"Content-Length: +0") + b"\r\n",
    "a folded header": HEAD + b"X-A: 1\r\n 2\r\n\r\n",
    "a bare CR": HEAD + b"X-A: 1\rX-B: 2\r\n\r\n",
    "a space in a name": HEAD + b"X A: 1\r\n\r\n",
    "a zero byte": HEAD + b"X-A: \0\r\n\r\n",
    "a line without end": HEAD + b"X-A: " + b"x" * 20_000 + b"\r\n\r\n",
    "headers without end": HEAD + b"X-A: 1\r\n" * 300 + b"\r\n",
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=list(BROKEN))
async def test_a_head_that_can_not_be_read_is_refused_in_the_envelope(
    proxy: RunningProxy, upstream: ScriptedUpstream, sent: bytes
) -> None:
    """With an id, without a page of aiohttp's; the connection ends there, and nothing was counted or sent."""
    answer = await raw_call(proxy.url, sent)
    assert (answer.status, answer.end) == (400, "whole")
    assert error_of(answer.body)["code"] == "invalid_body"
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-request-id"].startswith("req_")
    assert (answer.headers["server"], answer.headers["connection"]) == ("pixie_proxy", "close")
    assert upstream.requests == []
    assert await ledger_rows(proxy) == []
    assert (await account(proxy)).requests_tat_us == 0


@pytest.mark.parametrize("path", [GENERATIONS, "/nowhere"])
async def test_an_expectation_that_can_not_be_met_is_refused_in_the_envelope(
    proxy: RunningProxy, path: str
) -> None:
    """So is what the standard lets a server refuse with 417."""
    answer = await raw_call(proxy.url, http(path, headers={"Expect": "tea"}))
    assert (answer.status, answer.end, error_of(answer.body)["code"]) == (417, "whole", "invalid_body")
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_client_that_waits_for_100_gets_it(proxy: RunningProxy) -> None:
    """Curl asks so before a large form, and then sends it."""
    answer = await raw_call(proxy.url, http(headers={"Expect": "100-continue"}))
    assert answer.status == 100
    assert b'"code":"unsupported_media_type"' in answer.body
