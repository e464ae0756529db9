"""Keeping images and listing them: every page is held against a list that is filtered in plain Python."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixie_proxy.index import Tx, browsing, images, ledger, users
from pixie_proxy.index.batch import SqliteTx
from pixie_proxy.index.migrate import migrate
from pixie_proxy.index.postgres.target import Target
from pixie_proxy.index.postgres.tx import PostgresTx
from pixie_proxy.index.seen import look
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import (
    KINDS,
    VISIBILITIES,
    CallRecord,
    ImageRecord,
    Page,
    StoredImage,
    User,
    base32hex,
    new_id,
)

NAMES = ["ann", "bob", "eve"]
USERS = {name: User(id=new_id("usr"), name=name, role="member") for name in NAMES}
USERS["ann"] = replace(USERS["ann"], role="admin")
MODELS = ["gpt-image-2", "gpt-image-1", "tiny"]
FIRST_MS = 1_760_000_000_000


def image_id(milliseconds: int, tail: int) -> str:
    return f"img_{base32hex((milliseconds << 80 | tail) << 2, 26)}"


def stored(identifier: str, position: int) -> StoredImage:
    return StoredImage(
        id=identifier,
        position=position,
        file=f"{position}.png",
        mime="image/png",
        size_bytes=123,
        sha256="ab" * 32,
        width=8,
        height=None,
        revised_prompt="a red fox",
    )


def add_call(tx: Tx, owner: User, **fields: Any) -> CallRecord:
    call = CallRecord(
        id=new_id("req"),
        user_id=owner.id,
        key_id=None,
        kind="generation",
        requested_model=None,
        model="gpt-image-2",
        prompt="a fox",
        params={"size": "8x8"},
        images_asked=2,
        is_stream=False,
        fingerprint="f",
        idempotency_key=None,
        hold_micros=0,
        process="p",
        created_us=0,
    )
    call = replace(call, **fields)
    ledger.insert(tx, call, "sent")
    return call


def add_images(tx: Tx, owner: User, new: list[StoredImage], call: CallRecord, **fields: Any) -> int:
    about: dict[str, Any] = {"visibility": "team", "created_us": 5, "folder": f"images/{call.id}"}
    return images.insert(
        tx,
        new,
        request_id=call.id,
        owner_id=owner.id,
        kind=call.kind,
        model=call.model,
        **about | fields,
    )


@contextmanager
def in_sqlite(folder: Path) -> Iterator[Tx]:
    with closing(sqlite3.connect(folder / "pixie.db", isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        migrate(connection)
        connection.execute("BEGIN")
        yield SqliteTx(connection)


@contextmanager
def in_postgres(url: str) -> Iterator[Tx]:
    link, _ = Target.of(url).connect()
    with link:
        link.execute("SET idle_in_transaction_session_timeout = 0")
        link.execute("BEGIN")
        yield PostgresTx(link)


def in_database(request: pytest.FixtureRequest, folder: Path) -> AbstractContextManager[Tx]:
    """Open an empty index, by the parameter of the fixture that asks; one transaction."""
    if request.param == "sqlite":
        return in_sqlite(folder)
    return in_postgres(request.getfixturevalue("postgres").database())


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def tx(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tx]:
    """Eighty images of three users, of all kinds, some in the trash, two made in each millisecond."""
    with in_database(request, tmp_path_factory.mktemp("index")) as tx:
        fill(tx)
        yield tx


def fill(tx: Tx) -> None:
    chance = random.Random(7)
    for user in USERS.values():
        users.add_user(
            tx, users.StoredUser(id=user.id, name=user.name, role=user.role, created_us=0, limits={})
        )
    for n in range(80):
        owner = USERS[chance.choice(NAMES)]
        identifier = image_id(FIRST_MS + n // 2, n % 2)
        call = add_call(tx, owner, kind=chance.choice(KINDS), model=chance.choice(MODELS))
        add_images(tx, owner, [stored(identifier, 0)], call, visibility=chance.choice(VISIBILITIES))
        if chance.random() < 0.3:
            images.delete(tx, identifier, 9)


@pytest.fixture(scope="module")
def everything(tx: Tx) -> list[ImageRecord]:
    rows = tx.all("SELECT id FROM images ORDER BY id")
    found = [images.get(tx, row["id"]) for row in rows]
    return [image for image in found if image is not None]


def listed(tx: Tx, viewer: User, **asked: Any) -> Page[ImageRecord]:
    walk = {name: asked.pop(name) for name in WALK if name in asked}
    return browsing.page(tx, viewer, Walk(**walk), **asked)


def may_see(viewer: User, image: ImageRecord) -> bool:
    if viewer.is_admin or image.owner_id == viewer.id:
        return True
    return image.deleted_us is None and image.visibility != "private"


def expected(everything: list[ImageRecord], viewer: User, asked: dict[str, Any]) -> list[ImageRecord]:
    """Give all that fits the filters, in the asked order, without cursors."""
    since, until = asked["since_us"], asked["until_us"]
    fitting = [
        image
        for image in everything
        if may_see(viewer, image)
        and (image.deleted_us is not None) == asked["deleted"]
        and all(
            asked[name] in (None, getattr(image, name))
            for name in ("owner_id", "model", "kind", "visibility")
        )
        and (since is None or made_us(image) >= since)
        and (until is None or made_us(image) < until)
    ]
    return fitting if asked["order"] == "asc" else fitting[::-1]


def made_us(image: ImageRecord) -> int:
    return (int(image.id[4:14], 32) >> 2) * 1000


WALK = ("since_us", "until_us", "after", "before", "order", "limit")
MAYBE_TIME = st.none() | st.builds(
    lambda after_ms, off_us: (FIRST_MS + after_ms) * 1000 + off_us,
    st.integers(-1, 41),
    st.sampled_from([0, -1, 1]),
)
ASKED = st.fixed_dictionaries(
    {
        "owner_id": st.sampled_from([None, None, *[user.id for user in USERS.values()]]),
        "model": st.sampled_from([None, None, *MODELS]),
        "kind": st.sampled_from([None, None, *KINDS]),
        "visibility": st.sampled_from([None, None, *VISIBILITIES]),
        "since_us": MAYBE_TIME,
        "until_us": MAYBE_TIME,
        "order": st.sampled_from(["asc", "desc"]),
        "deleted": st.booleans(),
    }
)
VIEWERS = st.sampled_from(list(USERS.values()))


@settings(max_examples=150, deadline=None)
@given(viewer=VIEWERS, asked=ASKED, limit=st.integers(1, 30))
def test_walking_forward_gives_everything_once(
    tx: Tx, everything: list[ImageRecord], viewer: User, asked: dict[str, Any], limit: int
) -> None:
    """Page after page by `after` is the whole list, and `has_more` is true until its end."""
    wanted = expected(everything, viewer, asked)
    walked: list[ImageRecord] = []
    has_more = True
    while has_more:
        page = listed(tx, viewer, **asked, limit=limit, after=walked[-1].id if walked else None)
        walked += page.items
        has_more = page.has_more
        assert len(page.items) == limit or not has_more
    assert walked == wanted


@settings(max_examples=150, deadline=None)
@given(viewer=VIEWERS, asked=ASKED, limit=st.integers(1, 30), pick=st.integers(0, 79))
def test_walking_backward_keeps_the_asked_order(
    tx: Tx, everything: list[ImageRecord], viewer: User, asked: dict[str, Any], limit: int, pick: int
) -> None:
    """The page by `before` is what stands just before that id, and `has_more` means further back."""
    cursor = everything[pick].id
    page = listed(tx, viewer, **asked, limit=limit, before=cursor)
    ahead = [
        image
        for image in expected(everything, viewer, asked)
        if (image.id < cursor if asked["order"] == "asc" else image.id > cursor)
    ]
    assert page.items == ahead[-limit:]
    assert page.has_more == (len(ahead) > limit)


@settings(max_examples=50, deadline=None)
@given(viewer=VIEWERS, asked=ASKED, limit=st.integers(1, 30), picks=st.tuples(*[st.integers(0, 79)] * 2))
def test_both_cursors_enclose(
    tx: Tx,
    everything: list[ImageRecord],
    viewer: User,
    asked: dict[str, Any],
    limit: int,
    picks: tuple[int, int],
) -> None:
    """With `after` and `before` the page starts behind the one and ends ahead of the other."""
    after, before = (everything[pick].id for pick in picks)
    page = listed(tx, viewer, **asked, limit=limit, after=after, before=before)
    low, high = (after, before) if asked["order"] == "asc" else (before, after)
    between = [image for image in expected(everything, viewer, asked) if low < image.id < high]
    assert page.items == between[:limit]
    assert page.has_more == (len(between) > limit)


def test_times_are_half_open(tx: Tx, everything: list[ImageRecord]) -> None:
    """An image made at `since` is in, one made at `until` is out, to the microsecond."""
    ann, at_us = USERS["ann"], [made_us(image) for image in everything if image.deleted_us is None]
    for start, end in pairwise(at_us):
        page = listed(tx, ann, since_us=start, until_us=end, limit=100)
        assert len(page.items) == sum(start <= each < end for each in at_us)


def test_private_images_of_others_stay_hidden(tx: Tx, everything: list[ImageRecord]) -> None:
    """A member sees none of them whatever is asked, an admin all, the trash of others nobody but admins."""
    bob = USERS["bob"]
    seen = listed(tx, bob, limit=100).items
    assert {image.visibility for image in seen if image.owner_id != bob.id} == {"team", "public"}
    assert "private" in {image.visibility for image in seen if image.owner_id == bob.id}
    assert listed(tx, bob, owner_id=USERS["eve"].id, visibility="private").items == []
    assert {image.owner_id for image in listed(tx, bob, deleted=True, limit=100).items} == {bob.id}
    assert len(listed(tx, USERS["ann"], limit=100).items) == sum(
        image.deleted_us is None for image in everything
    )


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({}, "images_by_visibility"),
        ({"model": "tiny"}, "images_by_model"),
        ({"owner_id": "usr_x"}, "images_by_owner"),
        ({"owner_id": "usr_x", "model": "tiny"}, "images_by_owner_and_model"),
        ({"deleted": True}, "images_in_trash"),
    ],
)
@pytest.mark.parametrize("name", ["ann", "bob"])
def test_list_walks_along_an_index(tx: Tx, asked: dict[str, Any], index: str, name: str) -> None:
    """No list reads a table from end to end or sorts more than its page, so it stays fast at a million images."""
    if not isinstance(tx, SqliteTx):
        pytest.skip("PostgreSQL reads a table as small as this one from end to end")
    plans: list[str] = []

    class Explaining:
        def all(self, sql: str, **params: object) -> list[Any]:
            plans.extend(row["detail"] for row in tx.all("EXPLAIN QUERY PLAN " + sql, **params))
            return tx.all(sql, **params)

    listed(Explaining(), USERS[name], **asked)  # type: ignore[arg-type]
    walks = [plan for plan in plans if " i USING " in plan and "autoindex" not in plan]
    assert walks
    used = {plan.split(" INDEX ")[1].split()[0] for plan in walks}
    own = {index.replace("_by_visibility", "_by_owner").replace("_by_model", "_by_owner_and_model")}
    assert used - {index} <= own  # a member's own private images are a walk of their own
    assert index in used


@pytest.mark.parametrize("name", ["ann", "bob"])
def test_what_a_page_shows_beside_its_rows_is_looked_up(tx: Tx, name: str) -> None:
    """By the ids of the page, however many: SQLite would walk along all that the viewer sees otherwise."""
    if not isinstance(tx, SqliteTx):
        pytest.skip("PostgreSQL reads tables as small as these from end to end")
    records = [replace(image, kind="edit") for image in listed(tx, USERS[name], limit=100).items]
    plans: list[str] = []

    class Explaining:
        def all(self, sql: str, **params: object) -> list[Any]:
            plans.extend(row["detail"] for row in tx.all("EXPLAIN QUERY PLAN " + sql, **params))
            return tx.all(sql, **params)

    look(Explaining(), USERS[name], records)  # type: ignore[arg-type]
    walks = [plan for plan in plans if plan.startswith(("SCAN", "SEARCH"))]
    assert len(walks) >= 3
    assert not [plan for plan in walks if "SCAN" in plan or "id=?" not in plan]


def test_insert_is_idempotent(tx: Tx) -> None:
    """The finisher may come twice: what is there stays as it is, what is missing is added."""
    ann = USERS["ann"]
    tx.run("SAVEPOINT test")
    call = add_call(tx, ann)
    first, second = stored(new_id("img"), 0), stored(new_id("img"), 1)
    assert add_images(tx, ann, [first], call, siblings=2) == 1
    assert images.delete(tx, first.id, 77)
    assert not images.delete(tx, first.id, 78)
    assert add_images(tx, ann, [first, second, stored(new_id("img"), 1)], call, siblings=2) == 1
    found = images.of_request(tx, call.id)
    assert [(image.id, image.deleted_us, image.link_epoch) for image in found] == [
        (first.id, 77, 1),
        (second.id, None, 0),
    ]
    tx.run("ROLLBACK TO test")
    tx.run("RELEASE test")


def test_image_knows_its_request_and_owner(tx: Tx) -> None:
    """One look joins all that a page about the image shows."""
    bob = USERS["bob"]
    tx.run("SAVEPOINT test")
    call = add_call(tx, bob, prompt=None)
    one = stored(new_id("img"), 1)
    add_images(tx, bob, [one], call, siblings=3, visibility="private", folder="images/2026/11/21/x")
    assert images.set_visibility(tx, one.id, "public", raises_epoch=False)
    assert images.raise_link_epoch(tx, one.id)
    images.delete(tx, one.id, 77)
    assert images.restore(tx, one.id)
    assert images.get(tx, one.id) == ImageRecord(
        id=one.id,
        request_id=call.id,
        position=1,
        owner_id=bob.id,
        owner_name="bob",
        ref="images/2026/11/21/x/1.png",
        mime="image/png",
        size_bytes=123,
        width=8,
        height=None,
        sha256="ab" * 32,
        revised_prompt="a red fox",
        visibility="public",
        link_epoch=2,
        created_us=5,
        deleted_us=None,
        kind="generation",
        model="gpt-image-2",
        prompt=None,
        params={"size": "8x8"},
        cost_micros=None,
        siblings=3,
    )
    assert images.get(tx, "img_none") is None
    tx.run("ROLLBACK TO test")
    tx.run("RELEASE test")


@pytest.mark.parametrize("seed", range(12))
def test_filters_offer_what_a_viewer_finds_and_nothing_else(
    tx: Tx, everything: list[ImageRecord], seed: int
) -> None:
    """A name or a model of which the viewer may see no image does not show."""
    left = random.Random(seed).sample([image for image in everything if image.deleted_us is None], seed)
    tx.run("SAVEPOINT few")
    tx.run("UPDATE images SET deleted_us = 7")
    for image in left:
        tx.run("UPDATE images SET deleted_us = NULL WHERE id = :id", id=image.id)
    for viewer in USERS.values():
        seen = [image for image in left if may_see(viewer, replace(image, deleted_us=None))]
        assert browsing.owners(tx, viewer) == sorted({image.owner_name for image in seen})
        assert browsing.models(tx, viewer) == sorted({image.model for image in seen})
    tx.run("ROLLBACK TO few")
    tx.run("RELEASE few")
