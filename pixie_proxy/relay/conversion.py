"""Writes an answer anew, as a document or as a stream, where the upstream's is not in the form that was asked for.

What comes out is a skeleton: its images are read from where they were kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from pixie_proxy.records import Kind
from pixie_proxy.relay.skeleton import Skeleton

_ECHOED: Final = ("size", "quality", "background", "output_format", "safety_identifier")
"""What both forms tell of a whole answer, in the order of OpenAI's events."""
_OF_ALL: Final = frozenset({"type", "created_at", "usage", *_ECHOED})


class Item(NamedTuple):
    """One item of an answer: the slot of its image, None if it is to have no base64, and what else it says."""

    slot: int | None
    fields: Any


def document(fields: Mapping[str, Any], items: Sequence[Item]) -> Skeleton:
    """Write the document that says `fields`, with `items` as its `data`."""
    names = list(fields)
    at = names.index("data") if "data" in names else len(names)
    before = _members({name: fields[name] for name in names[:at]})
    after = _members({name: fields[name] for name in names[at + 1 :]})
    skeleton = Skeleton.of_text(b"{" + before + (b"," if before else b"") + b'"data":[')
    for number, item in enumerate(items):
        skeleton.add_text(b"," if number else b"")
        if item.slot is None:
            skeleton.add_text(orjson.dumps(item.fields))
        else:
            _add_object(skeleton, {}, item.slot, item.fields)
    skeleton.add_text(b"]" + (b"," if after else b"") + after + b"}")
    return skeleton


def document_fields(
    events: Sequence[Mapping[str, Any]], usage: dict[str, Any] | None, created: int
) -> dict[str, Any]:
    """Give what a document says beside its `data`, from what the final events of a stream said."""
    said = {name: value for event in events for name, value in event.items()}
    told = said.get("created_at")
    fields = {"created": told if isinstance(told, int) else created, "data": []}
    fields |= {name: said[name] for name in _ECHOED if name in said}
    return fields if usage is None else {**fields, "usage": usage}


def own_fields(event: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a final event says of its image alone."""
    return {name: value for name, value in event.items() if name not in _OF_ALL}


def stream(kind: Kind, fields: Mapping[str, Any], items: Sequence[Item], created: int) -> Skeleton:
    """Write a stream with one `completed` event for each item of a document that said `fields`."""
    type_ = "image_edit.completed" if kind == "edit" else "image_generation.completed"
    told, usage = fields.get("created"), fields.get("usage")
    common = {"created_at": told if isinstance(told, int) else created}
    common |= {name: fields[name] for name in _ECHOED if name in fields}
    skeleton = Skeleton()
    for number, item in enumerate(items):
        more = {**item.fields, **common}
        if isinstance(usage, dict):
            more["usage"] = _share(usage, number, len(items))
        skeleton.add_text(b"event: " + type_.encode() + b"\ndata: ")
        _add_object(skeleton, {"type": type_}, item.slot, more)
        skeleton.add_text(b"\n\n")
    return skeleton


def _share(usage: Mapping[str, Any], number: int, count: int) -> dict[str, Any]:
    """Give one of `count` images its part of the tokens; the last one gets what is left over."""
    share: dict[str, Any] = {}
    for name, value in usage.items():
        if isinstance(value, dict):
            share[name] = _share(value, number, count)
        elif isinstance(value, int) and not isinstance(value, bool):
            each = value // count
            share[name] = value - each * (count - 1) if number == count - 1 else each
        else:
            share[name] = value
    return share


def _add_object(
    skeleton: Skeleton, before: Mapping[str, Any], slot: int | None, after: Mapping[str, Any]
) -> None:
    """Write an object with its base64 between other members; both sides may be empty."""
    head, tail = _members(before), _members(after)
    if slot is None:
        skeleton.add_text(b"{" + b",".join(filter(None, (head, tail))) + b"}")
        return
    skeleton.add_text(b"{" + head + (b"," if head else b"") + b'"b64_json":"')
    skeleton.add_image(slot, is_canonical=True, has_escaped_slashes=False)
    skeleton.add_text(b'"' + (b"," if tail else b"") + tail + b"}")


def _members(fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps(fields)[1:-1]
