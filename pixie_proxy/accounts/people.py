"""Change who may use the proxy: the acts behind `pixie user` and `/v1/admin/users`, each one transaction.

Every act raises the accounts' version, by which running servers learn of it (see `directory`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pixie_proxy.accounts.acting import COMMAND_LINE, Actor, changes, note
from pixie_proxy.accounts.keyring import MadeKey, add_key
from pixie_proxy.accounts.version import raise_version
from pixie_proxy.errors import InvalidValue, NotFound
from pixie_proxy.index import Tx, users
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import Role, new_id

_MAX_NAME = 64


def add_user(
    tx: Tx,
    name: str,
    role: Role,
    limits: Mapping[str, Any],
    *,
    by: Actor = COMMAND_LINE,
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
    note(tx, by, "user.add", user_id=user.id, details={"role": role, "limits": dict(limits)})
    return add_key(tx, user, key_name, None, by=by, key_text=key_text)


def find_user(tx: Tx, name: str) -> StoredUser:
    """Find a user by name. Raises NotFound."""
    user = users.get_user_by_name(tx, name)
    if user is None:
        message = f"there is no user '{name}': pixie user list"
        raise NotFound(message, param="name")
    return user


def set_disabled(tx: Tx, name: str, *, disabled: bool, by: Actor = COMMAND_LINE) -> StoredUser:
    """Shut a user out, with all keys and sessions, or let it in again. The last admin stays."""
    user = _changeable(tx, name)
    if disabled:
        keep_an_admin(tx, user)
    users.set_disabled(tx, user.id, disabled=disabled)
    if user.disabled != disabled:
        note(tx, by, "user.disable" if disabled else "user.enable", user_id=user.id)
    return find_user(tx, name)


def change_user(
    tx: Tx,
    name: str,
    role: Role | None,
    limits: Mapping[str, Any],
    cleared: frozenset[str],
    *,
    by: Actor = COMMAND_LINE,
) -> StoredUser:
    """Change role and limits; those in `cleared` become the general ones again."""
    user = _changeable(tx, name)
    if role is not None and role != "admin":
        keep_an_admin(tx, user)
    if role is not None:
        users.set_role(tx, user.id, role)
    if limits or cleared:
        kept = {name: value for name, value in user.limits.items() if name not in cleared}
        users.set_limits(tx, user.id, {**kept, **limits})
    after = find_user(tx, name)
    told = changes(role=(user.role, after.role), limits=(dict(user.limits), dict(after.limits)))
    if told:
        note(tx, by, "user.change", user_id=user.id, details=told)
    return after


def _changeable(tx: Tx, name: str) -> StoredUser:
    """Find a user who is not declared in the settings: those would win again at the next start.

    Nobody else changes users until the transaction ends.
    """
    raise_version(tx)
    user = find_user(tx, name)
    if user.is_declared and not user.disabled:
        message = f"'{name}' is declared in the settings: change it there"
        raise InvalidValue(message, param="name")
    return user


def keep_an_admin(tx: Tx, user: StoredUser) -> None:
    """Refuse to lose the last admin. Raises InvalidValue."""
    others = [one for one in users.list_users(tx) if one.id != user.id]
    if user.role == "admin" and not any(one.role == "admin" and not one.disabled for one in others):
        message = (
            f"'{user.name}' is the last admin: make another one first (pixie user add NAME --role admin)"
        )
        raise InvalidValue(message, param="name")


def _now_us() -> int:
    return time.time_ns() // 1000
