"""Our JSON on the wire: the only place that spells its fields."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from pixie_proxy.generation.quoting import Quote
from pixie_proxy.pricing import Family, Rates, tokens
from pixie_proxy.records import ImageRecord, Page, User, id_time_us

_SHOWN_PARAMS = ("size", "quality", "background")


def image_json(record: ImageRecord, viewer: User, url: str, base_path: str = "/v1/images") -> dict[str, Any]:
    """Write an image. `url` works for whoever holds it, so only owner and admins are given it.

    What lies in the trash has no addresses until it is restored.
    """
    is_own = viewer.is_admin or record.owner_id == viewer.id
    is_there = record.deleted_us is None
    path = f"{base_path}/{record.id}"
    size = f"{record.width}x{record.height}" if record.width and record.height else record.params.get("size")
    return {
        "id": record.id,
        "object": "image",
        "created": id_time_us(record.id) // 1_000_000,
        "request_id": record.request_id,
        "index": record.position,
        "owner": record.owner_name,
        "prompt": record.prompt,
        "revised_prompt": record.revised_prompt,
        "model": record.model,
        "kind": record.kind,
        "size": size,
        "quality": record.params.get("quality"),
        "background": record.params.get("background"),
        "format": record.mime.removeprefix("image/").removesuffix("+xml"),
        "width": record.width,
        "height": record.height,
        "bytes": record.size_bytes,
        "sha256": record.sha256,
        "visibility": record.visibility,
        "url": url if is_own and is_there else None,
        "content_url": f"{path}/content" if is_there else None,
        "thumbnail_url": f"{path}/thumbnail" if is_there else None,
        "parents": [],
        "cost_usd": usd(share(record.cost_micros, record.siblings, record.position)),
        "deleted_at": None if record.deleted_us is None else record.deleted_us // 1_000_000,
    }


def deleted_json(image_id: str) -> dict[str, Any]:
    """Confirm a deletion as OpenAI does."""
    return {"id": image_id, "object": "image", "deleted": True}


def list_json(page: Page[Any], items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Write a list as OpenAI does."""
    data = list(items)
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": page.has_more,
    }


def share(cost_micros: int | None, siblings: int, position: int) -> int | None:
    """Give one image's part of its call's cost, so that the parts add up to the micro."""
    if cost_micros is None:
        return None
    each, rest = divmod(cost_micros, siblings)
    return each + (position < rest)


def usd(micros: int | None) -> float | None:
    """Write micros as USD; six digits hold them exactly."""
    return None if micros is None else micros / 1_000_000


def user_json(user: User) -> dict[str, Any]:
    """Write what a caller may know of itself."""
    limits = user.limits
    return {
        "id": user.id,
        "object": "user",
        "name": user.name,
        "role": user.role,
        "limits": {
            "requests_per_minute": limits.requests_per_minute,
            "images_per_minute": limits.images_per_minute,
            "concurrent_requests": limits.concurrent_requests,
            "usd_per_day": limits.usd_per_day,
            "usd_per_month": limits.usd_per_month,
        },
    }


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
