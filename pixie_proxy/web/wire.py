"""Our JSON on the wire: the only place that spells its fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pixie_proxy.admission.budget import Budget, tightest
from pixie_proxy.records import ImageRecord, Limits, Page, User, id_time_us

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
    return {
        "id": user.id,
        "object": "user",
        "name": user.name,
        "role": user.role,
        "limits": _limits_json(user.limits),
        "key_limits": _limits_json(user.key_limits),
        "team_limits": _limits_json(user.team_limits),
    }


def _limits_json(limits: Limits) -> dict[str, Any]:
    return {
        "requests_per_minute": limits.requests_per_minute,
        "images_per_minute": limits.images_per_minute,
        "concurrent_requests": limits.concurrent_requests,
        "images_per_day": limits.images_per_day,
        "usd_per_day": limits.usd_per_day,
        "usd_per_month": limits.usd_per_month,
        "usd_total": limits.usd_total,
    }


def balance_json(found: Sequence[Budget]) -> dict[str, Any]:
    """Write all budgets, and before them the one that has the least left; without any, nothing is limited."""
    budget = tightest(found)
    nothing = dict.fromkeys(("limit_usd", "spent_usd", "held_usd", "remaining_usd", "resets_at"))
    return {
        "object": "balance",
        "currency": "usd",
        **(nothing if budget is None else _budget_json(budget)),
        "budgets": [{"subject": each.party, "period": each.span, **_budget_json(each)} for each in found],
    }


def _budget_json(budget: Budget) -> dict[str, Any]:
    return {
        "limit_usd": usd(budget.limit_micros),
        "spent_usd": usd(budget.spent_micros),
        "held_usd": usd(budget.held_micros),
        "remaining_usd": usd(budget.remaining_micros),
        "resets_at": None if budget.resets_us is None else budget.resets_us // 1_000_000,
    }


def model_json(model: str, shutdown_date: str | None, created: int) -> dict[str, Any]:
    """Write a model as OpenAI's list does."""
    return {
        "id": model,
        "object": "model",
        "created": created,
        "owned_by": "openai" if "image" in model else "upstream",
        "shutdown_date": shutdown_date,
    }
