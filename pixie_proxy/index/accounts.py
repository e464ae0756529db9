"""The queries for users, their keys, and the account of what each has taken."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pixie_proxy.index import Row, Tx
from pixie_proxy.records import Account, Role


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A key with its user: all it takes to tell who calls, whether or not they still may."""

    key_id: str
    digest: str
    expires_us: int | None
    revoked_us: int | None
    user: StoredUser


_ACCOUNT = (
    "subject, requests_tat_us, images_tat_us, in_flight, day, spent_day_micros, month, spent_month_micros,"
    " spent_life_micros, held_micros"
)
_USER = "SELECT id, name, role, created_us, limits, disabled, is_declared FROM users"
_KEY = (
    "SELECT id, user_id, digest, prefix, name, created_us, expires_us, revoked_us, last_used_us, is_declared"
    " FROM keys"
)
_CREDENTIAL = (
    "SELECT k.id AS key_id, k.digest, k.expires_us, k.revoked_us, u.id, u.name, u.role, u.created_us, u.limits,"
    " u.disabled, u.is_declared FROM keys k JOIN users u ON u.id = k.user_id"
)


def lock(tx: Tx, subject: str) -> Account:
    """Read a subject's account, made if need be, and keep every other transaction off it until this one ends."""
    row = tx.one(
        "INSERT INTO accounts (subject) VALUES (:subject)"
        " ON CONFLICT (subject) DO UPDATE SET subject = excluded.subject"
        " RETURNING " + _ACCOUNT,
        subject=subject,
    )
    if row is None:  # RETURNING always answers
        raise LookupError(subject)
    return _account(row)


def get(tx: Tx, subject: str) -> Account:
    """Read an account without locking it; one that was never used is empty."""
    row = tx.one("SELECT " + _ACCOUNT + " FROM accounts WHERE subject = :subject", subject=subject)
    return Account(subject=subject) if row is None else _account(row)


def save(tx: Tx, account: Account) -> None:
    """Write back an account that this transaction has locked."""
    tx.run(
        "UPDATE accounts SET requests_tat_us = :requests_tat_us, images_tat_us = :images_tat_us,"
        " in_flight = :in_flight, day = :day, spent_day_micros = :spent_day_micros, month = :month,"
        " spent_month_micros = :spent_month_micros, spent_life_micros = :spent_life_micros,"
        " held_micros = :held_micros WHERE subject = :subject",
        subject=account.subject,
        requests_tat_us=account.requests_tat_us,
        images_tat_us=account.images_tat_us,
        in_flight=account.in_flight,
        day=account.day,
        spent_day_micros=account.spent_day_micros,
        month=account.month,
        spent_month_micros=account.spent_month_micros,
        spent_life_micros=account.spent_life_micros,
        held_micros=account.held_micros,
    )


def charge(tx: Tx, subject: str, *, cost_micros: int, day: str, month: str) -> None:
    """Add the cost of a call whose row was rebuilt; day and month are those of its admission.

    An account that knows an earlier period only goes on to this one; what is of a period before its own is history.
    """
    tx.run(
        "INSERT INTO accounts (subject, day, spent_day_micros, month, spent_month_micros, spent_life_micros)"
        " VALUES (:subject, :day, :cost, :month, :cost, :cost) ON CONFLICT (subject) DO UPDATE SET"
        " spent_day_micros = CASE WHEN accounts.day < :day THEN 0 ELSE accounts.spent_day_micros END"
        " + CASE WHEN accounts.day <= :day THEN :cost ELSE 0 END,"
        " day = CASE WHEN accounts.day < :day THEN :day ELSE accounts.day END,"
        " spent_month_micros = CASE WHEN accounts.month < :month THEN 0 ELSE accounts.spent_month_micros END"
        " + CASE WHEN accounts.month <= :month THEN :cost ELSE 0 END,"
        " month = CASE WHEN accounts.month < :month THEN :month ELSE accounts.month END,"
        " spent_life_micros = accounts.spent_life_micros + :cost",
        subject=subject,
        cost=cost_micros,
        day=day,
        month=month,
    )


def release(tx: Tx, subject: str, *, hold_micros: int, cost_micros: int, day: str, month: str) -> bool:
    """End one call: give back its slot and its hold, and add its cost to the day and month that it was admitted in.

    A period that has rolled over since is left alone. Returns False if there is no such account.
    """
    return (
        tx.run(
            "UPDATE accounts SET"
            " in_flight = CASE WHEN in_flight > 0 THEN in_flight - 1 ELSE 0 END,"
            " held_micros = CASE WHEN held_micros > :hold THEN held_micros - :hold ELSE 0 END,"
            " spent_day_micros = spent_day_micros + CASE WHEN day = :day THEN :cost ELSE 0 END,"
            " spent_month_micros = spent_month_micros + CASE WHEN month = :month THEN :cost ELSE 0 END,"
            " spent_life_micros = spent_life_micros + :cost WHERE subject = :subject",
            subject=subject,
            hold=hold_micros,
            cost=cost_micros,
            day=day,
            month=month,
        )
        > 0
    )


def correct(tx: Tx, subject: str, *, change_micros: int, day: str, month: str) -> bool:
    """Change what a call has cost, after its `release`: in the periods that it was admitted in, never below nothing.

    Returns False if there is no such account.
    """
    return (
        tx.run(
            "UPDATE accounts SET"
            " spent_day_micros = CASE WHEN day <> :day THEN spent_day_micros"
            " WHEN spent_day_micros + :change > 0 THEN spent_day_micros + :change ELSE 0 END,"
            " spent_month_micros = CASE WHEN month <> :month THEN spent_month_micros"
            " WHEN spent_month_micros + :change > 0 THEN spent_month_micros + :change ELSE 0 END,"
            " spent_life_micros = CASE WHEN spent_life_micros + :change > 0 THEN spent_life_micros + :change"
            " ELSE 0 END WHERE subject = :subject",
            subject=subject,
            change=change_micros,
            day=day,
            month=month,
        )
        > 0
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
    """Find a user by id."""
    row = tx.one(_USER + " WHERE id = :id", id=user_id)
    return None if row is None else _user(row)


def get_user_by_name(tx: Tx, name: str) -> StoredUser | None:
    """Find a user by name."""
    row = tx.one(_USER + " WHERE name = :name", name=name)
    return None if row is None else _user(row)


def resolve_owner(tx: Tx, owner: str | None, own_id: str) -> str | None:
    """Give the user id that a filter means: `me`, or a name; None for no filter, and for a name that nobody has."""
    if owner is None or owner == "me":
        return own_id if owner else None
    found = get_user_by_name(tx, owner)
    return found.id if found else None


def list_users(tx: Tx) -> list[StoredUser]:
    """Give every user, by name."""
    return [_user(row) for row in tx.all(_USER + " ORDER BY name")]


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


def find_by_digest(tx: Tx, digest: str) -> Credential | None:
    """Find a key and its user; expired, revoked and disabled ones too, so the caller judges."""
    row = tx.one(_CREDENTIAL + " WHERE k.digest = :digest", digest=digest)
    return None if row is None else _credential(row)


def all_credentials(tx: Tx) -> list[Credential]:
    """Give every key with its user, for a cache in memory."""
    return [_credential(row) for row in tx.all(_CREDENTIAL)]


def list_keys(tx: Tx, user_id: str | None = None) -> list[StoredKey]:
    """Give the keys of one user, or of all, oldest first."""
    if user_id is None:
        rows = tx.all(_KEY + " ORDER BY id")
    else:
        rows = tx.all(_KEY + " WHERE user_id = :user_id ORDER BY id", user_id=user_id)
    return [StoredKey(**{**dict(row), "is_declared": bool(row["is_declared"])}) for row in rows]


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
    " is_declared) VALUES (:id, :user_id, :digest, :prefix, :name, :created_us, :expires_us, :revoked_us,"
    " :last_used_us, :is_declared)"
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
    return asdict(key) | {"is_declared": int(key.is_declared)}


def _account(row: Row) -> Account:
    return Account(**dict(row))


def _user(row: Row) -> StoredUser:
    return StoredUser(
        id=row["id"],
        name=row["name"],
        role=row["role"],
        created_us=row["created_us"],
        limits=json.loads(row["limits"]),
        disabled=bool(row["disabled"]),
        is_declared=bool(row["is_declared"]),
    )


def _credential(row: Row) -> Credential:
    return Credential(
        key_id=row["key_id"],
        digest=row["digest"],
        expires_us=row["expires_us"],
        revoked_us=row["revoked_us"],
        user=_user(row),
    )
