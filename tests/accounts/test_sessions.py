"""A session begins with a key, and every death of it is final."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pixie_proxy.accounts import people
from pixie_proxy.accounts.directory import Directory
from pixie_proxy.accounts.keys import digest, new_key
from pixie_proxy.accounts.sessions import (
    DAY_US,
    IDLE_US,
    LIFE_US,
    Session,
    Sessions,
    csrf_token,
    is_csrf_token,
)
from pixie_proxy.config import LimitSettings, TeamSettings
from pixie_proxy.index import Index, Tx, users
from pixie_proxy.index import sessions as stored
from pixie_proxy.index.sessions import StoredSession
from pixie_proxy.records import User

MINUTE_US = 60 * 1_000_000


@dataclass(frozen=True, slots=True)
class House:
    """The rooms, with somebody who has just signed in."""

    index: Index
    directory: Directory
    sessions: Sessions
    user: User
    token: str

    async def find(self, token: str | None = None) -> Session | None:
        """Look the session up in a house that has read its directory anew."""
        await self.directory.load()
        return await self.sessions.find(token or self.token)

    async def row(self) -> StoredSession | None:
        return await self.index.read(lambda tx: stored.get(tx, digest(self.token)))


@pytest.fixture
async def house(index: Index) -> House:
    key = new_key()
    await index.write(lambda tx: people.add_user(tx, "ann", "member", {}, key_text=key))
    directory = Directory(index, LimitSettings(), TeamSettings())
    await directory.load()
    user = directory.find(key)
    sessions = Sessions(index, directory)
    return House(index, directory, sessions, user, await sessions.begin(user, None))


async def test_a_session_is_its_keys_user(house: House) -> None:
    """The cookie is 256 random bits, and the index has only its digest."""
    session = await house.find()
    assert session is not None
    assert session.user == house.user
    assert re.fullmatch(r"[\w-]{43}", house.token)
    row = await house.row()
    assert row is not None
    assert house.token not in repr(row)


@pytest.mark.parametrize("cookie", ["", "x", "x" * 43, "x" * 5000, "ключ", "\udcff" * 43])
async def test_an_unknown_cookie_is_nobody(house: House, cookie: str) -> None:
    """Whatever it is made of; the digest of a good one too."""
    assert await house.sessions.find(cookie) is None
    assert await house.sessions.find(digest(house.token)) is None


async def _aged(house: House, created_ago_us: int, seen_ago_us: int) -> None:
    await house.index.write(
        lambda tx: tx.run(
            "UPDATE sessions SET created_us = created_us - :created, seen_us = seen_us - :seen",
            created=created_ago_us,
            seen=seen_ago_us,
        )
    )


@pytest.mark.parametrize(
    ("created_ago_us", "seen_ago_us", "lives"),
    [
        (LIFE_US - MINUTE_US, 0, True),
        (LIFE_US, 0, False),
        (IDLE_US, IDLE_US - MINUTE_US, True),
        (IDLE_US, IDLE_US, False),
        (400 * DAY_US, 0, False),
    ],
)
async def test_a_session_ends_with_its_time(
    house: House, created_ago_us: int, seen_ago_us: int, lives: bool
) -> None:
    """30 days at most, 7 without use."""
    await _aged(house, created_ago_us, seen_ago_us)
    assert (await house.find() is not None) == lives


async def test_use_is_noted_once_an_hour(house: House) -> None:
    """The pictures of a page do not write; a session in use goes on beyond 7 days."""
    begun = await house.row()
    await house.find()
    assert await house.row() == begun
    await _aged(house, 6 * DAY_US, 6 * DAY_US)
    await house.find()
    row = await house.row()
    assert row is not None
    assert begun is not None
    assert row.seen_us >= begun.seen_us
    assert row.created_us == begun.created_us - 6 * DAY_US


def _user_work(disabled: bool) -> Callable[[House], Awaitable[Any]]:
    return lambda house: house.index.write(
        lambda tx: users.set_disabled(tx, house.user.id, disabled=disabled)
    )


def _key_work(sql: str) -> Callable[[House], Awaitable[Any]]:
    return lambda house: house.index.write(lambda tx: tx.run(sql, key=house.user.key_id))


DEATHS: dict[str, Callable[[House], Awaitable[Any]]] = {
    "logout": lambda house: house.sessions.end(house.token),
    "key revoked": _key_work("UPDATE keys SET revoked_us = 1 WHERE id = :key"),
    "key expired": _key_work("UPDATE keys SET expires_us = 1 WHERE id = :key"),
    "key deleted": _key_work("DELETE FROM keys WHERE id = :key"),
    "user disabled": _user_work(disabled=True),
    "signed in again": lambda house: house.sessions.begin(house.user, house.token),
}


@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
async def test_a_session_dies_at_once(house: House, death: Callable[[House], Awaitable[Any]]) -> None:
    """With everything that it rests on."""
    assert await house.find() is not None
    await death(house)
    assert await house.find() is None


@pytest.mark.parametrize(
    ("end", "again"),
    [
        (_user_work(disabled=True), _user_work(disabled=False)),
        (
            _key_work("UPDATE keys SET revoked_us = 1 WHERE id = :key"),
            _key_work("UPDATE keys SET revoked_us = NULL WHERE id = :key"),
        ),
    ],
    ids=["user", "key"],
)
async def test_a_dead_session_stays_dead(
    house: House, end: Callable[[House], Awaitable[Any]], again: Callable[[House], Awaitable[Any]]
) -> None:
    """Somebody who is let in again signs in again, though nobody looked at the session meanwhile."""
    await end(house)
    await again(house)
    assert await house.find() is None


async def test_a_key_that_moved_to_another_user_takes_no_session_along(house: House) -> None:
    """Settings may give a declared key to somebody else."""

    def move(tx: Tx) -> None:
        other = people.add_user(tx, "ben", "admin", {}).key.user_id
        tx.run("UPDATE keys SET user_id = :user WHERE id = :key", user=other, key=house.user.key_id)

    await house.index.write(move)
    assert await house.find() is None


async def test_one_death_is_not_anothers(house: House) -> None:
    """Two browsers of one person are two sessions."""
    other = await house.sessions.begin(house.user, None)
    await house.sessions.end(house.token)
    assert await house.find() is None
    assert await house.find(other) is not None


async def test_signing_in_sweeps(house: House) -> None:
    """What has ended does not stay for ever."""
    await _aged(house, 0, IDLE_US + MINUTE_US)
    await house.sessions.begin(house.user, None)
    assert await house.row() is None


async def test_the_token_of_changes_belongs_to_one_session(house: House) -> None:
    """Another session's is refused, and so is any text."""
    other = await house.sessions.begin(house.user, None)
    session = await house.find()
    assert session is not None
    assert is_csrf_token(session, csrf_token(house.token))
    for wrong in (csrf_token(other), "", "ключ", "\udcff", house.token, session.csrf[:-1]):
        assert not is_csrf_token(session, wrong)
