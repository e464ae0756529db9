"""Callers with the official SDK who keep their receipts: the second of the four ledgers."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from random import Random
from typing import Any

import openai
from openai import AsyncOpenAI

from tests.support.pictures import png


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one logical call asks for; no two have the same prompt."""

    prompt: str
    n: int = 1
    is_stream: bool = False
    is_edit: bool = False


@dataclass(slots=True, kw_only=True)
class Receipt:
    """How a logical call ended for its caller: the images that came whole (SHA-256 in hex), and the error if it failed.

    Without an error the SDK has reported success, whatever came.
    """

    order: Order
    owner: str
    images: list[str] = field(default_factory=list)
    error: str | None = None
    has_begun: bool = False
    """A stream was there before it failed: the SDK does not try again by itself from then on."""


def orders(count: int, seed: int, *, label: str = "call", share_of_streams: float = 0.4) -> list[Order]:
    """Make a mixture: two in five are streams, one in four edits with a file, half of two images."""
    random = Random(seed)
    return [
        Order(
            prompt=f"{label} {number} of seed {seed}",
            n=random.randint(1, 2),
            is_stream=random.random() < share_of_streams,
            is_edit=random.random() < 0.25,
        )
        for number in range(count)
    ]


async def place(
    sdk: AsyncOpenAI, order: Order, *, owner: str = "bob", idempotency_key: str | None = None
) -> Receipt:
    """Make a call as any program would, and keep what came of it."""
    receipt = Receipt(order=order, owner=owner)
    fields: dict[str, Any] = {"model": "gpt-image-2", "prompt": order.prompt, "n": order.n}
    if order.is_edit:
        fields["image"] = ("sketch.png", png(seed=len(order.prompt)), "image/png")
    if idempotency_key is not None:
        fields["extra_headers"] = {"Idempotency-Key": idempotency_key}
    make: Any = sdk.images.edit if order.is_edit else sdk.images.generate
    try:
        if order.is_stream:
            events = await make(**fields, stream=True, partial_images=1)
            receipt.has_begun = True
            async for event in events:
                if event.type.endswith(".completed"):
                    receipt.images.append(_hash(event.b64_json))
        else:
            receipt.images += [_hash(image.b64_json) for image in (await make(**fields)).data]
    except openai.APIStatusError as exc:
        receipt.error = str(exc.code or exc.status_code)
    except openai.APIError as exc:
        receipt.error = exc.code or type(exc).__name__
    return receipt


def _hash(text: str) -> str:
    return hashlib.sha256(base64.b64decode(text, validate=True)).hexdigest()
