"""Who a key belongs to, and that every key that is not good is refused in one way."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pixie_proxy.accounts import people
from pixie_proxy.accounts.directory import Directory
from pixie_proxy.accounts.keys import digest, new_key
from pixie_proxy.config import LimitSettings, TeamSettings
from pixie_proxy.errors import InvalidApiKey
from pixie_proxy.index import Index, Tx, users
from pixie_proxy.index.users import StoredKey
from pixie_proxy.records import new_id
from tests.support.figures import RecordFigure

NOW_US = time.time_ns() // 1000
HOUR_US = 3600 * 1_000_000


async def with_key(index: Index, *, disabled: bool = False, **fields: Any) -> str:
    """Add a user with a second key, and give that key."""
    key = new_key()

    def work(tx: Tx) -> None:
        user_id = people.add_user(tx, new_id("usr"), "member", {}).key.user_id
        stored = StoredKey(
            id=new_id("key"),
            user_id=user_id,
            digest=digest(key),
            prefix="px",
            name="k",
            created_us=1,
            **fields,
        )
        users.add_key(tx, stored)
        users.set_disabled(tx, user_id, disabled=disabled)

    await index.write(work)
    return key


async def directory(index: Index) -> Directory:
    found = Directory(index, LimitSettings(), TeamSettings())
    await found.load()
    return found


@pytest.mark.parametrize("fields", [{}, {"expires_us": NOW_US + HOUR_US}])
async def test_a_good_key_tells_its_user(index: Index, fields: dict[str, Any]) -> None:
    """And which of the user's keys it was."""
    key = await with_key(index, **fields)
    assert (await directory(index)).find(key).key_id is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"revoked_us": NOW_US},
        {"expires_us": NOW_US - 1},
        {"expires_us": NOW_US + HOUR_US, "revoked_us": 1},
        {"disabled": True},
    ],
    ids=["revoked", "expired", "revoked early", "disabled user"],
)
async def test_a_key_that_is_not_good_is_refused_as_an_unknown_one(
    index: Index, fields: dict[str, Any]
) -> None:
    """Nobody learns that there was such a key."""
    key = await with_key(index, **fields)
    unknown = key[:-5] + ("x" if key[-5] != "x" else "y") + key[-4:]
    found = await directory(index)
    answers = []
    for tried in (key, unknown):
        with pytest.raises(InvalidApiKey) as refused:
            found.find(tried)
        answers.append((refused.value.answer(), refused.value.headers))
    assert answers[0] == answers[1]
    assert answers[0][0][0] == 401


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("px-0123456789abcdef", "px-***cdef"),
        ("sk-proj-0123456789", "sk-***6789"),
        ("short", "***"),
        ("", "***"),
        ("a\nb" + "0" * 20 + "\x1b[1m", "a?b***?[1m"),
    ],
)
async def test_the_message_shows_little_of_the_key(index: Index, key: str, shown: str) -> None:
    """It begins as OpenAI's does, for clients that look for the words."""
    with pytest.raises(InvalidApiKey) as refused:
        (await directory(index)).find(key)
    assert refused.value.message.startswith(f"Incorrect API key provided: {shown}. ")
    assert len(key) < 16 or key not in refused.value.message


async def test_keys_that_look_alike_are_different(index: Index) -> None:
    """The whole digest is looked up: a shared beginning or end is nothing."""
    key = await with_key(index)
    found = await directory(index)
    for other in (key + "a", key[:-1], key.upper(), f" {key}", digest(key)):
        with pytest.raises(InvalidApiKey):
            found.find(other)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.torture)])
async def test_keys_alike_at_both_ends_are_never_confused(
    index: Index, record_figure: RecordFigure, count: int
) -> None:
    """All share their first and last 20 characters; each opens its own user, and none of the digests opens any."""
    keys = {f"px-{'a' * 17}{number:08d}{'z' * 20}": f"user {number}" for number in range(count)}

    def work(tx: Tx) -> None:
        for key, name in keys.items():
            people.add_user(tx, name, "member", {}, key_text=key)

    await index.write(work)
    found = await directory(index)
    confused = [key for key, name in keys.items() if found.find(key).name != name]
    for key in keys:
        with pytest.raises(InvalidApiKey):
            found.find(digest(key))
    record_figure("R68", keys_alike=len(keys), confused=len(confused), digests_accepted=0)
    assert confused == []


async def test_what_changed_holds_from_the_next_load_on(index: Index) -> None:
    """A revoked key opens nothing any more."""
    key = await with_key(index)
    found = await directory(index)
    key_id = found.find(key).key_id
    assert key_id is not None
    await index.write(lambda tx: users.revoke(tx, key_id, NOW_US))
    await found.load()
    with pytest.raises(InvalidApiKey):
        found.find(key)
