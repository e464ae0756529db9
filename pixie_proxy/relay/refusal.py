"""What an answer of the upstream's that is no image means for the client, and for the bill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pixie_proxy.errors import (
    ProxyError,
    UpstreamOutcomeUnknown,
    UpstreamRefused,
    UpstreamRejectedCredentials,
    UpstreamUnreachable,
)

MAX_ERROR_BYTES = 1024 * 1024

_OVERLOADED = frozenset({"slow_down", "server_is_overloaded"})
_QUOTA = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
    }
)
_BLAMES_REQUEST = frozenset({"invalid_request_error", "image_generation_user_error"})
_MAX_RETRY_AFTER_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error answer, judged. `is_definite`: the upstream surely made and charged nothing."""

    error: ProxyError
    is_definite: bool
    may_send_again: bool
    retry_after_s: float | None = None

    @property
    def summary(self) -> str:
        """What the ledger remembers of it, in one line."""
        status, body = self.error.answer()
        said = body["error"]
        return f"{status} {said['code'] or said['type']}: {said['message']}"[:2000]


def judge(status: int, headers: Mapping[str, str], body: bytes, secret: str, request_id: str) -> Refusal:
    """Judge an answer that is not a success. `secret` is the operator's key: it is cut out of what passes."""
    if status in {401, 403}:
        message = (
            "The upstream refused the proxy's own credentials. The operator has to mend upstream.api_key."
        )
        return Refusal(error=UpstreamRejectedCredentials(message), is_definite=True, may_send_again=False)
    if 300 <= status < 400:
        message = (
            "The upstream answered with a redirect, which we never follow. The operator has to mend base_url."
        )
        return Refusal(error=UpstreamUnreachable(message), is_definite=True, may_send_again=False)
    said = _envelope(body, secret)
    if status < 400 or (status >= 500 and said is None):
        return Refusal(error=outcome_unknown(request_id), is_definite=False, may_send_again=False)
    if said is None:
        said = _own_envelope(status, body, secret)
    retry_after_s = _retry_after_s(headers)
    code, kind = said["error"]["code"], said["error"]["type"]
    passed: dict[str, str] = {}
    if status == 429 and (code in _QUOTA or kind in _QUOTA):
        passed["x-should-retry"] = "false"
        retry_after_s = None
    elif retry_after_s is not None:
        passed["retry-after"] = str(min(_MAX_RETRY_AFTER_S, max(1, round(retry_after_s))))
    may_send_again = (status == 429 and retry_after_s is not None) or (status == 503 and code in _OVERLOADED)
    return Refusal(
        error=UpstreamRefused(status, said, headers=passed),
        is_definite=True,
        may_send_again=may_send_again,
        retry_after_s=retry_after_s,
    )


def judge_error(error: Any) -> Refusal:
    """Judge an error that came under a status of success: the upstream's word that it made nothing.

    It gets the status that it should have had: 400 if it blames the request, else 500. Its text is scrubbed already.
    """
    told = error if isinstance(error, dict) else {"message": error}
    message = told.get("message")
    if not isinstance(message, str) or not message:
        message = "The upstream reported an error and did not say which."
    said = {"type": None, "param": None, "code": None, **told, "message": message}
    blames_request = said["type"] in _BLAMES_REQUEST or said["code"] == "moderation_blocked"
    return Refusal(
        error=UpstreamRefused(400 if blames_request else 500, {"error": said}),
        is_definite=True,
        may_send_again=False,
    )


def is_envelope(fields: Any) -> bool:
    """Tell whether a document is OpenAI's error envelope."""
    error = fields.get("error") if isinstance(fields, dict) else None
    return isinstance(error, dict) and isinstance(error.get("message"), str)


def outcome_unknown(request_id: str) -> UpstreamOutcomeUnknown:
    """Say that a call may have been charged and brought nothing whole."""
    message = (
        "The upstream took the request and gave no whole answer, so it may have been charged. "
        f"It was not sent again. Ask the operator about request {request_id}."
    )
    return UpstreamOutcomeUnknown(message, headers={"x-should-retry": "false"})


def _envelope(body: bytes, secret: str) -> dict[str, Any] | None:
    """Read OpenAI's error envelope, with all four keys filled in and the operator's key cut out."""
    said = _parsed(body, secret)
    if not is_envelope(said):
        return None
    return {**said, "error": {"message": None, "type": None, "param": None, "code": None, **said["error"]}}


def _parsed(body: bytes, secret: str) -> Any:
    """Read JSON, the operator's key cut out of it however it was escaped; None for what is no JSON."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return orjson.loads(orjson.dumps(said).replace(secret.encode(), b"[hidden]")) if secret else said


def _own_envelope(status: int, body: bytes, secret: str) -> dict[str, Any]:
    """Wrap a refusal that has a form of its own (`{"error": "text"}`, FastAPI's `detail`, plain text)."""
    said = _parsed(body, secret)
    text = None
    if isinstance(said, dict):
        text = next(
            (said[name] for name in ("error", "detail", "message") if isinstance(said.get(name), str)), None
        )
    message = text or f"The upstream refused the request with status {status}."
    return {
        "error": {"message": message[:2000], "type": "invalid_request_error", "param": None, "code": None}
    }


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `retry-after-ms` or `retry-after` in seconds; a date is not worth reading, it only means «later»."""
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            value = float(headers[name]) / scale
        except (KeyError, ValueError):
            continue
        if 0 <= value < 86400:
            return value
    return None
