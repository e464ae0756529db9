"""The queries for users and their keys."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pixie_proxy.index import Row, Tx
from pixie_proxy.records import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUser:
    """A user as the index keeps it. `limits` holds only those set for this user; declared = named in the settings."""

    id: str
    name: str
    role: Role
    created_us: int
    limits: Mapping[str, Any]
    disabled: bool = False
    is_declared: bool = False
    is_deleted: bool = False
    """Whether this row stays only for the ledger: who it was about is gone, with the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A user's API key: its SHA-256 in hex, and the first characters to know it by."""

    id: str
    user_id: str
    digest: str
    prefix: str
    name: str
    created_us: int
    expires_us: int | None = None
    revoked_us: int | None = None
    last_used_us: int | None = None
    is_declared: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    """The only models that it may be used for; empty = all."""
    retired_until_us: int | None = None
    """Until when the text from before its last rotation is good as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A text of a key, with its user: all it takes to tell who calls, whether or not they still may."""

    key_id: str
    digest: str
    expires_us: int | None
    revoked_us: int | None
    user: StoredUser
    limits: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ()


_USER = "SELECT id, name, role, created_us, limits, disabled, is_declared, deleted_us FROM users"
_KEY = (
    "SELECT id, user_id, digest, prefix, name, created_us, expires_us, revoked_us, last_used_us, is_declared,"
    " limits, models, retired_until_us FROM keys"
)
_CREDENTIAL = (
    "SELECT k.id AS key_id, k.digest, k.expires_us, k.revoked_us, k.limits AS key_limits, k.models AS key_models,"
    " k.retired_digest, k.retired_until_us, u.id, u.name, u.role, u.created_us, u.limits, u.disabled, u.is_declared,"
    " u.deleted_us FROM keys k JOIN users u ON u.id = k.user_id"
)


def add_user(tx: Tx, user: StoredUser) -> bool:
    """Add a user; False if the name is taken."""
    return tx.run(_INSERT_USER + " ON CONFLICT (name) DO NOTHING", **_user_values(user)) > 0


def put_declared_user(tx: Tx, user: StoredUser) -> StoredUser:
    """Add a user of the settings, or bring the one of that name into line; who was there keeps id and creation time."""
    tx.run(
        _INSERT_USER + " ON CONFLICT (name) DO UPDATE SET"
        " role = excluded.role, limits = excluded.limits, disabled = 0, is_declared = 1",
        **_user_values(user) | {"is_declared": 1, "disabled": 0},
    )
    return get_user_by_name(tx, user.name) or user


def disable_undeclared(tx: Tx, declared_names: Collection[str]) -> list[str]:
    """Disable the users that came from the settings and are gone from there; returns their names."""
    rows = tx.all("SELECT id, name FROM users WHERE is_declared = 1 AND disabled = 0 ORDER BY name")
    gone = [row for row in rows if row["name"] not in declared_names]
    for row in gone:
        set_disabled(tx, row["id"], disabled=True)
    return [row["name"] for row in gone]


def get_user(tx: Tx, user_id: str) -> StoredUser | None:
    """Find a user by id, a deleted one too."""
    row = tx.one(_USER + " WHERE id = :id", id=user_id)
    return None if row is None else _user(row)


def get_user_by_name(tx: Tx, name: str) -> StoredUser | None:
    """Find a user by name."""
    row = tx.one(_USER + " WHERE name = :name AND deleted_us IS NULL", name=name)
    return None if row is None else _user(row)


def resolve_owner(tx: Tx, owner: str | None, own_id: str) -> str | None:
    """Give the user id that a filter means: `me`, or a name; None for no filter, and for a name that nobody has."""
    if owner is None or owner == "me":
        return own_id if owner else None
    found = get_user_by_name(tx, owner)
    return found.id if found else None


def list_users(tx: Tx) -> list[StoredUser]:
    """Give every user who was not deleted, by name."""
    return [_user(row) for row in tx.all(_USER + " WHERE deleted_us IS NULL ORDER BY name")]


def set_disabled(tx: Tx, user_id: str, *, disabled: bool) -> bool:
    """Let a user in or keep one out; False if there is no such user."""
    return tx.run("UPDATE users SET disabled = :flag WHERE id = :id", flag=int(disabled), id=user_id) > 0


def set_role(tx: Tx, user_id: str, role: Role) -> bool:
    """Change what a user may do; False if there is no such user."""
    return tx.run("UPDATE users SET role = :role WHERE id = :id", role=role, id=user_id) > 0


def set_limits(tx: Tx, user_id: str, limits: Mapping[str, Any]) -> bool:
    """Replace the limits that are set for this user; False if there is no such user."""
    return (
        tx.run(
            "UPDATE users SET limits = :limits WHERE id = :id", limits=json.dumps(dict(limits)), id=user_id
        )
        > 0
    )


def add_key(tx: Tx, key: StoredKey) -> bool:
    """Add a key; False if there is one with this digest."""
    return tx.run(_INSERT_KEY + " ON CONFLICT (digest) DO NOTHING", **_key_values(key)) > 0


def put_declared_key(tx: Tx, key: StoredKey) -> None:
    """Add a key of the settings, or give the one with this digest to the user that the settings name."""
    tx.run(
        _INSERT_KEY
        + " ON CONFLICT (digest) DO UPDATE SET user_id = excluded.user_id, prefix = excluded.prefix,"
        " name = excluded.name, expires_us = NULL, revoked_us = NULL, is_declared = 1",
        **_key_values(key) | {"is_declared": 1},
    )


def revoke_undeclared(tx: Tx, declared_digests: Collection[str], at_us: int) -> int:
    """Revoke the keys that came from the settings and are gone from there; returns how many."""
    rows = tx.all("SELECT id, digest FROM keys WHERE is_declared = 1 AND revoked_us IS NULL")
    return sum(revoke(tx, row["id"], at_us) for row in rows if row["digest"] not in declared_digests)


def all_credentials(tx: Tx) -> list[Credential]:
    """Give every text of every key with its user, for a cache in memory; what a rotation retired, until it is over."""
    found: list[Credential] = []
    for row in tx.all(_CREDENTIAL):
        current = _credential(row)
        if row["retired_digest"] is not None:
            ends = [at for at in (current.expires_us, row["retired_until_us"]) if at is not None]
            found.append(replace(current, digest=row["retired_digest"], expires_us=min(ends)))
        found.append(current)
    return found


def get_key(tx: Tx, key_id: str) -> StoredKey | None:
    """Find a key by id."""
    row = tx.one(_KEY + " WHERE id = :id", id=key_id)
    return None if row is None else _key(row)


def list_keys(tx: Tx, user_id: str | None = None) -> list[StoredKey]:
    """Give the keys of one user, or of all, oldest first."""
    if user_id is None:
        rows = tx.all(_KEY + " ORDER BY id")
    else:
        rows = tx.all(_KEY + " WHERE user_id = :user_id ORDER BY id", user_id=user_id)
    return [_key(row) for row in rows]


def set_key_limits(tx: Tx, key_id: str, limits: Mapping[str, Any]) -> bool:
    """Replace the limits of a key; False if there is no such key."""
    told = json.dumps(dict(limits))
    return tx.run("UPDATE keys SET limits = :limits WHERE id = :id", limits=told, id=key_id) > 0


def set_key_models(tx: Tx, key_id: str, models: Sequence[str]) -> bool:
    """Replace the models that a key may be used for; False if there is no such key."""
    told = json.dumps(list(models))
    return tx.run("UPDATE keys SET models = :models WHERE id = :id", models=told, id=key_id) > 0


def rotate(tx: Tx, key_id: str, digest: str, prefix: str, until_us: int) -> bool:
    """Give a key another text, keep the old one until then, and end its sessions; False if there is no such key."""
    tx.run("DELETE FROM sessions WHERE key_id = :id", id=key_id)
    return (
        tx.run(
            "UPDATE keys SET retired_digest = digest, retired_until_us = :until, digest = :digest,"
            " prefix = :prefix WHERE id = :id",
            id=key_id,
            digest=digest,
            prefix=prefix,
            until=until_us,
        )
        > 0
    )


def revoke(tx: Tx, key_id: str, at_us: int) -> bool:
    """End a key for good; False if there is no such key, or it was over."""
    return (
        tx.run("UPDATE keys SET revoked_us = :at WHERE id = :id AND revoked_us IS NULL", at=at_us, id=key_id)
        > 0
    )


def touch_key(tx: Tx, key_id: str, at_us: int) -> None:
    """Note a key's last use; an older note never replaces a newer one."""
    tx.run(
        "UPDATE keys SET last_used_us = :at WHERE id = :id AND (last_used_us IS NULL OR last_used_us < :at)",
        at=at_us,
        id=key_id,
    )


_INSERT_USER = (
    "INSERT INTO users (id, name, role, created_us, limits, disabled, is_declared)"
    " VALUES (:id, :name, :role, :created_us, :limits, :disabled, :is_declared)"
)
_INSERT_KEY = (
    "INSERT INTO keys (id, user_id, digest, prefix, name, created_us, expires_us, revoked_us, last_used_us,"
    " is_declared, limits, models) VALUES (:id, :user_id, :digest, :prefix, :name, :created_us, :expires_us,"
    " :revoked_us, :last_used_us, :is_declared, :limits, :models)"
)


def _user_values(user: StoredUser) -> dict[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "role": user.role,
        "created_us": user.created_us,
        "limits": json.dumps(dict(user.limits)),
        "disabled": int(user.disabled),
        "is_declared": int(user.is_declared),
    }


def _key_values(key: StoredKey) -> dict[str, Any]:
    return asdict(key) | {
        "is_declared": int(key.is_declared),
        "limits": json.dumps(dict(key.limits)),
        "models": json.dumps(key.models),
    }


def _key(row: Row) -> StoredKey:
    told = {
        "is_declared": bool(row["is_declared"]),
        "limits": json.loads(row["limits"]),
        "models": tuple(json.loads(row["models"])),
    }
    return StoredKey(**{**dict(row), **told})


def _user(row: Row) -> StoredUser:
    return StoredUser(
        id=row["id"],
        name=row["name"],
        role=row["role"],
        created_us=row["created_us"],
        limits=json.loads(row["limits"]),
        disabled=bool(row["disabled"]),
        is_declared=bool(row["is_declared"]),
        is_deleted=row["deleted_us"] is not None,
    )


def _credential(row: Row) -> Credential:
    return Credential(
        key_id=row["key_id"],
        digest=row["digest"],
        expires_us=row["expires_us"],
        revoked_us=row["revoked_us"],
        user=_user(row),
        limits=json.loads(row["key_limits"]),
        models=tuple(json.loads(row["key_models"])),
    )
