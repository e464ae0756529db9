"""Users, keys and what admins did, on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixie_proxy.index.acts import Act
from pixie_proxy.index.users import StoredKey, StoredUser
from pixie_proxy.records import Account, Limits, User, id_time_us
from pixie_proxy.web.wire.money import usd


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


def _second(at_us: int | None) -> int | None:
    return None if at_us is None else at_us // 1_000_000
