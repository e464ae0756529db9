"""Users that the settings declare, and the admin of the first start."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pixie_proxy.accounts import people
from pixie_proxy.accounts.keys import new_key, shown_prefix
from pixie_proxy.accounts.version import raise_version
from pixie_proxy.config import DeclaredUser
from pixie_proxy.errors import ConfigError
from pixie_proxy.index import Index, Tx, users
from pixie_proxy.index.users import StoredKey, StoredUser
from pixie_proxy.records import new_id

ADMIN_KEY_FILE = "admin.key"
_LEAST_KEY = 8
"""Characters of a key that is brought, as of one that is declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAdmin:
    """The admin that a first start made. `path` holds the key, unless the operator brought one."""

    name: str
    path: Path | None


async def sync_declared(index: Index, declared: Sequence[DeclaredUser]) -> None:
    """Make the index agree with the settings: declared users win, those no longer declared are disabled."""
    await index.write(lambda tx: _sync(tx, declared))


async def make_first_admin(index: Index, data_dir: Path, brought_key: str | None) -> FirstAdmin | None:
    """Make an `admin` where there is no user at all; its key goes to `<data_dir>/admin.key` unless one was brought.

    Raises ConfigError for one that is empty or could be guessed.
    """
    if await index.read(users.list_users):
        return None
    key = new_key() if brought_key is None else brought_key.strip()
    if len(key) < _LEAST_KEY:
        raise ConfigError("PIXIE_ADMIN_KEY has less than 8 characters: give a longer key, or unset it")
    if brought_key is not None:
        return (
            FirstAdmin(name="admin", path=None) if await index.write(partial(_add_first, key=key)) else None
        )
    path = data_dir / ADMIN_KEY_FILE
    # The file first: an admin whose key nobody knows could not be made again. Beside it, for of several that start at
    # once only one makes the admin.
    part = path.with_name(f"{ADMIN_KEY_FILE}.{secrets.token_hex(4)}")
    _write_secret(part, key + "\n")
    if not await index.write(partial(_add_first, key=key)):
        part.unlink()
        return None
    part.rename(path)
    return FirstAdmin(name="admin", path=path)


def _add_first(tx: Tx, key: str) -> bool:
    """Make the admin; False if somebody was faster."""
    raise_version(tx)
    if users.list_users(tx):
        return False
    people.add_user(tx, "admin", "admin", {}, key_text=key, key_name="first start")
    return True


def _sync(tx: Tx, declared: Sequence[DeclaredUser]) -> None:
    raise_version(tx)
    now_us = time.time_ns() // 1000
    digests: list[str] = []
    for person in declared:
        limits = person.limits.model_dump(exclude_unset=True) if person.limits else {}
        user = users.put_declared_user(
            tx,
            StoredUser(
                id=new_id("usr"), name=person.name, role=person.role, created_us=now_us, limits=limits
            ),
        )
        key = person.key.get_secret_value() if person.key else None
        digests.append(person.digest)
        users.put_declared_key(
            tx,
            StoredKey(
                id=new_id("key"),
                user_id=user.id,
                digest=digests[-1],
                prefix=shown_prefix(key) if key else "",
                name="declared",
                created_us=now_us,
                is_declared=True,
            ),
        )
    users.revoke_undeclared(tx, digests, now_us)
    users.disable_undeclared(tx, [person.name for person in declared])


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first moment on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
