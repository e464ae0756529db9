"""Full-text search, held against a model that reads every text; and what no question may do."""

from __future__ import annotations

import random
import sqlite3
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixie_proxy.index import (
    Tx,
    browsing,
    collections,
    favorites,
    images,
    lineage,
    search,
    shelves,
    tags,
    users,
)
from pixie_proxy.index.batch import SqliteTx
from pixie_proxy.index.migrate import migrate
from pixie_proxy.index.postgres import search as postgres_search
from pixie_proxy.index.shelves import Shelf
from pixie_proxy.index.walking import Walk
from pixie_proxy.index.words import MAX_LETTERS, Phrase, phrases, words
from pixie_proxy.records import KINDS, VISIBILITIES, Collection, ImageRecord, User, new_id
from tests.index.test_images import (
    ASKED,
    FIRST_MS,
    MODELS,
    NAMES,
    USERS,
    VIEWERS,
    WALK,
    add_call,
    add_images,
    expected,
    image_id,
    in_database,
    stored,
)

SAID = [
    "red",
    "Red",
    "fox",
    "foxes",
    "foxglove",
    "snow",
    "señor",
    "SENOR",
    "狐狸",
    "狐",
    "🦊",
    "t-shirt",
    "naïve",
]
ASKED_FOR = [
    *SAID,
    "fo*",
    "fox*",
    "foxg*",
    "f*",
    '"red fox"',
    '"fox snow"',
    "snow-red",
    '"red fo"*',
    "shirt",
    "狐*",
    "or",
    "-",
]
TAG = "den"
COLLECTION = Collection(
    id=new_id("col"),
    owner_id=USERS["bob"].id,
    owner_name="bob",
    name="dens",
    visibility="team",
    created_us=0,
)
PARENT = new_id("img")
ON_SHELVES = st.sets(st.sampled_from(["parent", "collection", "favorite", TAG]), max_size=2).map(sorted)
QUESTIONS = st.one_of(
    st.lists(st.sampled_from(ASKED_FOR), min_size=1, max_size=3).map(" ".join),
    st.text(max_size=20),
    st.text(alphabet="fox* \"-:^(){}+ANDORT.\\\x00'%_NEAR狐é", max_size=30),
)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def tx(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tx]:
    """A hundred images of three users, in lists of all kinds, three in a millisecond, changed, some purged."""
    with in_database(request, tmp_path_factory.mktemp("index")) as tx:
        fill(tx)
        yield tx


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tx]:
    """Three users, and no image."""
    with in_database(request, tmp_path) as tx:
        add_users(tx)
        yield tx


def add_users(tx: Tx) -> None:
    for user in USERS.values():
        users.add_user(
            tx, users.StoredUser(id=user.id, name=user.name, role=user.role, created_us=0, limits={})
        )


def fill(tx: Tx) -> None:
    chance = random.Random(5)
    add_users(tx)
    collections.insert(tx, COLLECTION)
    for n in chance.sample(range(120), 120):  # in no order: a rebuilt index has them as storage gives them
        owner = USERS[chance.choice(NAMES)]
        texts = [" ".join(chance.choices(SAID, k=chance.randint(0, 4))) or None for _ in range(2)]
        call = add_call(tx, owner, kind=chance.choice(KINDS), model=chance.choice(MODELS), prompt=texts[0])
        image = replace(stored(image_id(FIRST_MS + n // 3, n % 3), 0), revised_prompt=texts[1])
        add_images(tx, owner, [image], call, visibility=chance.choice(VISIBILITIES))
        if chance.random() < 0.3:
            images.delete(tx, image.id, 9)
        if chance.random() < 0.3:
            images.set_visibility(tx, image.id, chance.choice(VISIBILITIES), raises_epoch=False)
        if chance.random() < 0.2:
            images.restore(tx, image.id)
        if chance.random() < 0.1:
            images.remove(tx, image.id, call.id)
            continue
        tags.put(tx, image.id, [TAG] if chance.random() < 0.5 else ["sea"])
        for user in USERS.values():
            if chance.random() < 0.4:
                favorites.add(tx, user.id, image.id)
        if chance.random() < 0.3:
            collections.put(tx, COLLECTION.id, image.id)
        if chance.random() < 0.2:
            lineage.record(tx, call.id, [PARENT])


@pytest.fixture(scope="module")
def everything(tx: Tx) -> list[ImageRecord]:
    return [
        image for row in tx.all("SELECT id FROM images ORDER BY id") if (image := images.get(tx, row["id"]))
    ]


NOTHING: dict[str, Any] = {
    **dict.fromkeys(("owner_id", "model", "kind", "visibility", "since_us", "until_us")),
    "deleted": False,
}
"""Asks for no filter."""


def has(image: ImageRecord, question: str) -> bool:
    """Read the question by hand: every phrase is somewhere in one of the texts."""
    asked = phrases(question)
    texts = [words(text) for text in (image.prompt, image.revised_prompt) if text]
    return bool(asked) and all(any(_stands_in(text, phrase) for text in texts) for phrase in asked)


def _stands_in(text: list[str], phrase: Phrase) -> bool:
    *first, last = phrase.words
    return any(
        text[at : at + len(first)] == first
        and (text[at + len(first)].startswith(last) if phrase.is_prefix else text[at + len(first)] == last)
        for at in range(len(text) - len(first))
    )


def shelf(name: str, viewer: User) -> Shelf:
    if name == "parent":
        return lineage.children(PARENT)
    if name == "collection":
        return collections.shelf(COLLECTION.id)
    return favorites.shelf(viewer.id) if name == "favorite" else tags.shelf(TAG)


def lying_on(tx: Tx, name: str, viewer: User) -> set[str]:
    """Give the ids of what lies on a shelf, straight from its table."""
    tables = {
        "parent": (
            "SELECT c.id FROM parents p JOIN images c USING (request_id) WHERE p.parent_id = :of",
            PARENT,
        ),
        "collection": ("SELECT image_id FROM collection_images WHERE collection_id = :of", COLLECTION.id),
        TAG: ("SELECT image_id FROM image_tags WHERE tag = :of", TAG),
        "favorite": ("SELECT image_id FROM favorites WHERE user_id = :of", viewer.id),
    }
    query, of = tables[name]
    return {image_id for row in tx.all(query, of=of) for image_id in dict(row).values()}


def found(tx: Tx, name: str, question: str | None, **asked: Any) -> list[str]:
    walk = Walk(**{key: asked.pop(key) for key in WALK if key in asked})
    return [image.id for image in browsing.page(tx, USERS[name], walk, question=question, **asked).items]


@settings(max_examples=400, deadline=None)
@example(viewer=USERS["bob"], asked={"order": "desc"}, question="fox", on=["den"], few=1, limit=1)
@example(
    viewer=USERS["bob"], asked={"order": "asc"}, question="fox f*", on=["den", "favorite"], few=2000, limit=2
)
@given(
    viewer=VIEWERS,
    asked=ASKED,
    question=st.none() | QUESTIONS,
    on=ON_SHELVES,
    few=st.sampled_from([1, 9, 2000]),
    limit=st.integers(1, 30),
)
def test_walking_through_a_search_gives_all_that_has_the_words(
    tx: Tx,
    everything: list[ImageRecord],
    viewer: User,
    asked: dict[str, Any],
    question: str | None,
    on: list[str],
    few: int,
    limit: int,
) -> None:
    """Whatever the question, filters, shelves and viewer: page after page, both ways, in the order of the list."""
    asked = {**NOTHING, **asked}
    shelved = [lying_on(tx, name, viewer) for name in on]
    wanted = [
        image.id
        for image in expected(everything, viewer, asked)
        if (question is None or has(image, question)) and all(image.id in each for each in shelved)
    ]

    def give(**cursors: str | None) -> list[str]:
        among = [shelf(name, viewer) for name in on]
        return found(tx, viewer.name, question, **asked, limit=limit, shelves=among, **cursors)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shelves, "_MANY", few)
        patched.setattr(postgres_search, "_MANY", few)
        walked: list[str] = []
        while page := give(after=walked[-1] if walked else None):
            walked += page
        assert walked == wanted
        if wanted:
            at = len(wanted) // 2
            assert give(before=wanted[at]) == wanted[:at][-limit:]
            assert give(after=wanted[0], before=wanted[at]) == wanted[1:at][:limit]


def test_frequent_beginnings_fill_a_page_as_rare_ones_do(
    tx: Tx, everything: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at the nearest images first changes nothing about what is found."""
    for nearest in (1, 5, 300):
        monkeypatch.setattr(search, "_NEAREST", nearest)
        for name in NAMES:
            for order in ("asc", "desc"):
                asked = {**NOTHING, "order": order}
                wanted = [
                    each.id for each in expected(everything, USERS[name], asked) if has(each, "foxg* red")
                ]
                assert found(tx, name, "foxg* red", order=order, limit=4) == wanted[:4]


@pytest.mark.parametrize(
    ("text", "expected_words"),
    [
        ("A red-Fox's den, №5", ["a", "red", "fox", "s", "den", "no5"]),
        ("Señor NAÏVE straße Ёлка ΆΛΦΑ", ["senor", "naive", "strasse", "елка", "αλφα"]),
        ("红色的狐狸", list("红色的狐狸")),
        ("キツネ x", [unicodedata.normalize("NFKC", each) for each in "キツネ"] + ["x"]),
        ("हिन्दी 한국어", ["हिन्दी", "한국어"]),
        ("a🦊b \ud800 \x00_\ue000", ["a", "🦊", "b"]),
        ("", []),
    ],
)
def test_texts_are_cut_into_words(text: str, expected_words: list[str]) -> None:
    """Case and accents count for nothing; scripts without spaces and symbols are cut character by character."""
    assert words(text) == expected_words


def test_long_words_count_by_their_beginning() -> None:
    """Both in texts and in questions: what is longer than the limit finds what begins alike."""
    assert words("x" * (MAX_LETTERS + 1)) == ["x" * MAX_LETTERS] == words("x" * MAX_LETTERS)


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("red  fox", [Phrase(("red",)), Phrase(("fox",))]),
        ("fox* fox*", [Phrase(("fox",), is_prefix=True)]),
        ('"Red fox"* red-fox', [Phrase(("red", "fox"), is_prefix=True), Phrase(("red", "fox"))]),
        ('"red fox', [Phrase(("red", "fox"))]),
        ("狐狸*", [Phrase(("狐", "狸"))]),
        ("fox OR NOT words:x", [Phrase(("fox",)), Phrase(("or",)), Phrase(("not",)), Phrase(("words", "x"))]),
        ('"" * - \x00', []),
    ],
)
def test_questions_are_read(question: str, asked: list[Phrase]) -> None:
    """There is nothing to get wrong: words, beginnings, and words side by side."""
    assert phrases(question) == asked


def test_images_of_one_moment_keep_their_order(empty: Tx) -> None:
    """Ids whose keys would be the same are found in the order of the ids, however they came, and after some went."""
    tx, bob, chance = empty, USERS["bob"], random.Random(3)
    ids = [image_id(FIRST_MS, tail) for tail in range(20)]
    for identifier in chance.sample(ids, 20):
        add_images(tx, bob, [stored(identifier, 0)], add_call(tx, bob))
    assert found(tx, "bob", "fox") == ids[::-1]
    assert found(tx, "bob", "fox", after=ids[9], limit=5) == ids[4:9][::-1]
    for identifier in ids[::3]:
        tx.run("DELETE FROM images WHERE id = :id", id=identifier)
    left = [each for each in ids if each not in ids[::3]]
    assert found(tx, "bob", "fox", order="asc") == left


def test_words_of_removed_images_leave_the_file() -> None:
    """Neither table nor index has them any more after a scrub."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA secure_delete = ON")
    migrate(connection)
    tx, bob = SqliteTx(connection), USERS["bob"]
    users.add_user(tx, users.StoredUser(id=bob.id, name="bob", role="member", created_us=0, limits={}))
    for number in range(50):
        call = add_call(tx, bob, prompt="xylophone" if number % 2 else "fox")
        add_images(tx, bob, [stored(new_id("img"), 0)], call)
    tx.run("DELETE FROM images WHERE request_id IN (SELECT id FROM requests WHERE prompt = 'xylophone')")
    tx.run("UPDATE requests SET prompt = NULL WHERE prompt = 'xylophone'")
    is_first = True
    while search.scrub(tx, is_first=is_first):
        is_first = False
    assert b"ylophone" not in connection.serialize()
    assert len(found(tx, "bob", "fox")) == 20
    connection.close()


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("question", ["fox", "fo*", '"red fox"', "foxgl*"])
def test_search_walks_along_its_entries(tx: Tx, question: str, order: str) -> None:
    """Nothing is sorted: a word that is in every prompt is read as far as the page needs."""
    if not isinstance(tx, SqliteTx):
        pytest.skip("PostgreSQL has a plan of its own")
    plans: list[str] = []

    class Explaining:
        search = search

        def all(self, sql: str, **params: object) -> list[Any]:
            if " search hit " in sql:
                plans.extend(row["detail"] for row in tx.all("EXPLAIN QUERY PLAN " + sql, **params))
            return tx.all(sql, **params)

        def one(self, sql: str, **params: object) -> Any:
            return next(iter(self.all(sql, **params)), None)

    found(Explaining(), "bob", question, order=order)  # type: ignore[arg-type]
    assert any("SCAN hit VIRTUAL TABLE" in plan for plan in plans)
    assert not [plan for plan in plans if "TEMP B-TREE" in plan]
    assert all("SEARCH" in plan for plan in plans if " said " in plan or " i " in plan)


def test_images_from_before_the_search_are_found(empty: Tx) -> None:
    """The step that brings the search enters what there is."""
    tx = empty
    ids = [new_id("img") for _ in range(30)]
    for number, identifier in enumerate(ids):
        add_images(tx, USERS["bob"], [stored(identifier, 0)], add_call(tx, USERS["bob"]))
        if number % 3 == 0:
            images.delete(tx, identifier, 7)
    before = [dict(row) for row in tx.all("SELECT * FROM searchable ORDER BY image_id")]
    tx.run("DELETE FROM searchable")
    assert found(tx, "bob", "fox") == []
    tx.search.fill(tx)
    assert [dict(row) for row in tx.all("SELECT * FROM searchable ORDER BY image_id")] == before
    assert len(found(tx, "bob", "fox", limit=100)) == 20
    assert len(found(tx, "bob", "fox", limit=100, deleted=True)) == 10
