"""Change a key that people hold: rotate its text with an overlap, and say what it may be used for."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pixie_proxy.accounts.acting import Actor, changes, note
from pixie_proxy.accounts.keys import digest, new_key, shown_prefix
from pixie_proxy.accounts.people import MadeKey, raise_version
from pixie_proxy.errors import InvalidValue, NotFound
from pixie_proxy.index import Tx, users
from pixie_proxy.index.users import StoredKey

MAX_OVERLAP_S = 30 * 86_400
MAX_MODELS = 100


def find_key(tx: Tx, key_id: str) -> StoredKey:
    """Find a key by its id, a dead one too. Raises NotFound."""
    key = users.get_key(tx, key_id)
    if key is None:
        message = f"there is no key '{key_id}'"
        raise NotFound(message, param="key")
    return key


def rotate_key(tx: Tx, by: Actor, key_id: str, overlap_s: int) -> MadeKey:
    """Give a key a new text; the old one is good for `overlap_s` more. Its id, limits and account stay.

    Sessions that began with it end at once. A text that an earlier rotation retired is dead from now on.
    """
    key = _live(tx, key_id)
    if not 0 <= overlap_s <= MAX_OVERLAP_S:
        message = f"the overlap must be 0 to {MAX_OVERLAP_S} seconds"
        raise InvalidValue(message, param="overlap_s")
    text = new_key()
    until_us = _now_us() + overlap_s * 1_000_000
    users.rotate(tx, key.id, digest(text), shown_prefix(text), until_us)
    note(tx, by, "key.rotate", user_id=key.user_id, key_id=key.id, details={"overlap_s": overlap_s})
    raise_version(tx)
    return MadeKey(key=replace(key, digest=digest(text), prefix=shown_prefix(text)), text=text)


def change_key(
    tx: Tx,
    by: Actor,
    key_id: str,
    *,
    limits: Mapping[str, Any] | None = None,
    cleared: Collection[str] = (),
    models: Sequence[str] | None = None,
) -> StoredKey:
    """Change what a key may be used for: its limits, and the models that it is for (none named = all)."""
    key = _live(tx, key_id)
    if models is not None:
        if len(models) > MAX_MODELS or not all(0 < len(model) <= 256 for model in models):
            message = f"models must be at most {MAX_MODELS} names"
            raise InvalidValue(message, param="models")
        users.set_key_models(tx, key.id, models)
    if limits is not None or cleared:
        kept = {name: value for name, value in key.limits.items() if name not in cleared}
        users.set_key_limits(tx, key.id, {**kept, **(limits or {})})
    after = find_key(tx, key.id)
    told = changes(
        limits=(dict(key.limits), dict(after.limits)), models=(list(key.models), list(after.models))
    )
    if told:
        note(tx, by, "key.change", user_id=key.user_id, key_id=key.id, details=told)
        raise_version(tx)
    return after


def _live(tx: Tx, key_id: str) -> StoredKey:
    """Find a key that may be changed here."""
    key = find_key(tx, key_id)
    if key.is_declared:
        message = "that key is declared in the settings: change it there"
        raise InvalidValue(message, param="key")
    if key.revoked_us is not None:
        message = "that key is revoked: make another one"
        raise InvalidValue(message, param="key")
    return key


def _now_us() -> int:
    return time.time_ns() // 1000
