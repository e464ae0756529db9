"""Users that the settings declare, and the admin of a first start."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from pixie_proxy.accounts import people
from pixie_proxy.accounts.declared import make_first_admin, sync_declared
from pixie_proxy.accounts.directory import Directory
from pixie_proxy.accounts.keys import digest
from pixie_proxy.config import DeclaredUser, LimitSettings, TeamSettings
from pixie_proxy.errors import ConfigError, InvalidApiKey, InvalidValue
from pixie_proxy.index import Index, users
from pixie_proxy.records import User

ANN_KEY, BOB_KEY = "px-ann-0123456789", "px-bob-0123456789"
ANN = DeclaredUser(name="ann", key=SecretStr(ANN_KEY))


async def directory(index: Index) -> Directory:
    found = Directory(index, LimitSettings(), TeamSettings())
    await found.load()
    return found


async def who(index: Index, key: str) -> User | None:
    try:
        return (await directory(index)).find(key)
    except InvalidApiKey:
        return None


async def test_the_first_start_makes_an_admin(index: Index, tmp_path: Path) -> None:
    """Its key is in a file that only the owner can read; the next start makes none."""
    made = await make_first_admin(index, tmp_path, None)
    assert made is not None
    assert made.path == tmp_path / "admin.key"
    assert made.path.stat().st_mode & 0o777 == 0o600
    admin = await who(index, made.path.read_text().strip())
    assert admin is not None
    assert (admin.name, admin.role) == ("admin", "admin")
    assert await make_first_admin(index, tmp_path, None) is None


async def test_a_file_of_before_does_not_stay_readable(index: Index, tmp_path: Path) -> None:
    """Whatever its mode was, the new key is for the owner only."""
    path = tmp_path / "admin.key"
    path.write_text("an older key, and a longer one than the one that takes its place " * 3)
    path.chmod(0o644)
    await make_first_admin(index, tmp_path, None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert await who(index, path.read_text().strip()) is not None


async def test_an_operator_may_bring_the_admins_key(index: Index, tmp_path: Path) -> None:
    """Then no file is written."""
    made = await make_first_admin(index, tmp_path, ANN_KEY)
    assert made is not None
    assert made.path is None
    assert not (tmp_path / "admin.key").exists()
    assert (await who(index, ANN_KEY)) is not None


@pytest.mark.parametrize("key", ["", " ", "admin", "\t1234567\n"])
async def test_an_admins_key_that_can_be_guessed_is_refused(index: Index, tmp_path: Path, key: str) -> None:
    """An empty one as well: who set it believes that it is set. Nobody is made (R75)."""
    with pytest.raises(ConfigError, match="less than 8 characters"):
        await make_first_admin(index, tmp_path, key)
    assert not (tmp_path / "admin.key").exists()
    assert await index.read(users.list_users) == []


async def test_declared_users_need_no_admin(index: Index, tmp_path: Path) -> None:
    """Who declares users knows their keys."""
    await sync_declared(index, [ANN])
    assert await make_first_admin(index, tmp_path, None) is None


async def test_a_declared_user_may_come_in(index: Index) -> None:
    """With the role and the limits of the settings; those left out are the general ones."""
    limits = LimitSettings(requests_per_minute=None, usd_per_month=20)
    await sync_declared(index, [ANN.model_copy(update={"role": "viewer", "limits": limits})])
    user = await who(index, ANN_KEY)
    assert user is not None
    assert (user.name, user.role, user.disabled) == ("ann", "viewer", False)
    assert (user.limits.requests_per_minute, user.limits.usd_per_month) == (None, 20)
    assert (user.limits.images_per_minute, user.limits.concurrent_requests) == (60, 32)


async def test_a_digest_is_as_good_as_the_key(index: Index) -> None:
    """The settings need not hold a secret. The digest itself opens nothing."""
    await sync_declared(index, [DeclaredUser(name="ann", key_sha256=digest(ANN_KEY))])
    assert await who(index, ANN_KEY) is not None
    assert await who(index, digest(ANN_KEY)) is None


async def test_a_declared_user_wins_over_the_index(index: Index) -> None:
    """Same name, same person: the id stays, role and key are those of the settings, and being disabled ends."""
    made = await index.write(
        lambda tx: people.add_user(tx, "ann", "admin", {"usd_per_day": 1}, key_text=BOB_KEY)
    )
    await index.write(lambda tx: users.set_disabled(tx, made.key.user_id, disabled=True))
    await sync_declared(index, [ANN])
    user = await who(index, ANN_KEY)
    assert user is not None
    assert (user.id, user.role, user.limits.usd_per_day) == (made.key.user_id, "member", None)


async def test_who_is_no_longer_declared_is_out(index: Index) -> None:
    """And in again, as the same person, once declared again."""
    await sync_declared(index, [ANN])
    first = await who(index, ANN_KEY)
    await sync_declared(index, [])
    assert await who(index, ANN_KEY) is None
    await sync_declared(index, [ANN])
    again = await who(index, ANN_KEY)
    assert first is not None
    assert again is not None
    assert first.id == again.id


async def test_a_declared_key_that_changed_opens_nothing_any_more(index: Index) -> None:
    """The new one does; a key that moved to another user is that user's."""
    await sync_declared(index, [ANN])
    await sync_declared(index, [DeclaredUser(name="ann", key=SecretStr(BOB_KEY))])
    assert await who(index, ANN_KEY) is None
    await sync_declared(
        index,
        [DeclaredUser(name="bob", key=SecretStr(BOB_KEY)), DeclaredUser(name="ann", key=SecretStr(ANN_KEY))],
    )
    found = [await who(index, key) for key in (ANN_KEY, BOB_KEY)]
    assert [user and user.name for user in found] == ["ann", "bob"]


async def test_users_of_the_index_are_left_alone(index: Index) -> None:
    """What the settings never named, they can't take away."""
    await index.write(lambda tx: people.add_user(tx, "bob", "member", {}, key_text=BOB_KEY))
    await sync_declared(index, [ANN])
    await sync_declared(index, [])
    assert await who(index, BOB_KEY) is not None


async def test_a_name_is_given_once(index: Index) -> None:
    """A second user of that name is refused, and its key with it."""

    async def add(key: str) -> object:
        return await index.write(lambda tx: people.add_user(tx, "bob", "member", {}, key_text=key))

    assert await add(BOB_KEY) is not None
    with pytest.raises(InvalidValue, match="already"):
        await add(ANN_KEY)
    assert await who(index, ANN_KEY) is None


@pytest.mark.parametrize("key", [ANN_KEY, BOB_KEY])
async def test_no_key_is_kept_in_clear(index: Index, tmp_path: Path, key: str) -> None:
    """Neither in the database nor in its log: only digests, and the first characters."""
    await sync_declared(index, [DeclaredUser(name="ann", key=SecretStr(key))])
    await index.write(lambda tx: people.add_user(tx, "b", "member", {}, key_text=key[::-1]))
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("pixie.db*"))
    assert digest(key).encode() in kept
    assert not [text for text in (key, key[::-1], key[:8]) if text.encode() in kept]
