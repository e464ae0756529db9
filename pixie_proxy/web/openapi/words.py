"""The words that addresses are described in: schemas of JSON, and what an operation takes and answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pixie_proxy.config import Settings
from pixie_proxy.errors import ProxyError
from pixie_proxy.records import IdKind
from pixie_proxy.web.queries import DEFAULT_LIMIT, MAX_EPOCH_S, MAX_LIMIT, MAX_TEXT, ORDERS

Schema = Mapping[str, Any]
Content = Mapping[str, Schema]
"""Schemas by media type."""

JSON, FORM, STREAM = "application/json", "multipart/form-data", "text/event-stream"

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
BOOLEAN: Schema = {"type": "boolean"}
USD: Schema = {"type": "number", "minimum": 0}
TIME_S: Schema = {"type": "integer", "minimum": 0, "description": "Seconds since 1970, UTC."}
OPEN: Schema = {"type": "object", "additionalProperties": True}
ASKED: Schema = {"description": "As it was asked for, mostly a text; null if nothing was."}
NO_BODY: Content = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One address, but for what its route and its handler's docstring tell: summary, credentials, usual errors.

    `answer` is the 200's, `also` has those of other good ends; `errors` are those that no rule knows (see `answers`).
    `query` may depend on the settings, and `needs` names what of it must be there. `is_paid`: the upstream's own errors
    pass as well.
    """

    answer: Content
    also: Mapping[int, Content] = field(default_factory=dict)
    query: Mapping[str, Schema | Callable[[Settings], Schema]] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    headers: Content = field(default_factory=dict)
    body: Content = field(default_factory=dict)
    errors: tuple[type[ProxyError], ...] = ()
    is_paid: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Addresses that belong together. `holes` are the variable parts of their paths, `schemas` what they speak of."""

    tag: str
    operations: Mapping[str, Operation]
    holes: Content = field(default_factory=dict)
    schemas: Content = field(default_factory=dict)


def json(schema: Schema) -> Content:
    """Say that it is JSON."""
    return {JSON: schema}


def content_of(content: Content) -> dict[str, Any]:
    """Write schemas by media type as OpenAPI does."""
    return {mime: {"schema": schema} for mime, schema in content.items()}


def record(**fields: Schema) -> Schema:
    """Describe an object that always has all of these fields, and no other."""
    return {**taken(**fields), "required": list(fields)}


def taken(*required: str, **fields: Schema) -> Schema:
    """Describe an object that is sent to us: it may have these fields and no other."""
    return {
        "type": "object",
        "properties": fields,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }


def change(**fields: Schema) -> Schema:
    """Describe an object that is sent to change something: it has at least one of these fields, and no other."""
    return {**taken(**fields), "minProperties": 1}


def ref(name: str) -> Schema:
    """Refer to what a subject describes under this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(schema: Schema) -> Schema:
    """Describe an array."""
    return {"type": "array", "items": schema}


def page_of(name: str) -> Schema:
    """Describe a part of a list, as OpenAI has them."""
    return record(
        object=one_of(["list"]),
        data=list_of(ref(name)),
        first_id=nullable(TEXT),
        last_id=nullable(TEXT),
        has_more=BOOLEAN,
    )


def one_of(choices: Collection[str | int]) -> Schema:
    """Describe one of several words, or numbers."""
    return {
        "type": "integer" if all(isinstance(each, int) for each in choices) else "string",
        "enum": [*choices],
    }


def nullable(schema: Schema) -> Schema:
    """Describe what may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def text(most: int = MAX_TEXT, least: int = 1) -> Schema:
    """Describe a text of so many characters."""
    return {"type": "string", "minLength": least, "maxLength": most}


def id_of(kind: IdKind) -> Schema:
    """Describe an id of ours."""
    return {"type": "string", "pattern": f"^{kind}_[0-9a-v]{{26}}$"}


def walk(kind: IdKind) -> dict[str, Schema]:
    """Describe what `queries.walk` reads, for a list of this kind."""
    return {
        "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "after": {**id_of(kind), "description": "What follows it. Not together with `before`."},
        "before": {**id_of(kind), "description": "What precedes it."},
        "order": {**one_of(ORDERS), "default": "desc"},
        **SPAN,
    }


_MOMENT: Schema = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": MAX_EPOCH_S},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "date"},
    ]
}
SPAN: Mapping[str, Schema] = {
    "since": {**_MOMENT, "description": "Seconds since 1970 or ISO-8601, UTC unless it says otherwise."},
    "until": {**_MOMENT, "description": "The moment before which it was."},
}
