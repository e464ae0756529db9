"""The queries for browsing: lists of images under the visibility rule, and what they can be narrowed to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pixie_proxy.index import Tx
from pixie_proxy.index.images import SELECT, image_of
from pixie_proxy.index.lists import named
from pixie_proxy.index.rights import Right, rights, seen_by
from pixie_proxy.index.shelves import Shelf, shortest_first, source_of, values_of
from pixie_proxy.index.walking import Walk, asked
from pixie_proxy.index.words import phrases
from pixie_proxy.records import ImageRecord, Kind, Page, User, Visibility

_NOT_DELETED = "i.deleted_us IS NULL"
_NOT_ERASED = "i.owner_id NOT IN (SELECT d.id FROM users d WHERE d.deleted_us IS NOT NULL)"
"""Not of a user who was deleted and whose images go page by page."""


def page(
    tx: Tx,
    viewer: User,
    walk: Walk,
    *,
    question: str | None = None,
    owner_id: str | None = None,
    model: str | None = None,
    kind: Kind | None = None,
    visibility: Visibility | None = None,
    deleted: bool = False,
    shelves: Sequence[Shelf] = (),
) -> Page[ImageRecord]:
    """List what `viewer` may see: their own images and those shared with the team, admins every one.

    `question`: only those whose texts have what it asks for (`words.phrases`); none, where that is no word.
    `deleted` lists the trash instead: one's own, for admins everybody's. Of `shelves` an image must lie in each.
    """
    conditions = asked(
        {
            "i.owner_id = :owner_id": owner_id,
            "i.model = :model": model,
            "i.kind = :kind": kind,
            "i.visibility = :visibility": visibility,
        }
    )
    conditions += ["i.deleted_us IS NOT NULL" if deleted else _NOT_DELETED, _NOT_ERASED]
    values = {
        "viewer": viewer.id,
        "owner_id": owner_id,
        "model": model,
        "kind": kind,
        "visibility": visibility,
        **walk.values("img"),
    }
    allowed, words = rights(viewer, owner_id, visibility, deleted=deleted), phrases(question or "")
    if not allowed or (question is not None and not words):
        return Page(items=[], has_more=False)
    # A kind may be rare, and the search has it as a word of each image.
    searches = bool(words) or kind is not None
    if shelves and (searches or len(shelves) > 1):
        shelves, is_short = shortest_first(tx, shelves)
        if searches and is_short:
            shelves, searches = [*shelves, *([tx.search.shelf(words)] if words else [])], False
    values |= values_of(shelves)
    if searches:
        found = [
            image_id
            for right in allowed
            for image_id in tx.search.find(tx, words, right, walk, conditions, shelves, values)
        ]
        return _among(tx, walk, *named("found", found)) if found else Page(items=[], has_more=False)
    # A shelf is walked along once, past what may not be seen; for all images there is an index for each right.
    seen = [(seen_by(viewer),)] if shelves and not deleted else [right.conditions for right in allowed]
    source, within, key = source_of(shelves)
    walks = [f"SELECT i.id FROM {source}" + walk.along(key, [*within, *conditions, *right]) for right in seen]
    those = " UNION ALL ".join([f"SELECT w{n}.id FROM ({one}) w{n}" for n, one in enumerate(walks)])
    return _among(tx, walk, f"({those})", values)


def _among(tx: Tx, walk: Walk, those: str, values: Mapping[str, Any]) -> Page[ImageRecord]:
    """Give the first of those images along the walk."""
    rows = tx.all(
        SELECT + f" WHERE i.id IN {those} ORDER BY i.id{walk.direction} LIMIT :rows",
        **{**values, "rows": walk.limit + 1},
    )
    return walk.page([image_of(row) for row in rows])


def public_page(tx: Tx, walk: Walk) -> Page[ImageRecord]:
    """List what anyone may see."""
    conditions = [*Right("public").conditions, _NOT_DELETED]
    rows = tx.all(SELECT + walk.along("i.id", conditions), **walk.values("img"))
    return walk.page([image_of(row) for row in rows])


def visible(tx: Tx, viewer: User, image_ids: Sequence[str]) -> list[ImageRecord]:
    """Give those of some images that `viewer` may see and that are in no trash, oldest first."""
    if not image_ids:
        return []
    those, values = named("image", image_ids)
    rows = tx.all(
        SELECT + f" WHERE i.id IN {those} AND {_NOT_DELETED} AND " + seen_by(viewer) + " ORDER BY i.id",
        viewer=viewer.id,
        **values,
    )
    return [image_of(row) for row in rows]


def owners(tx: Tx, viewer: User) -> list[str]:
    """Name everyone with images that `viewer` may see. A look or two into an index a user, however many images."""
    rows = tx.all(
        "SELECT u.name FROM users u WHERE u.deleted_us IS NULL AND "
        + _has_seen(viewer, "i.owner_id = u.id")
        + " ORDER BY u.name",
        viewer=viewer.id,
    )
    return [row["name"] for row in rows]


def models(tx: Tx, viewer: User) -> list[str]:
    """Name the models of the images that `viewer` may see: from one model to the next along the index."""
    rows = tx.all(
        "WITH RECURSIVE each_model (model) AS ("
        "SELECT min(i.model) FROM images i WHERE i.deleted_us IS NULL"
        " UNION ALL SELECT (SELECT min(i.model) FROM images i WHERE i.deleted_us IS NULL AND i.model > m.model)"
        " FROM each_model m WHERE m.model IS NOT NULL)"
        " SELECT m.model FROM each_model m WHERE m.model IS NOT NULL AND "
        + _has_seen(viewer, "i.model = m.model")
        + " ORDER BY m.model",
        viewer=viewer.id,
    )
    return [row["model"] for row in rows]


def _has_seen(viewer: User, what: str) -> str:
    """Write the condition that there is an image of this kind which `viewer` may see."""
    looks = [
        "EXISTS (SELECT 1 FROM images i WHERE " + " AND ".join([_NOT_DELETED, what, *right.conditions]) + ")"
        for right in rights(viewer)
    ]
    return "(" + " OR ".join(looks) + ")"
