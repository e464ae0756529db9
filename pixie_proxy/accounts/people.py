"""Change who may use the proxy: the acts behind `pixie user` and `pixie key`, each one transaction.

Every act raises the accounts' version, by which running servers learn of it (see `directory`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixie_proxy.accounts.keys import digest, new_key, shown_prefix
from pixie_proxy.errors import InvalidValue, NotFound
from pixie_proxy.index import Tx, settings, users
from pixie_proxy.index.users import StoredKey, StoredUser
from pixie_proxy.records import Role, new_id

VERSION = "accounts_version"
_MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeKey:
    """A new key: `text` is shown to its owner now and never again."""

    key: StoredKey
    text: str


def add_user(
    tx: Tx,
    name: str,
    role: Role,
    limits: Mapping[str, Any],
    *,
    key_text: str | None = None,
    key_name: str = "first",
) -> MadeKey:
    """Add a user with a first key. Raises InvalidValue where the name is taken or no name."""
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable() or name != name.strip() or name == "me":
        message = (
            f"a user's name has 1 to {_MAX_NAME} printable characters, no space around it, and is not 'me'"
        )
        raise InvalidValue(message, param="name")
    user = StoredUser(id=new_id("usr"), name=name, role=role, created_us=_now_us(), limits=dict(limits))
    if not users.add_user(tx, user):
        message = f"there is a user '{name}' already"
        raise InvalidValue(message, param="name")
    return add_key(tx, user, key_name, None, key_text=key_text)


def add_key(
    tx: Tx,
    user: StoredUser,
    name: str,
    lifetime_days: int | None,
    *,
    limits: Mapping[str, Any] | None = None,
    key_text: str | None = None,
) -> MadeKey:
    """Give a user one more key, which may expire and have limits of its own. Raises InvalidValue where it is in use."""
    text, now_us = key_text or new_key(), _now_us()
    key = StoredKey(
        id=new_id("key"),
        user_id=user.id,
        digest=digest(text),
        prefix=shown_prefix(text),
        name=name,
        created_us=now_us,
        expires_us=None if lifetime_days is None else now_us + lifetime_days * 86_400_000_000,
        limits=dict(limits or {}),
    )
    if not users.add_key(tx, key):
        message = "that key is in use already"
        raise InvalidValue(message, param="key")
    raise_version(tx)
    return MadeKey(key=key, text=text)


def find_user(tx: Tx, name: str) -> StoredUser:
    """Find a user by name. Raises NotFound."""
    user = users.get_user_by_name(tx, name)
    if user is None:
        message = f"there is no user '{name}': pixie user list"
        raise NotFound(message, param="name")
    return user


def set_disabled(tx: Tx, name: str, *, disabled: bool) -> StoredUser:
    """Shut a user out, with all keys and sessions, or let it in again. The last admin stays."""
    user = _changeable(tx, name)
    if disabled:
        _keep_an_admin(tx, user)
    users.set_disabled(tx, user.id, disabled=disabled)
    raise_version(tx)
    return find_user(tx, name)


def change_user(
    tx: Tx, name: str, role: Role | None, limits: Mapping[str, Any], cleared: frozenset[str]
) -> StoredUser:
    """Change role and limits; those in `cleared` become the general ones again."""
    user = _changeable(tx, name)
    if role is not None and role != "admin":
        _keep_an_admin(tx, user)
    if role is not None:
        users.set_role(tx, user.id, role)
    if limits or cleared:
        kept = {name: value for name, value in user.limits.items() if name not in cleared}
        users.set_limits(tx, user.id, {**kept, **limits})
    raise_version(tx)
    return find_user(tx, name)


def revoke_key(tx: Tx, which: str) -> StoredKey:
    """End a key (see `_live_key`). Raises NotFound, InvalidValue."""
    key = _live_key(tx, which)
    if key.is_declared:
        message = "that key is declared in the settings: remove it there"
        raise InvalidValue(message, param="key")
    users.revoke(tx, key.id, _now_us())
    raise_version(tx)
    return key


def change_key(tx: Tx, which: str, limits: Mapping[str, Any], cleared: frozenset[str]) -> StoredKey:
    """Change a key's limits, beside which those of its user count; a key in general has none.

    Raises NotFound, InvalidValue.
    """
    key = _live_key(tx, which)
    kept = {name: value for name, value in key.limits.items() if name not in cleared}
    users.set_key_limits(tx, key.id, {**kept, **limits})
    raise_version(tx)
    return _live_key(tx, key.id)


def _live_key(tx: Tx, which: str) -> StoredKey:
    """Find a key by its id, or by its shown prefix where that is one key's only. Raises NotFound, InvalidValue."""
    live = [key for key in users.list_keys(tx) if key.revoked_us is None]
    found = [key for key in live if key.id == which or (len(which) > 3 and key.prefix == which)]
    if not found:
        message = f"there is no live key '{which}': pixie key list"
        raise NotFound(message, param="key")
    if len(found) > 1:
        message = f"several keys begin with '{which}': give the id (pixie key list)"
        raise InvalidValue(message, param="key")
    return found[0]


def version(tx: Tx) -> int:
    """Give the number of changes so far."""
    return int(settings.get(tx, VERSION) or 0)


def raise_version(tx: Tx) -> None:
    """Tell every running server that credentials have changed."""
    settings.put(tx, VERSION, str(version(tx) + 1))


def _changeable(tx: Tx, name: str) -> StoredUser:
    """Find a user who is not declared in the settings: those would win again at the next start."""
    user = find_user(tx, name)
    if user.is_declared and not user.disabled:
        message = f"'{name}' is declared in the settings: change it there"
        raise InvalidValue(message, param="name")
    return user


def _keep_an_admin(tx: Tx, user: StoredUser) -> None:
    others = [one for one in users.list_users(tx) if one.id != user.id]
    if user.role == "admin" and not any(one.role == "admin" and not one.disabled for one in others):
        message = (
            f"'{user.name}' is the last admin: make another one first (pixie user add NAME --role admin)"
        )
        raise InvalidValue(message, param="name")


def _now_us() -> int:
    return time.time_ns() // 1000
