"""Users and their keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pixie_proxy.index import Index, Tx, users
from pixie_proxy.index.users import StoredKey, StoredUser
from pixie_proxy.records import new_id
from tests.support.postgres import INTEGRITY


def user(name: str, **fields: object) -> StoredUser:
    basis = StoredUser(id=new_id("usr"), name=name, role="member", created_us=1, limits={})
    return replace(basis, **fields)  # type: ignore[arg-type]


def key(of: StoredUser, digest: str, **fields: object) -> StoredKey:
    basis = StoredKey(
        id=new_id("key"), user_id=of.id, digest=digest, prefix="px-ab", name="laptop", created_us=1
    )
    return replace(basis, **fields)  # type: ignore[arg-type]


async def test_names_are_unique(index: Index) -> None:
    """A taken name is told, not raised, and the first user stays."""
    first, second = user("ann", limits={"usd_per_day": 2.5}), user("ann")
    assert await index.write(lambda tx: users.add_user(tx, first))
    assert not await index.write(lambda tx: users.add_user(tx, second))
    assert await index.read(users.list_users) == [first]
    assert await index.read(lambda tx: users.get_user(tx, first.id)) == first
    assert await index.read(lambda tx: users.get_user_by_name(tx, "bob")) is None


async def test_users_change(index: Index) -> None:
    """Role, limits and the door change one by one; a user who isn't there is told."""
    ann = user("ann")

    def work(tx: Tx) -> StoredUser | None:
        users.add_user(tx, ann)
        assert users.set_disabled(tx, ann.id, disabled=True)
        assert users.set_role(tx, ann.id, "viewer")
        assert users.set_limits(tx, ann.id, {"usd_per_month": None})
        assert not users.set_role(tx, "usr_nobody", "viewer")
        return users.get_user(tx, ann.id)

    expected = replace(ann, disabled=True, role="viewer", limits={"usd_per_month": None})
    assert await index.write(work) == expected


async def test_declared_users_win_over_those_of_the_same_name(index: Index) -> None:
    """Who was there keeps the id; who is no longer declared is disabled, who never was is left alone."""
    ann, bob, eve = user("ann", disabled=True), user("bob"), user("eve")

    def work(tx: Tx) -> list[StoredUser]:
        users.add_user(tx, ann)
        users.add_user(tx, eve)
        declared = users.put_declared_user(tx, user("ann", role="admin", limits={"usd_per_day": 1}))
        assert declared.id == ann.id
        users.put_declared_user(tx, bob)
        assert users.disable_undeclared(tx, ["ann"]) == ["bob"]
        return users.list_users(tx)

    assert await index.write(work) == [
        replace(ann, role="admin", limits={"usd_per_day": 1}, disabled=False, is_declared=True),
        replace(bob, disabled=True, is_declared=True),
        eve,
    ]


async def test_key_leads_to_its_user(index: Index) -> None:
    """A digest leads to key and user, revoked ones too."""
    ann = user("ann")
    laptop = key(ann, "d1", expires_us=99)

    def work(tx: Tx) -> None:
        users.add_user(tx, ann)
        assert users.add_key(tx, laptop)
        assert not users.add_key(tx, key(ann, "d1"))
        assert users.revoke(tx, laptop.id, 7)
        assert not users.revoke(tx, laptop.id, 8)
        users.touch_key(tx, laptop.id, 6)
        users.touch_key(tx, laptop.id, 5)

    await index.write(work)
    found = users.Credential(key_id=laptop.id, digest="d1", expires_us=99, revoked_us=7, user=ann)
    assert await index.read(users.all_credentials) == [found]
    kept = replace(laptop, revoked_us=7, last_used_us=6)
    assert await index.read(users.list_keys) == [kept]
    assert await index.read(lambda tx: users.list_keys(tx, ann.id)) == [kept]
    assert await index.read(lambda tx: users.list_keys(tx, "usr_nobody")) == []


async def test_declared_keys_follow_the_settings(index: Index) -> None:
    """A declared key is good again for the user that the settings name; one that is gone from there is revoked."""
    ann, bob = user("ann"), user("bob")

    def work(tx: Tx) -> dict[str, tuple[str, int | None]]:
        users.add_user(tx, ann)
        users.add_user(tx, bob)
        users.add_key(tx, key(ann, "d1", revoked_us=3))
        users.put_declared_key(tx, key(bob, "d1"))
        users.put_declared_key(tx, key(bob, "d2"))
        users.add_key(tx, key(bob, "d3"))
        assert users.revoke_undeclared(tx, {"d1"}, 9) == 1
        return {each.digest: (each.user_id, each.revoked_us) for each in users.list_keys(tx)}

    assert await index.write(work) == {"d1": (bob.id, None), "d2": (bob.id, 9), "d3": (bob.id, None)}


async def test_key_needs_a_user(index: Index) -> None:
    """Foreign keys are on."""
    with pytest.raises(INTEGRITY):
        await index.write(lambda tx: users.add_key(tx, key(user("ghost"), "d1")))
