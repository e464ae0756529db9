"""Every error a client can meet, each carrying the answer it becomes.

    ProxyError
    ├── ClientError            the caller can mend it
    │   ├── InvalidApiKey                401
    │   ├── PermissionDenied             403   (ModelNotAllowed, CsrfFailed)
    │   ├── NotFound                     404   (UnknownUrl)
    │   ├── MethodNotAllowed             405
    │   ├── UnsupportedMediaType         415
    │   ├── InvalidBody                  400   (ExpectationFailed: 417)
    │   ├── InvalidValue                 400   (MissingParameter, UnpricedModel)
    │   ├── RequestTooLarge              413
    │   ├── RangeNotSatisfiable          416
    │   └── IdempotencyKeyReused         422
    ├── LimitError             the caller can wait, or ask the admin
    │   ├── RateLimitExceeded            429
    │   ├── ConcurrencyLimitExceeded     429
    │   └── BudgetExhausted              429
    ├── Unavailable            we can't serve paid calls right now
    │   ├── StorageFull, StorageUnavailable, IndexUnavailable, ShuttingDown   503
    ├── UpstreamError          the server behind us
    │   ├── UpstreamUnreachable          502
    │   ├── UpstreamOutcomeUnknown       502
    │   ├── UpstreamRejectedCredentials  502
    │   └── UpstreamRefused              its own status and body
    └── InternalError          500, the cause is never shown

The bodies have OpenAI's envelope: `{"error": {"message", "type", "param", "code"}}`, all four keys always there.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self


class ConfigError(Exception):
    """Settings that can't be used; one line a problem."""

    def __init__(self, *problems: str) -> None:
        """Keep every problem, so that one start tells them all."""
        super().__init__("\n".join(problems))
        self.problems = problems


class ProxyError(Exception):
    """An error with its own answer. `headers` go out beside the body."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Describe the fault and what to do next; `param` names the field at fault."""
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = headers or {}

    def with_headers(self, headers: dict[str, str]) -> Self:
        """Give an error of its own to one more client, with headers over those that it has."""
        copied = self.__class__.__new__(self.__class__, *self.args)
        copied.__dict__.update(self.__dict__, headers={**self.headers, **headers})
        return copied

    def answer(self) -> tuple[int, dict[str, Any]]:
        """Give the status and the body that the client gets."""
        return self.status, {
            "error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        }


class InternalError(ProxyError):
    """Our own fault. The message is fixed: a cause could hold a secret."""

    def __init__(self) -> None:
        """Take no message, so that none can leak."""
        super().__init__("The proxy met an internal error. The log has the details under this request's id.")


class ClientError(ProxyError):
    """Something in the request that the caller can mend."""

    status, type = 400, "invalid_request_error"


class InvalidApiKey(ClientError):
    """No key, or none that we know: unknown, revoked, expired and disabled look alike."""

    status, code = 401, "invalid_api_key"


class PermissionDenied(ClientError):
    """The key is good, the act is not for its role."""

    status, type, code = 403, "permission_error", "permission_denied"


class ModelNotAllowed(PermissionDenied):
    """The operator does not offer this model."""

    code = "model_not_allowed"


class CsrfFailed(PermissionDenied):
    """A change that a browser sent from elsewhere, or without its token."""

    code = "csrf_failed"


class NotFound(ClientError):
    """No such thing, or one that the caller may not see: the two answer alike."""

    status, code = 404, "not_found"


class UnknownUrl(NotFound):
    """No such route."""

    code = "unknown_url"


class MethodNotAllowed(ClientError):
    """The route exists, for other methods."""

    status, code = 405, "method_not_allowed"


class UnsupportedMediaType(ClientError):
    """A body in a form that the route does not take."""

    status, code = 415, "unsupported_media_type"


class InvalidBody(ClientError):
    """Broken JSON or multipart."""

    code = "invalid_body"


class ExpectationFailed(InvalidBody):
    """An `Expect` header that we can't meet."""

    status, code = 417, "invalid_body"


class InvalidValue(ClientError):
    """A field whose value can't be right."""

    code = "invalid_value"


class MissingParameter(InvalidValue):
    """A field that must be there."""

    code = "missing_required_parameter"


class UnpricedModel(InvalidValue):
    """A model without a price, asked for by somebody with a budget."""

    code = "unpriced_model"


class RequestTooLarge(ClientError):
    """More bytes, files or parts than the settings allow."""

    status, code = 413, "request_too_large"


class RangeNotSatisfiable(ClientError):
    """A byte range outside the image."""

    status, code = 416, "range_not_satisfiable"


class IdempotencyKeyReused(ClientError):
    """One idempotency key, two different bodies."""

    status, code = 422, "idempotency_key_reused"


class LimitError(ProxyError):
    """A limit of the caller's; nothing was consumed."""

    status, type = 429, "rate_limit_error"


class RateLimitExceeded(LimitError):
    """Too many requests or images a minute."""

    code = "rate_limit_exceeded"


class ConcurrencyLimitExceeded(LimitError):
    """Too many requests at once."""

    code = "concurrency_limit_exceeded"


class BudgetExhausted(LimitError):
    """Spend plus live holds would pass the budget; SDKs are told not to retry."""

    type, code = "insufficient_quota", "budget_exhausted"


class Unavailable(ProxyError):
    """Paid calls are refused before they cost anything."""

    status, type = 503, "service_unavailable_error"
    remedy = ""
    """What mends it, for the operator: no client reads it."""

    def mended_by(self, remedy: str) -> Self:
        """Say what mends it."""
        self.remedy = remedy
        return self


class StorageFull(Unavailable):
    """No room on disk for one more answer."""

    code = "storage_full"


class StorageUnavailable(Unavailable):
    """The storage or the spool can't be written."""

    code = "storage_unavailable"


class IndexUnavailable(Unavailable):
    """The index can't be read or written."""

    code = "index_unavailable"


class ShuttingDown(Unavailable):
    """A drain: running calls end, new ones go elsewhere."""

    code = "shutting_down"


class UpstreamError(ProxyError):
    """A fault of the server behind us."""

    status, type = 502, "upstream_error"


class UpstreamUnreachable(UpstreamError):
    """Nothing was sent: the call cost nothing."""

    code = "upstream_unreachable"


class UpstreamOutcomeUnknown(UpstreamError):
    """The request went out whole and no whole answer came: it may have been charged, so SDKs must not retry."""

    code = "upstream_outcome_unknown"


class UpstreamRejectedCredentials(UpstreamError):
    """The operator's key was refused; the upstream's own words are never shown."""

    code = "upstream_rejected_credentials"


class UpstreamRefused(ProxyError):
    """An error of the upstream's that passes as it came, scrubbed of the operator's key."""

    def __init__(self, status: int, body: dict[str, Any], *, headers: dict[str, str] | None = None) -> None:
        """Keep the upstream's status and JSON body."""
        super().__init__("The upstream refused the request.", headers=headers)
        self.upstream_status = status
        self.upstream_body = body

    def answer(self) -> tuple[int, dict[str, Any]]:
        """Give the upstream's status and body."""
        return self.upstream_status, self.upstream_body
