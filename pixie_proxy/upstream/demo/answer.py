"""Writes the answers of the demo upstream: the JSON body, the events of a stream, and the usage in both.

Keys stand in the order in which the real service has been seen to send them.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from pixie_proxy.pricing import PARTIAL_IMAGE_TOKENS, Prices
from pixie_proxy.upstream.demo.order import Order

_TILE = 512
_SVG_INPUT_TOKENS = 900
_SVG_REASONING_TOKENS = 256


def shares(total: int, n: int) -> list[int]:
    """Split tokens over n pictures so that the parts add up; the first ones get the remainder."""
    return [total // n + (index < total % n) for index in range(n)]


def text_tokens(text: str) -> int:
    """Estimate a prompt's tokens: about four characters each."""
    return max(1, -(-len(text) // 4))


def input_image_tokens(order: Order) -> int:
    """Count the inputs' tokens by the published formula: 65 + 129 a tile, the short edge scaled to one tile."""
    total = 0
    for width, height in order.image_pixels:
        tiles = -(-max(width, height) // min(width, height))
        total += 65 + 129 * tiles
    return total


def usage_of(order: Order, prices: Prices, index: int | None = None) -> dict[str, Any]:
    """Give the usage of the whole answer, or picture `index`'s share of it, without the output's details."""
    each = prices.output_tokens(order.model, order.size, order.quality)
    if each is None:  # a GIF's frames may be smaller than any picture
        each = prices.output_tokens(order.model, "1024x1024", order.quality) or 0
    each += PARTIAL_IMAGE_TOKENS * order.partial_images
    text, image = text_tokens(order.prompt), input_image_tokens(order)
    out = each * order.n
    if index is not None:
        text, image, out = shares(text, order.n)[index], shares(image, order.n)[index], each
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"image_tokens": image, "text_tokens": text},
        "output_tokens": out,
        "total_tokens": text + image + out,
    }


def json_body(order: Order, prices: Prices, images: list[bytes], created: int) -> bytes:
    """Write the answer to a request without a stream. Encodes base64: use a thread."""
    usage = usage_of(order, prices)
    details = {"image_tokens": usage["output_tokens"], "text_tokens": 0}
    body: dict[str, Any] = {
        "created": created,
        "background": order.background,
        "data": [{"b64_json": base64.b64encode(image).decode("ascii")} for image in images],
        "output_format": order.output_format,
        "quality": order.quality,
    }
    if order.safety_identifier:
        body["safety_identifier"] = order.safety_identifier
    body["size"] = order.size
    if order.output_format == "svg":
        written = sum([len(image) for image in images]) // 3
        body["svg_usage"] = {
            "input_tokens": _SVG_INPUT_TOKENS,
            "model": order.svg_model or "gpt-5.5",
            "output_tokens": written + _SVG_REASONING_TOKENS,
            "reasoning_tokens": _SVG_REASONING_TOKENS,
            "total_tokens": _SVG_INPUT_TOKENS + written + _SVG_REASONING_TOKENS,
        }
    body["usage"] = {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": usage["input_tokens_details"],
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": details,
        "total_tokens": usage["total_tokens"],
    }
    return json.dumps(body, indent=2).encode()


def partial_event(order: Order, stage: int, image: bytes, created: int) -> bytes:
    """Write a `partial_image` event. Encodes base64: use a thread."""
    kind = f"image_{order.kind}.partial_image"
    return event(
        kind,
        {
            "type": kind,
            "partial_image_index": stage,
            "b64_json": base64.b64encode(image).decode("ascii"),
            "created_at": created,
            **_echo(order),
        },
    )


def completed_event(order: Order, prices: Prices, index: int, image: bytes, created: int) -> bytes:
    """Write a picture's `completed` event with its share of the usage. Encodes base64: use a thread."""
    kind = f"image_{order.kind}.completed"
    fields = {
        "type": kind,
        "b64_json": base64.b64encode(image).decode("ascii"),
        "created_at": created,
        "usage": usage_of(order, prices, index),
        **_echo(order),
    }
    if order.safety_identifier:
        fields["safety_identifier"] = order.safety_identifier
    return event(kind, fields)


def error_event(error: dict[str, Any]) -> bytes:
    """Write the event that ends a stream which can't go on."""
    return event("error", {"type": "error", "error": error, "sequence_number": 0})


def event(name: str, data: dict[str, Any]) -> bytes:
    """Frame one event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _echo(order: Order) -> dict[str, Any]:
    return {
        "size": order.size,
        "quality": order.quality,
        "background": order.background,
        "output_format": order.output_format,
    }
