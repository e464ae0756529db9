"""Models, their prices and estimates on the wire."""

from __future__ import annotations

from datetime import date
from typing import Any

from pixie_proxy.generation.quoting import Quote
from pixie_proxy.pricing import Family, Rates, tokens
from pixie_proxy.web.wire.money import usd


def model_json(
    name: str,
    *,
    model: str,
    aliases: list[str],
    created: int,
    shutdown_date: date | None,
    family: Family | None,
    rates: Rates | None,
) -> dict[str, Any]:
    """Write a model as OpenAI's list does, and what it can do and costs. `name` may be an alias of `model`."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "openai" if "image" in name else "upstream",
        "shutdown_date": None if shutdown_date is None else shutdown_date.isoformat(),
        "alias_of": model if name != model else None,
        "aliases": aliases,
        "capabilities": _capabilities_json(family),
        "prices": rates_json(rates),
    }


def _capabilities_json(family: Family | None) -> dict[str, Any] | None:
    if family is None:
        return None
    rules = {
        "edge_multiple_of": tokens.EDGE_STEP,
        "max_edge": tokens.MAX_EDGE,
        "max_ratio": tokens.MAX_RATIO,
        "min_pixels": tokens.MIN_PIXELS,
        "max_pixels": tokens.MAX_PIXELS,
    }
    return {
        "qualities": family.qualities,
        "sizes": family.sizes or None,
        "size_rules": None if family.sizes else rules,
        "output_formats": family.output_formats,
        "input_fidelity": family.input_fidelity,
        "markup": family.has_markup,
    }


def rates_json(rates: Rates | None) -> dict[str, Any] | None:
    """Write what a model costs, in USD per million tokens or an image; None without a price."""
    if rates is None:
        return None
    if rates.image_micros is not None:
        return {"currency": "usd", "unit": "image", "image": usd(rates.image_micros)}
    kinds = ("text_in", "cached_text_in", "image_in", "cached_image_in", "image_out", "text_out")
    return {
        "currency": "usd",
        "unit": "million_tokens",
        **{kind: usd(getattr(rates, kind)) for kind in kinds},
    }


def estimate_json(
    quote: Quote, *, requested_model: str | None, estimated_micros: int | None, rates: Rates | None
) -> dict[str, Any]:
    """Write what a request may cost."""
    ceiling = quote.ceiling
    return {
        "object": "estimate",
        "model": quote.model,
        "requested_model": requested_model,
        "images": quote.wanted.n,
        "inputs": quote.wanted.inputs,
        "currency": "usd",
        "estimated_usd": usd(estimated_micros),
        "ceiling_usd": usd(ceiling.micros) if ceiling.is_priced else None,
        "open": ceiling.open_fields,
        "priced": ceiling.is_priced,
        "prices": rates_json(rates),
    }
