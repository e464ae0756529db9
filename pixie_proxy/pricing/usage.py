"""What an upstream says that an answer took. A report that can't be true is none: then the hold is the bill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

MAX_TOKENS = 10**7
"""More tokens than this in one answer are a broken report, not a bill. Ten of the dearest pictures, each made from 16
inputs at their dearest, take 1.4 million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer by kind. The cached ones are part of those that came in."""

    text_in: int = 0
    image_in: int = 0
    text_out: int = 0
    image_out: int = 0
    cached_text_in: int = 0
    cached_image_in: int = 0


def usage_from_json(obj: object, images: int = 0) -> Usage | None:
    """Read an upstream's `usage`; None when it is absent or can't be true.

    Tokens that the details do not split count as image tokens: pricing them as text would under-bill. What no kind
    accounts for, and `images` that took no output token at all, can't be true.
    """
    if not isinstance(obj, dict):
        return None
    taken = _split(obj.get("input_tokens"), obj.get("input_tokens_details"))
    given = _split(obj.get("output_tokens"), obj.get("output_tokens_details"))
    if taken is None or given is None or (images and not any(given)):
        return None
    total = obj.get("total_tokens")
    if total is not None and not (_is_count(total) and total <= sum(taken) + sum(given)):
        return None
    cached_text, cached_image = _cached(obj["input_tokens_details"], *taken) if _has_cached(obj) else (0, 0)
    return Usage(
        text_in=taken[0],
        image_in=taken[1],
        text_out=given[0],
        image_out=given[1],
        cached_text_in=cached_text,
        cached_image_in=cached_image,
    )


def author_usage(obj: object) -> Usage | None:
    """Read an `svg_usage`: the tokens of the text model that wrote an SVG; None when it is absent or can't be true.

    Whether its reasoning is part of its output is written nowhere, so the larger reading counts.
    """
    if not isinstance(obj, dict):
        return None
    taken, given = obj.get("input_tokens"), obj.get("output_tokens")
    reasoning, total = obj.get("reasoning_tokens") or 0, obj.get("total_tokens") or 0
    if not (_is_count(taken) and _is_count(given) and _is_count(reasoning) and _is_count(total)) or not given:
        return None
    return Usage(text_in=taken, text_out=max(given, reasoning, total - taken))


def _split(total: object, details: object) -> tuple[int, int] | None:
    """Give (text, image) tokens of one side of a usage; None when it is not there or not sane."""
    parts = details if isinstance(details, dict) else {}
    if details is not None and not isinstance(details, dict):
        return None
    text, image = parts.get("text_tokens", 0), parts.get("image_tokens", 0)
    if total is None and parts:
        total = 0
    if not (_is_count(total) and _is_count(text) and _is_count(image)):
        return None
    return text, max(image, total - text)


def _has_cached(obj: dict[str, Any]) -> bool:
    details = obj.get("input_tokens_details")
    return isinstance(details, dict) and "cached_tokens" in details


def _cached(details: dict[str, Any], text: int, image: int) -> tuple[int, int]:
    """Give the cached (text, image) tokens; none where the report contradicts itself, for they lower a bill.

    Where it does not say which they were they are text first, whose discount is the smaller one.
    """
    cached = details["cached_tokens"]
    if not _is_count(cached) or cached > text + image:
        return 0, 0
    split = details.get("cached_tokens_details")
    if split is None:
        return min(cached, text), max(0, cached - text)
    parts = split if isinstance(split, dict) else {}
    cached_text, cached_image = parts.get("text_tokens"), parts.get("image_tokens")
    if not (_is_count(cached_text) and _is_count(cached_image)):
        return 0, 0
    is_true = cached_text <= text and cached_image <= image and cached_text + cached_image == cached
    return (cached_text, cached_image) if is_true else (0, 0)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < MAX_TOKENS
