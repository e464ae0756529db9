"""Add, change, rotate and revoke keys: the acts behind `pixie key` and `/v1/admin/keys`, each one transaction."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixie_proxy.accounts.acting import COMMAND_LINE, Actor, changes, note
from pixie_proxy.accounts.keys import digest, new_key, shown_prefix
from pixie_proxy.accounts.version import raise_version
from pixie_proxy.errors import InvalidValue, NotFound
from pixie_proxy.index import Tx, erasure, users
from pixie_proxy.index.users import StoredKey, StoredUser
from pixie_proxy.records import new_id

USUAL_OVERLAP_S = 86_400
MAX_OVERLAP_S = 30 * 86_400
MAX_MODELS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeKey:
    """A new key: `text` is shown to its owner now and never again."""

    key: StoredKey
    text: str


def add_key(
    tx: Tx,
    user: StoredUser,
    name: str,
    lifetime_s: int | None,
    *,
    by: Actor = COMMAND_LINE,
    key_text: str | None = None,
    limits: Mapping[str, Any] | None = None,
    models: Sequence[str] = (),
) -> MadeKey:
    """Give a user one more key, which may expire and have limits and models of its own.

    Raises InvalidValue where a brought key is in use already.
    """
    _check_models(models)
    raise_version(tx)
    if erasure.is_deleted(tx, user.id):
        message = f"there is no user '{user.name}': pixie user list"
        raise NotFound(message, param="name")
    text, now_us = key_text or new_key(), _now_us()
    key = StoredKey(
        id=new_id("key"),
        user_id=user.id,
        digest=digest(text),
        prefix=shown_prefix(text),
        name=name,
        created_us=now_us,
        expires_us=None if lifetime_s is None else now_us + lifetime_s * 1_000_000,
        limits=dict(limits or {}),
        models=tuple(models),
    )
    if not users.add_key(tx, key):
        message = "that key is in use already"
        raise InvalidValue(message, param="key")
    told = {"lifetime_s": lifetime_s, "limits": dict(key.limits), "models": list(models)}
    note(tx, by, "key.add", user_id=user.id, key_id=key.id, details=told)
    return MadeKey(key=key, text=text)


def revoke_key(tx: Tx, which: str, *, by: Actor = COMMAND_LINE) -> StoredKey:
    """End a key (see `_changeable`). Raises NotFound, InvalidValue."""
    key = _changeable(tx, which)
    users.revoke(tx, key.id, _now_us())
    note(tx, by, "key.revoke", user_id=key.user_id, key_id=key.id)
    return key


def rotate_key(tx: Tx, which: str, overlap_s: int, *, by: Actor = COMMAND_LINE) -> MadeKey:
    """Give a key a new text; the old one is good for `overlap_s` more. Its id, limits and account stay.

    Sessions that began with it end at once. A text that an earlier rotation retired is dead from now on.
    """
    key = _changeable(tx, which)
    if not 0 <= overlap_s <= MAX_OVERLAP_S:
        message = f"the overlap must be 0 to {MAX_OVERLAP_S} seconds"
        raise InvalidValue(message, param="overlap_s")
    text, until_us = new_key(), _now_us() + overlap_s * 1_000_000
    users.rotate(tx, key.id, digest(text), shown_prefix(text), until_us)
    note(tx, by, "key.rotate", user_id=key.user_id, key_id=key.id, details={"overlap_s": overlap_s})
    return MadeKey(key=users.get_key(tx, key.id) or key, text=text)


def change_key(
    tx: Tx,
    which: str,
    limits: Mapping[str, Any],
    cleared: Collection[str] = (),
    models: Sequence[str] | None = None,
    *,
    by: Actor = COMMAND_LINE,
) -> StoredKey:
    """Change a key's limits, beside which those of its user count, and the models that it is for (none named = all).

    Raises NotFound, InvalidValue.
    """
    key = _changeable(tx, which)
    if models is not None:
        _check_models(models)
        users.set_key_models(tx, key.id, models)
    kept = {name: value for name, value in key.limits.items() if name not in cleared}
    users.set_key_limits(tx, key.id, {**kept, **limits})
    after = users.get_key(tx, key.id) or key
    told = changes(
        limits=(dict(key.limits), dict(after.limits)), models=(list(key.models), list(after.models))
    )
    if told:
        note(tx, by, "key.change", user_id=key.user_id, key_id=key.id, details=told)
    return after


def _changeable(tx: Tx, which: str) -> StoredKey:
    """Find a live key by its id, or by its shown prefix where that is one key's only; not one of the settings.

    Nobody else changes it until the transaction ends. Raises NotFound, InvalidValue.
    """
    raise_version(tx)
    live = [key for key in users.list_keys(tx) if key.revoked_us is None]
    found = [key for key in live if key.id == which or (len(which) > 3 and key.prefix == which)]
    if not found:
        message = f"there is no live key '{which}': pixie key list"
        raise NotFound(message, param="key")
    if len(found) > 1:
        message = f"several keys begin with '{which}': give the id (pixie key list)"
        raise InvalidValue(message, param="key")
    if found[0].is_declared:
        message = "that key is declared in the settings: change it there"
        raise InvalidValue(message, param="key")
    return found[0]


def _check_models(models: Sequence[str]) -> None:
    if len(models) > MAX_MODELS or not all(0 < len(model) <= 256 for model in models):
        message = f"models must be at most {MAX_MODELS} names"
        raise InvalidValue(message, param="models")


def _now_us() -> int:
    return time.time_ns() // 1000
