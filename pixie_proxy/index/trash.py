"""The queries of retention: which images are old enough for the trash, and which have lain in it for long enough."""

from __future__ import annotations

from typing import NamedTuple

from pixie_proxy.index import Tx, images
from pixie_proxy.records import id_floor

_OVERDUE = " WHERE deleted_us IS NOT NULL AND deleted_us < :before"


class Age(NamedTuple):
    """What is too old: made before the one moment, and not given more time (`expires_us`) than until the other, now."""

    made_before_us: int
    now_us: int


class DueImages(NamedTuple):
    """Images of one owner that are due for the trash, and the bytes that they take."""

    owner: str
    images: int
    size_bytes: int


class PurgedImage(NamedTuple):
    """An image whose row is gone; its file is still in its request's folder."""

    id: str
    request_id: str
    file: str


def count_due(tx: Tx, age: Age) -> int:
    """Count what is too old and not in the trash. A million are counted along an index, without reading their rows."""
    row = tx.one(
        "SELECT (SELECT count(*) FROM images WHERE deleted_us IS NULL AND id < :before"
        " AND visibility IN ('private', 'team', 'public'))"
        " - (SELECT count(*) FROM images WHERE deleted_us IS NULL AND id < :before AND expires_us >= :now)"
        " AS images",
        **_bounds(age),
    )
    return 0 if row is None else int(row["images"])


def first_due(tx: Tx, age: Age) -> str | None:
    """Give the id of the oldest image that is too old."""
    row = tx.one("SELECT min(id) AS id FROM images" + _due(), **_bounds(age))
    return None if row is None else row["id"]


def due_by_owner(tx: Tx, age: Age, since_us: int, until_us: int) -> list[DueImages]:
    """Add up what is too old and was made in a span of time, owner by owner."""
    rows = tx.all(
        "SELECT u.name, count(*) AS images, sum(i.size_bytes) AS size_bytes"
        " FROM images i JOIN users u ON u.id = i.owner_id"
        + _due("i.")
        + " AND i.id >= :since AND i.id < :until GROUP BY u.name ORDER BY u.name",
        since=id_floor("img", since_us),
        until=id_floor("img", until_us),
        **_bounds(age),
    )
    return [DueImages(row["name"], row["images"], row["size_bytes"]) for row in rows]


def fill(tx: Tx, age: Age, most: int) -> list[str]:
    """Put some of what is too old into the trash, oldest first, links made worthless; give the request of each."""
    rows = tx.all(
        "SELECT id, request_id FROM images" + _due() + " ORDER BY id LIMIT :most", most=most, **_bounds(age)
    )
    return [
        row["request_id"]
        for row in rows
        # Once more, for another process may fill it too, and an owner may have restored one.
        if tx.run(
            "UPDATE images SET deleted_us = :now, link_epoch = link_epoch + 1" + _due() + " AND id = :id",
            id=row["id"],
            **_bounds(age),
        )
    ]


def count_overdue(tx: Tx, before_us: int) -> int:
    """Count the images that were put into the trash before a time."""
    row = tx.one("SELECT count(*) AS images FROM images" + _OVERDUE, before=before_us)
    return 0 if row is None else row["images"]


def purge(tx: Tx, before_us: int, most: int) -> list[PurgedImage]:
    """Remove some images that were put into the trash before a time, oldest first; their files are the caller's.

    The answers that brought them can't be given again, and what they said of the images is gone with them.
    """
    rows = tx.all(
        "SELECT id, request_id, ref FROM images" + _OVERDUE + " ORDER BY id LIMIT :most",
        before=before_us,
        most=most,
    )
    gone = [
        row
        for row in rows
        if tx.run("DELETE FROM images" + _OVERDUE + " AND id = :id", id=row["id"], before=before_us)
    ]
    for row in gone:
        images.forget_answer(tx, row["request_id"])
    return [PurgedImage(row["id"], row["request_id"], row["ref"].rsplit("/", 1)[-1]) for row in gone]


def _due(of: str = "") -> str:
    """Write the condition for what is too old. The age is the id's: no change of a row makes it younger or older."""
    return (
        f" WHERE {of}deleted_us IS NULL AND {of}id < :before"
        f" AND ({of}expires_us IS NULL OR {of}expires_us < :now)"
    )


def _bounds(age: Age) -> dict[str, str | int]:
    return {"before": id_floor("img", age.made_before_us), "now": age.now_us}
