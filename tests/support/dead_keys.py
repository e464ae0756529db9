"""Keys that were good once."""

from __future__ import annotations

from pixie_proxy.accounts import keyring, people
from pixie_proxy.accounts.keys import new_key
from pixie_proxy.index import Tx

DEAD = ("revoked", "expired", "retired", "disabled")
"""The last is a good key of a user who is disabled."""


def make_dead_keys(tx: Tx, ending: str = "") -> dict[str, str]:
    """Make one key of each kind; gives their texts, which may share an ending."""
    texts = {kind: new_key() + ending for kind in DEAD}
    bob = people.find_user(tx, "bob")
    people.add_user(tx, "gone", "admin", {}, key_text=texts["disabled"])
    people.set_disabled(tx, "gone", disabled=True)
    keyring.revoke_key(tx, keyring.add_key(tx, bob, "a", None, key_text=texts["revoked"]).key.id)
    keyring.rotate_key(tx, keyring.add_key(tx, bob, "b", None, key_text=texts["retired"]).key.id, 0)
    late = keyring.add_key(tx, bob, "c", 1, key_text=texts["expired"]).key
    tx.run("UPDATE keys SET expires_us = 1 WHERE id = :id", id=late.id)
    return texts
