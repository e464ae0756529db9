"""Money: what may still be spent, and what was."""

from __future__ import annotations

from typing import Any, get_args

from pixie_proxy.admission.budget import Span
from pixie_proxy.index.usage import By
from pixie_proxy.records import KINDS, PartyKind, State
from pixie_proxy.web.openapi.words import (
    BOOLEAN,
    COUNT,
    OPEN,
    SPAN,
    TEXT,
    TIME_S,
    USD,
    Operation,
    Schema,
    Subject,
    id_of,
    json,
    list_of,
    nullable,
    one_of,
    page_of,
    record,
    ref,
    text,
    walk,
)
from pixie_proxy.web.usage import FORMATS

_BUDGET: dict[str, Schema] = {
    "limit_usd": USD,
    "spent_usd": USD,
    "held_usd": USD,
    "remaining_usd": {"type": "number", "description": "Below nothing where a call cost more than it held."},
    "resets_at": nullable(TIME_S),
}
_SPENT: dict[str, Any] = {
    "requests": COUNT,
    "images": COUNT,
    "failed": COUNT,
    "unknown": COUNT,
    "cost_usd": USD,
    "held_usd": USD,
}

MONEY = Subject(
    tag="Money",
    holes={"id": id_of("req")},
    operations={
        "GET /v1/credits/balance": Operation(answer=json(ref("Balance"))),
        "GET /v1/requests": Operation(
            query={
                **walk("req"),
                "owner": text(),
                "key": text(),
                "model": text(),
                "kind": one_of(KINDS),
                "state": one_of(get_args(State)),
            },
            answer=json(page_of("Request")),
        ),
        "GET /v1/requests/{id}": Operation(answer=json(ref("Request"))),
        "GET /v1/usage": Operation(
            query={
                "by": {**one_of(get_args(By)), "default": "day"},
                **SPAN,
                "owner": text(),
                "format": {**one_of(FORMATS), "default": "json"},
            },
            answer={**json(ref("Usage")), "text/csv": TEXT},
        ),
    },
    schemas={
        "Balance": record(
            object=one_of(["balance"]),
            currency=one_of(["usd"]),
            **{name: nullable(schema) for name, schema in _BUDGET.items()},
            budgets=list_of(
                record(subject=one_of(get_args(PartyKind)), period=one_of(get_args(Span)), **_BUDGET)
            ),
        ),
        "Request": record(
            id=id_of("req"),
            object=one_of(["request"]),
            created=TIME_S,
            duration_s=nullable({"type": "number", "minimum": 0}),
            state=one_of(get_args(State)),
            kind=one_of(KINDS),
            owner=TEXT,
            key=nullable(id_of("key")),
            key_name=nullable(TEXT),
            requested_model=nullable(TEXT),
            model=TEXT,
            prompt=nullable(TEXT),
            params={**OPEN, "description": "What describes the picture, as it was asked for."},
            stream=BOOLEAN,
            images_asked=COUNT,
            images=list_of(id_of("img")),
            hold_usd=USD,
            cost_usd=nullable(USD),
            usage=nullable({**OPEN, "description": "As the upstream reported it."}),
            error=nullable(TEXT),
            flags=list_of(TEXT),
            upstream_request_id=nullable(TEXT),
        ),
        "Usage": record(
            object=one_of(["usage"]),
            by=one_of(get_args(By)),
            since=TIME_S,
            until=TIME_S,
            currency=one_of(["usd"]),
            data=list_of(
                {
                    "oneOf": [
                        record(user=nullable(TEXT), user_id=id_of("usr"), **_SPENT),
                        record(
                            key=nullable(id_of("key")), key_name=nullable(TEXT), user=nullable(TEXT), **_SPENT
                        ),
                        record(model=TEXT, **_SPENT),
                        record(day={"type": "string", "format": "date"}, **_SPENT),
                    ]
                }
            ),
            total=record(**_SPENT),
        ),
    },
)
