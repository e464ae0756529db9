"""Our JSON on the wire: the only place that spells its fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from pixie_proxy.admission.budget import Budget, tightest
from pixie_proxy.generation.quoting import Quote
from pixie_proxy.index.acts import Act
from pixie_proxy.index.history import PastCall
from pixie_proxy.index.usage import By, Spent, day_start_us
from pixie_proxy.index.users import StoredKey, StoredUser
from pixie_proxy.pricing import Family, Rates, tokens
from pixie_proxy.records import Account, ImageRecord, Limits, Page, User, id_time_us, to_datetime

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


def request_json(call: PastCall) -> dict[str, Any]:
    """Write a paid call, as the ledger tells of it. `cost_usd` is null while it runs, and `hold_usd` is reserved."""
    ended_us = call.settled_us
    return {
        "id": call.id,
        "object": "request",
        "created": call.created_us // 1_000_000,
        "duration_s": None if ended_us is None else round((ended_us - call.created_us) / 1_000_000, 3),
        "state": call.state,
        "kind": call.kind,
        "owner": call.owner_name,
        "key": call.key_id,
        "key_name": call.key_name,
        "requested_model": call.requested_model,
        "model": call.model,
        "prompt": call.prompt,
        "params": call.params,
        "stream": call.is_stream,
        "images_asked": call.images_asked,
        "images": list(call.image_ids),
        "hold_usd": usd(call.hold_micros),
        "cost_usd": usd(call.cost_micros),
        "usage": call.usage,
        "error": call.error,
        "flags": list(call.flags),
        "upstream_request_id": call.upstream_request_id,
    }


def spent_json(by: By | None, spent: Spent, names: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Write what one group of calls came to; `by` None is the sum of all. What is gone keeps its id and no name."""
    user, key = names.get(str(spent.id), (None, None))
    groups: dict[By, dict[str, Any]] = {
        "user": {"user": user, "user_id": spent.id},
        "key": {"key": spent.id, "key_name": key, "user": user},
        "model": {"model": spent.id},
        "day": {
            "day": f"{to_datetime(day_start_us(spent.id)):%Y-%m-%d}" if isinstance(spent.id, int) else None
        },
    }
    return {
        **(groups[by] if by else {}),
        "requests": spent.requests,
        "images": spent.images,
        "failed": spent.failed,
        "unknown": spent.unknown,
        "cost_usd": usd(spent.cost_micros),
        "held_usd": usd(spent.held_micros),
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


def person_json(user: StoredUser, account: Account, general: Mapping[str, Any]) -> dict[str, Any]:
    """Write a user as admins see it: what is set for it, what counts for it, and what it has spent."""
    return {
        "id": user.id,
        "object": "user",
        "created": user.created_us // 1_000_000,
        "name": user.name,
        "role": user.role,
        "disabled": user.disabled,
        "declared": user.is_declared,
        "own_limits": dict(user.limits),
        "limits": _limits_json(Limits(**{**general, **user.limits})),
        "in_flight": account.in_flight,
        "spent_today_usd": usd(account.spent_day_micros),
        "spent_month_usd": usd(account.spent_month_micros),
        "spent_usd": usd(account.spent_life_micros),
        "held_usd": usd(account.held_micros),
    }


def key_json(key: StoredKey, owner: str | None, text: str | None = None) -> dict[str, Any]:
    """Write a key. `text`, the key itself, is told once, to whoever made it."""
    told = {} if text is None else {"key": text}
    return {
        "id": key.id,
        "object": "key",
        "created": key.created_us // 1_000_000,
        "user": owner,
        "user_id": key.user_id,
        "name": key.name,
        "prefix": key.prefix,
        "declared": key.is_declared,
        "limits": dict(key.limits),
        "models": list(key.models),
        "expires_at": _second(key.expires_us),
        "revoked_at": _second(key.revoked_us),
        "old_text_until": _second(key.retired_until_us),
        "last_used_at": _second(key.last_used_us),
        **told,
    }


def act_json(act: Act) -> dict[str, Any]:
    """Write a line of the log of admins' acts."""
    return {
        "id": act.id,
        "object": "act",
        "created": id_time_us(act.id) // 1_000_000,
        "action": act.action,
        "actor": act.actor_name if act.actor_id else "command line",
        "actor_id": act.actor_id,
        "actor_key": act.actor_key_id,
        "user": act.user_name,
        "user_id": act.user_id,
        "key": act.key_id,
        "details": act.details,
    }


def _second(at_us: int | None) -> int | None:
    return None if at_us is None else at_us // 1_000_000


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
