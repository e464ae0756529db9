"""Read the fields of a JSON object, each checked, each fault named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from pixie_proxy.config import LimitSettings
from pixie_proxy.errors import InvalidValue, MissingParameter
from pixie_proxy.gallery.tagging import normal_all

T = TypeVar("T")

MAX_TEXT = 64
_LIMITS = frozenset(LimitSettings.model_fields)


def limits(said: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Read `limits`: those that are set (null = no limit), and those that become the general ones again ("default")."""
    given = said.get("limits", {})
    if not isinstance(given, dict):
        message = "'limits' must be an object, such as {\"usd_per_month\": 20}."
        raise InvalidValue(message, param="limits")
    if unknown := sorted(set(given) - _LIMITS):
        message = f"There is no limit '{unknown[0][:64]}'. There are: {', '.join(sorted(_LIMITS))}."
        raise InvalidValue(message, param=f"limits.{unknown[0][:64]}")
    cleared = frozenset(name for name, value in given.items() if value == "default")
    try:
        checked = LimitSettings.model_validate(
            {name: value for name, value in given.items() if name not in cleared}, strict=True
        )
    except ValidationError as exc:
        fault = exc.errors()[0]
        name = str(fault["loc"][0])
        message = f"'limits.{name}': {fault['msg']}; null is no limit, \"default\" the general one."
        raise InvalidValue(message, param=f"limits.{name}") from None
    return checked.model_dump(exclude_unset=True), cleared


def models(said: Mapping[str, Any]) -> list[str] | None:
    """Read a list of models' names."""
    value = said.get("models")
    if value is not None and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        message = "'models' must be a list of names; an empty one allows all."
        raise InvalidValue(message, param="models")
    return value


def tags(said: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Read a list of tags, written as they are kept."""
    value = said.get("tags")
    if value is None:
        return None
    if not (isinstance(value, list) and all(isinstance(tag, str) for tag in value)):
        message = "'tags' must be a list of texts."
        raise InvalidValue(message, param="tags")
    return normal_all(value)


def text(said: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Read a short text; without a default it must be there."""
    value = said.get(name, default)
    if value is None:
        message = f"Give '{name}'."
        raise MissingParameter(message, param=name)
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        message = f"'{name}' must be a text of at most {MAX_TEXT} printable characters."
        raise InvalidValue(message, param=name)
    return value


def choice(said: Mapping[str, Any], name: str, choices: tuple[T, ...], default: Any) -> Any:
    """Read one of several words."""
    value = said.get(name, default)
    if value != default and value not in choices:
        message = f"'{name}' must be one of {', '.join(map(str, choices))}."
        raise InvalidValue(message, param=name)
    return value


def flag(said: Mapping[str, Any], name: str) -> bool | None:
    """Read true or false."""
    value = said.get(name)
    if value is not None and not isinstance(value, bool):
        message = f"'{name}' must be true or false."
        raise InvalidValue(message, param=name)
    return value


def number(said: Mapping[str, Any], name: str, most: int, least: int = 1) -> int | None:
    """Read a whole number of seconds."""
    value = said.get(name)
    if value is not None and not (type(value) is int and least <= value <= most):
        message = f"'{name}' must be a whole number of seconds from {least} to {most}."
        raise InvalidValue(message, param=name)
    return value
