"""Calls and money on the wire: USD are numbers of six digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pixie_proxy.admission.budget import Budget, tightest
from pixie_proxy.index.history import PastCall
from pixie_proxy.index.usage import By, Spent, day_start_us
from pixie_proxy.records import to_datetime


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


def usd(micros: int | None) -> float | None:
    """Write micros as USD; six digits hold them exactly."""
    return None if micros is None else micros / 1_000_000
