"""What an address can answer with: its good ends, and the errors that its access, path, method and body bring along."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pixie_proxy import errors
from pixie_proxy.errors import ProxyError
from pixie_proxy.web.openapi.words import (
    TEXT,
    Content,
    Operation,
    Schema,
    content_of,
    json,
    nullable,
    record,
    ref,
)

if TYPE_CHECKING:
    from pixie_proxy.web.routes import Route

ERROR: Schema = record(error=record(message=TEXT, type=TEXT, param=nullable(TEXT), code=nullable(TEXT)))
UPSTREAM_ERROR: Schema = {
    "type": "object",
    "description": "An error of the upstream's, which passes with its own status and body.",
    "properties": {"error": {"type": "object"}},
    "required": ["error"],
}


def answers(route: Route, operation: Operation) -> dict[str, Any]:
    """Describe all answers of an operation, by status."""
    codes: dict[int, list[str | None]] = {}
    for error in dict.fromkeys(_errors(route, operation)):
        codes.setdefault(error.status, []).append(error.code)
    found = {
        status: _answer(HTTPStatus(status).phrase, content)
        for status, content in {200: operation.answer, **operation.also}.items()
    }
    found |= {status: _refusal(status, codes[status], operation) for status in codes}
    said = {str(status): found[status] for status in sorted(found)}
    if operation.is_paid:
        said["default"] = _answer("An error of the upstream's.", json(ref("UpstreamError")))
    return said


def _errors(route: Route, operation: Operation) -> Iterator[type[ProxyError]]:
    yield errors.InvalidBody  # the head of any request may be broken
    if operation.query or operation.body or operation.headers:
        yield errors.InvalidValue
    if operation.body or operation.needs:
        yield errors.MissingParameter
    if operation.body:
        yield from (errors.RequestTooLarge, errors.UnsupportedMediaType)
    if route.access != "open":
        yield errors.InvalidApiKey
    if route.access in {"maker", "admin", "admin key"}:
        yield errors.PermissionDenied
    if route.access not in {"open", "admin key"}:  # a cookie does: its session is in the index
        yield from (errors.CsrfFailed, errors.IndexUnavailable)
        if route.method != "GET":
            yield errors.RequestTooLarge  # the form that its token came in
    if "{" in route.path:
        yield errors.NotFound
    yield from operation.errors
    yield errors.InternalError


def _refusal(status: int, codes: list[str | None], operation: Operation) -> dict[str, Any]:
    named = ", ".join(f"`{code}`" for code in codes)
    ours = {"allOf": [ref("Error"), {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}]}
    schema = {"anyOf": [ours, ref("UpstreamError")]} if operation.is_paid else ours
    return _answer(f"{HTTPStatus(status).phrase}: {named}.", json(schema))


def _answer(description: str, content: Content) -> dict[str, Any]:
    said = {
        "description": description,
        "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}},
    }
    return {**said, "content": content_of(content)} if content else said
