"""What an answer of the upstream's that is no image means, case by case and for any bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixie_proxy.errors import (
    UpstreamOutcomeUnknown,
    UpstreamRefused,
    UpstreamRejectedCredentials,
    UpstreamUnreachable,
)
from pixie_proxy.relay.refusal import Refusal, judge

SECRET = "sk-secret-0123456789"


def judged(status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> Refusal:
    if isinstance(body, dict):
        body = json.dumps({"error": {"message": "no", **body}}).encode()
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge(status, told, body, SECRET, "req_1")


ENVELOPES = st.from_regex(r'\{"error":\{"message":"[a-z]*"(,"code":"slow_down")?\}\}', fullmatch=True)


@given(
    st.integers(100, 599).filter(lambda status: status != 200),
    st.binary(max_size=80) | ENVELOPES.map(str.encode),
    st.sampled_from(["", "0", "1", "-1", "x", "nan", "1e400", "1e3", "inf", " 3 "]),
)
def test_any_answer_gets_a_judgement(status: int, body: bytes, wait: str) -> None:
    """Never an error of ours; always an envelope; the wait is one that SDKs believe; an unknown is not resent."""
    found = judged(status, body, retry_after=wait)
    told, answer = found.error.answer()
    assert 400 <= told <= 599
    assert {"message", "type", "param", "code"} <= set(answer["error"])
    assert 1 <= int(found.error.headers.get("retry-after", 1)) <= 60
    assert found.is_definite or not found.may_send_again
    assert found.retry_after_s is None or found.retry_after_s >= 0


@pytest.mark.parametrize(
    ("status", "body", "error", "is_definite", "may_send_again"),
    [
        (301, b"", UpstreamUnreachable, True, False),
        (304, b"", UpstreamUnreachable, True, False),
        (401, b"", UpstreamRejectedCredentials, True, False),
        (403, {"code": "slow_down"}, UpstreamRejectedCredentials, True, False),
        (400, {}, UpstreamRefused, True, False),
        (404, b"<html>", UpstreamRefused, True, False),
        (429, {}, UpstreamRefused, True, False),
        (500, {}, UpstreamRefused, True, False),
        (500, b"<html>", UpstreamOutcomeUnknown, False, False),
        (503, {"code": "slow_down"}, UpstreamRefused, True, True),
        (503, {"code": "server_is_overloaded"}, UpstreamRefused, True, True),
        (503, {"code": "maintenance"}, UpstreamRefused, True, False),
        (500, {"code": "slow_down"}, UpstreamRefused, True, False),
        (503, b'{"error":"slow_down"}', UpstreamOutcomeUnknown, False, False),
        (524, b"", UpstreamOutcomeUnknown, False, False),
        (201, {}, UpstreamOutcomeUnknown, False, False),
    ],
)
def test_who_pays_and_who_may_try_again(
    status: int, body: Any, error: type[Exception], is_definite: bool, may_send_again: bool
) -> None:
    """A refusal with OpenAI's envelope made nothing; whatever else answers, may have."""
    found = judged(status, body)
    assert isinstance(found.error, error)
    assert (found.is_definite, found.may_send_again) == (is_definite, may_send_again)


@pytest.mark.parametrize(
    ("headers", "wait_s", "told"),
    [
        ({"retry_after": "7"}, 7, "7"),
        ({"retry_after": "0"}, 0, "1"),
        ({"retry_after": "0.4"}, 0.4, "1"),
        ({"retry_after": "600"}, 600, "60"),
        ({"retry_after_ms": "1500"}, 1.5, "2"),
        ({"retry_after_ms": "20", "retry_after": "9"}, 0.02, "1"),
        ({"retry_after_ms": "soon", "retry_after": "9"}, 9, "9"),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, None),
        ({"retry_after": "99999999"}, None, None),
        ({}, None, None),
    ],
)
def test_the_wait(headers: dict[str, str], wait_s: float | None, told: str | None) -> None:
    """A 429 is sent again only where the upstream said when; the client is told no more than it believes."""
    found = judged(429, {"code": "rate_limit_exceeded"}, **headers)
    assert (found.retry_after_s, found.may_send_again) == (wait_s, wait_s is not None)
    assert found.error.headers.get("retry-after") == told


@pytest.mark.parametrize("said", [{"type": "insufficient_quota"}, {"code": "credit_balance_exhausted"}])
def test_no_money_is_not_mended_by_waiting(said: dict[str, str]) -> None:
    """SDKs take any 429 for a reason to retry, unless they are told."""
    found = judged(429, said, retry_after="1")
    assert (found.may_send_again, found.error.headers) == (False, {"x-should-retry": "false"})


@given(st.text(max_size=10), st.text(max_size=10), st.booleans())
def test_the_operators_key_is_cut_out_of_any_text(before: str, after: str, ascii_only: bool) -> None:
    """However it is escaped, and wherever it stands: in a key, a list, twice in a row."""
    hidden = [{SECRET: [before + SECRET + after, SECRET * 2]}]
    said = {"error": {"message": before + SECRET, "code": SECRET + after, "details": hidden}, SECRET: SECRET}
    for status in (400, 500):
        found = judged(status, json.dumps(said, ensure_ascii=ascii_only).encode("utf-8", "replace"))
        assert SECRET not in json.dumps(found.error.answer()[1])
