"""Reads one field of a request at a time: a choice, a whole number, a flag; and a form's texts as JSON's types."""

from __future__ import annotations

from typing import Any

from pixie_proxy.upstream.demo.refusal import USER_FAULT, Refusal

Fields = dict[str, Any]

_INTEGERS = ("n", "output_compression", "partial_images", "frame_count", "frame_duration_ms")


def nested(fields: Fields) -> Fields:
    """Fold `svg[model]` and `svg[reasoning][effort]` into one object, as the SDKs spell it in forms."""
    out: Fields = {}
    for name, value in fields.items():
        if name.startswith("svg[") and name.endswith("]"):
            path = name[4:-1].split("][")
            at = out.setdefault("svg", {})
            for step in path[:-1]:
                at = at.setdefault(step, {})
            at[path[-1]] = value
        else:
            out[name] = value
    return out


def typed(fields: Fields) -> Fields:
    """Read a form's numbers, flags and nulls out of its texts; what is none stays text and is refused later."""
    out: Fields = {}
    for name, value in fields.items():
        typed = value
        if value == "null" and name != "prompt":
            typed = None
        elif (
            name in _INTEGERS
            and isinstance(value, str)
            and value.removeprefix("-").isdecimal()
            and len(value) < 12
        ):
            typed = int(value)
        elif name == "stream" and value in {"true", "false"}:
            typed = value == "true"
        out[name] = typed
    return out


def choice(fields: Fields, name: str, legal: tuple[str, ...], default: str) -> str:
    """Give one of the legal values, or the default. Raises Refusal."""
    value = fields.get(name, default)
    if value == default or value in legal:
        return str(value)
    if not isinstance(value, str):
        raise wrong_type(name, f"one of {', '.join([repr(one) for one in legal])}", value)
    named = [f"'{one}'" for one in legal]
    raise Refusal(
        f"Invalid value: '{value}'. Supported values are: {', '.join(named[:-1])}, and {named[-1]}.",
        code="invalid_value",
        param=name,
    )


def integer(fields: Fields, name: str, least: int, most: int, default: int) -> int:
    """Give a whole number within its bounds (both included), or the default. Raises Refusal."""
    value = fields.get(name, default)
    if type(value) is not int:
        raise wrong_type(name, "an integer", value)
    if value > most:
        raise Refusal(
            f"Invalid '{name}': integer above maximum value. Expected a value <= {most}, but got {value} instead.",
            code="integer_above_max_value",
            param=name,
        )
    if value < least:
        raise Refusal(
            f"Invalid '{name}': integer below minimum value. Expected a value >= {least}, but got {value} instead.",
            code="integer_below_min_value",
            param=name,
        )
    return value


def flag(fields: Fields, name: str) -> bool:
    """Give a boolean; false where it is missing. Raises Refusal."""
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise wrong_type(name, "a boolean", value)
    return value


def wrong_type(name: str, wanted: str, value: Any) -> Refusal:
    """Refuse a value of another type than the one that is wanted."""
    words = {
        str: "a string",
        int: "an integer",
        float: "a decimal number",
        bool: "a boolean",
        list: "an array",
    }
    got = words.get(type(value), "an object")
    return Refusal(
        f"Invalid type for '{name}': expected {wanted}, but got {got} instead.",
        code="invalid_type",
        param=name,
    )


def unfit(param: str, message: str) -> Refusal:
    """Refuse a value that is legal in itself, and not here."""
    return Refusal(message, code="invalid_value", param=param, type=USER_FAULT)
