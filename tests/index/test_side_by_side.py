"""What several do at the same time, from as many processes: with each database it is as if one came after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.accounts import erasing, people, version
from pixie_proxy.accounts.acting import COMMAND_LINE
from pixie_proxy.accounts.declared import make_first_admin
from pixie_proxy.accounts.keys import digest
from pixie_proxy.admission import gate
from pixie_proxy.errors import InvalidApiKey, InvalidValue, ProxyError
from pixie_proxy.gallery import collections
from pixie_proxy.generation.admitting import enter
from pixie_proxy.index import Index, Tx, accounts, images, states, trash, users
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import CallRecord, User
from pixie_proxy.relay.join import Attempt
from pixie_proxy.spool.finish import settle
from tests.support.calls import ANN, a_call, a_picture, an_end

VIEWER = User(id=ANN.id, name=ANN.name, role="member")
FRESH = Attempt(retry_count=0, shape="shape")


@pytest.fixture(autouse=True)
async def somebody(index: Index) -> None:
    await index.write(lambda tx: users.add_user(tx, ANN))


async def at_once(index: Index, works: Sequence[Callable[[Tx], Any]]) -> list[Any]:
    """Run works side by side, on connections that are open."""
    await asyncio.gather(*[index.write(lambda _: time.sleep(0.02)) for _ in range(4)])
    return await asyncio.gather(*[index.write(work) for work in works], return_exceptions=True)


def add_images(tx: Tx, count: int) -> list[str]:
    call = a_call()
    enter(tx, call, FRESH, VIEWER.parties, None, "")
    made = [a_picture(b"x", at) for at in range(count)]
    images.insert(
        tx,
        made,
        request_id=call.id,
        owner_id=ANN.id,
        folder="images/f",
        kind="generation",
        model="m",
        visibility="team",
        created_us=1,
    )
    settle(tx, call, an_end(call))
    return [image.id for image in made]


async def test_files_to_delete_are_all_remembered(index: Index) -> None:
    """Each note adds its own to those of the others."""
    call = a_call()
    await index.write(lambda tx: enter(tx, call, FRESH, VIEWER.parties, None, ""))
    await at_once(
        index, [partial(states.mark, request_id=call.id, purged={f"img_{n}": f"{n}.png"}) for n in range(20)]
    )
    noted = await index.read(lambda tx: states.get(tx, call.id))
    assert noted is not None
    assert len(noted.purged) == 20


async def test_an_admin_is_left(index: Index) -> None:
    """Of two admins who are shut out at the same time one stays; and servers hear of each change."""
    for name in ("eve", "joe"):
        await index.write(partial(people.add_user, name=name, role="admin", limits={}))
    before = await index.read(version.version)
    outcomes = await at_once(
        index, [partial(people.set_disabled, name=name, disabled=True) for name in ("eve", "joe")]
    )
    assert sorted(type(each) is InvalidValue for each in outcomes) == [False, True]
    assert await index.read(version.version) == before + 1
    await at_once(
        index, [partial(people.add_user, name=f"u{n}", role="member", limits={}) for n in range(20)]
    )
    assert await index.read(version.version) == before + 21


async def test_changes_of_limits_add_up(index: Index) -> None:
    """Nobody writes over what another one has set."""
    names = ("requests_per_minute", "images_per_minute", "concurrent_requests", "images_per_day")
    await at_once(
        index,
        [
            partial(people.change_user, name=ANN.name, role=None, limits={name: 7}, cleared=frozenset())
            for name in names
        ],
    )
    ann = await index.read(lambda tx: people.find_user(tx, ANN.name))
    assert ann.limits == dict.fromkeys(names, 7)


async def test_an_image_goes_into_the_trash_once(index: Index) -> None:
    """Two that fill it count each image once, and its links end once; what was restored is not purged."""
    ids = await index.write(lambda tx: add_images(tx, 20))
    age = trash.Age(made_before_us=1 << 60, now_us=5)
    pages = await at_once(index, [lambda tx: trash.fill(tx, age, 20)] * 4)
    assert sum(map(len, pages)) == 20
    records = await index.read(lambda tx: [images.get(tx, each) for each in ids])
    assert {record.link_epoch for record in records if record} == {1}

    def restored(tx: Tx) -> list[Any]:
        return [images.restore(tx, each) for each in ids[:10]]

    gone, *_ = await at_once(index, [lambda tx: trash.purge(tx, 6, 20), restored])
    left = await index.read(lambda tx: [each for each in ids if images.get(tx, each)])
    assert {image.id for image in gone} == {*ids} - {*left}
    assert len(left) in {0, 10}


async def test_nobody_has_more_collections_than_may_be(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are made at once."""
    monkeypatch.setattr(collections, "MAX_COLLECTIONS", 5)
    made = await at_once(
        index, [partial(collections.make, viewer=VIEWER, name=f"c{n}", visibility="team") for n in range(20)]
    )
    assert sum(isinstance(each, InvalidValue) for each in made) == 15


async def test_a_user_is_deleted_or_admitted(index: Index) -> None:
    """Never both: a call that got in keeps its user, and of a deleted one nothing is written any more."""
    for number in range(10):
        name = f"zoe{number}"
        made = await index.write(partial(people.add_user, name=name, role="member", limits={}))
        zoe = User(id=made.key.user_id, name=name, role="member")
        call = replace(a_call(), user_id=zoe.id, key_id=None)
        stored = await index.read(partial(users.get_user, user_id=zoe.id))
        admitted, deleted = await at_once(
            index,
            [
                partial(enter, call=call, attempt=FRESH, parties=zoe.parties, barred=None, hint=""),
                partial(_delete, user=stored),
            ],
        )
        got_in = isinstance(admitted, gate.Admitted)
        assert isinstance(deleted, ProxyError) == got_in
        assert isinstance(admitted, InvalidApiKey) != got_in
        flight = await index.read(partial(accounts.get, subject=zoe.id))
        assert flight.in_flight == int(got_in)


def _delete(tx: Tx, user: StoredUser | None) -> erasing.Deleted:
    assert user is not None
    return erasing.delete_user(tx, user, user.name, by=COMMAND_LINE)


async def test_a_call_is_settled_once(index: Index) -> None:
    """By whom ever: slot and hold come back once, and it is charged once."""
    calls: list[CallRecord] = [a_call() for _ in range(5)]
    for call in calls:
        await index.write(
            partial(enter, call=call, attempt=FRESH, parties=VIEWER.parties, barred=None, hint="")
        )
    settled = await at_once(
        index, [partial(settle, call=call, settlement=an_end(call)) for call in calls for _ in range(4)]
    )
    assert settled.count(True) == 5
    ann = await index.read(lambda tx: accounts.get(tx, ANN.id))
    assert (ann.in_flight, ann.held_micros) == (0, 0)
    assert ann.spent_life_micros == sum(an_end(call).cost_micros for call in calls)


async def test_of_several_first_starts_one_makes_the_admin(index: Index, tmp_path: Path) -> None:
    """And the key that is written down is its key."""
    await index.write(lambda tx: tx.run("DELETE FROM users"))
    made = await asyncio.gather(*[make_first_admin(index, tmp_path, None) for _ in range(4)])
    assert len([each for each in made if each]) == 1
    (file,) = tmp_path.glob("admin.key*")
    key = file.read_text().strip()
    assert digest(key) in {each.digest for each in await index.read(users.all_credentials)}
