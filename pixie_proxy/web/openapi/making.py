"""Calls that make images, as OpenAI has them. What we do not read goes to the upstream: these bodies are open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixie_proxy.errors import (
    BudgetExhausted,
    ConcurrencyLimitExceeded,
    IdempotencyKeyReused,
    ModelNotAllowed,
    NotFound,
    RateLimitExceeded,
    ShuttingDown,
    StorageFull,
    StorageUnavailable,
    UnpricedModel,
    UpstreamOutcomeUnknown,
    UpstreamRejectedCredentials,
    UpstreamUnreachable,
)
from pixie_proxy.relay.request import MAX_IMAGES, MAX_PARTIAL_IMAGES
from pixie_proxy.web.images import MAX_IDEMPOTENCY_KEY
from pixie_proxy.web.openapi.words import (
    BOOLEAN,
    COUNT,
    FORM,
    JSON,
    OPEN,
    STREAM,
    TEXT,
    USD,
    Content,
    Operation,
    Schema,
    Subject,
    json,
    list_of,
    nullable,
    one_of,
    record,
    ref,
    text,
)

_PROMPT = {"prompt": {"type": "string", "pattern": r"\S"}}
_FIELDS: Mapping[str, Schema] = {
    "model": nullable(TEXT),
    "n": nullable({"type": "integer", "minimum": 1, "maximum": MAX_IMAGES}),
    "stream": nullable(BOOLEAN),
    "partial_images": nullable({"type": "integer", "minimum": 0, "maximum": MAX_PARTIAL_IMAGES}),
    "response_format": nullable(one_of(["url", "b64_json"])),
}
_FILE: Schema = {"type": "string", "format": "binary"}
_FILES: Mapping[str, Schema] = {"image": _FILE, "image[]": list_of(_FILE), "mask": _FILE}
_REFERENCE: Schema = {**OPEN, "properties": {"image_url": TEXT}}

_EVENT: Schema = {
    **OPEN,
    "description": "One event of a stream: partial images, then one `completed` an image. `data` is JSON.",
    "properties": {"event": TEXT, "data": TEXT},
}


def _asked(required: Mapping[str, Schema], more: Mapping[str, Schema]) -> Schema:
    return {**OPEN, "properties": {**required, **more}, "required": list(required)}


def _form(required: Mapping[str, Schema]) -> Schema:
    """Describe a form: what is null in JSON is left out of it."""
    fields = {name: schema["anyOf"][0] for name, schema in _FIELDS.items()}
    return _asked(required, {**fields, **_FILES})


_GENERATION = json(_asked(_PROMPT, _FIELDS))
_EDIT: Content = {
    FORM: _form(_PROMPT),
    JSON: _asked(_PROMPT, {**_FIELDS, "images": list_of(_REFERENCE), "mask": _REFERENCE}),
}


def _paid(body: Content) -> Operation:
    return Operation(
        headers={"Idempotency-Key": text(MAX_IDEMPOTENCY_KEY)},
        body=body,
        answer={**json(ref("Images")), STREAM: _EVENT},
        errors=(
            UnpricedModel,
            ModelNotAllowed,
            NotFound,
            IdempotencyKeyReused,
            RateLimitExceeded,
            ConcurrencyLimitExceeded,
            BudgetExhausted,
            UpstreamUnreachable,
            UpstreamOutcomeUnknown,
            UpstreamRejectedCredentials,
            StorageFull,
            StorageUnavailable,
            ShuttingDown,
        ),
        is_paid=True,
    )


_ESTIMATE: dict[str, Any] = {
    "object": one_of(["estimate"]),
    "model": TEXT,
    "requested_model": nullable(TEXT),
    "images": {"type": "integer", "minimum": 1, "maximum": MAX_IMAGES},
    "inputs": COUNT,
    "currency": one_of(["usd"]),
    "estimated_usd": nullable(USD),
    "ceiling_usd": nullable(USD),
    "open": list_of(one_of(["size", "quality"])),
    "priced": BOOLEAN,
    "prices": nullable(ref("Prices")),
}

MAKING = Subject(
    tag="Make images",
    operations={
        "POST /v1/images/generations": _paid(_GENERATION),
        "POST /v1/images/edits": _paid(_EDIT),
        "POST /v1/images/variations": _paid({FORM: _form({})}),
        "POST /v1/images/estimate": Operation(
            body=_EDIT,
            answer=json(ref("Estimate")),
            errors=(
                UnpricedModel,
                ModelNotAllowed,
                ConcurrencyLimitExceeded,
                StorageFull,
                StorageUnavailable,
                ShuttingDown,
            ),
        ),
    },
    schemas={
        "Images": {
            **OPEN,
            "description": "The upstream's answer; `url` is ours.",
            "properties": {"data": list_of({**OPEN, "properties": {"b64_json": TEXT, "url": TEXT}})},
        },
        "Estimate": record(**_ESTIMATE),
    },
)
