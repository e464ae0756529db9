"""The queries for lineage: which images a call was given to edit, and so what became of an image.

An image that its viewer may not see is in no answer of these, and is never noted for a call of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pixie_proxy.index import Tx
from pixie_proxy.index.lists import named
from pixie_proxy.index.rights import seen_by
from pixie_proxy.index.shelves import Shelf
from pixie_proxy.records import ImageRecord, User

_START_CHARACTERS = 16
"""How much of a digest the index over digests holds."""


def find(tx: Tx, viewer: User, digests: Iterable[str]) -> tuple[str, ...]:
    """Find images by the SHA-256 of their bytes, in hex: for each the newest of one's own, else the newest one sees."""
    found = [
        tx.one(
            # `|| ''`: of two plain comparisons SQLite puts one's value into the other, and then knows no index for it.
            "SELECT i.id FROM images i WHERE substr(i.sha256, 1, 16) = :start AND i.sha256 || '' = :sha256"
            " AND i.deleted_us IS NULL AND "
            + seen_by(viewer)
            + " ORDER BY CASE WHEN i.owner_id = :viewer THEN 0 ELSE 1 END, i.id DESC LIMIT 1",
            viewer=viewer.id,
            start=digest[:_START_CHARACTERS],
            sha256=digest,
        )
        for digest in dict.fromkeys(digests)
    ]
    return tuple([row["id"] for row in found if row is not None])


def record(tx: Tx, request_id: str, parents: Sequence[str]) -> None:
    """Note the parents of all images that a call will bring."""
    for position, parent_id in enumerate(parents):
        tx.run(
            "INSERT INTO parents (request_id, parent_id, position) VALUES (:request_id, :parent_id, :position)",
            request_id=request_id,
            parent_id=parent_id,
            position=position,
        )


def recorded(tx: Tx, request_id: str) -> tuple[str, ...]:
    """Give all parents that were noted for a call, those too that are gone by now."""
    rows = tx.all(
        "SELECT parent_id FROM parents WHERE request_id = :request_id ORDER BY position",
        request_id=request_id,
    )
    return tuple([row["parent_id"] for row in rows])


def parents(tx: Tx, viewer: User, records: Iterable[ImageRecord]) -> dict[str, list[str]]:
    """Give by request the parents of some images, as far as `viewer` may see them now."""
    asked = dict.fromkeys([record.request_id for record in records if record.kind != "generation"])
    if not asked:
        return {}
    those, values = named("request", asked)
    rows = tx.all(
        # A CROSS JOIN, lest SQLite walk along all images that `viewer` may see: see `shelves.source_of`.
        "SELECT p.request_id, p.parent_id FROM parents p CROSS JOIN images i"
        " WHERE i.id = p.parent_id AND i.deleted_us IS NULL AND "
        + seen_by(viewer)
        + f" AND p.request_id IN {those} ORDER BY p.request_id, p.position",
        viewer=viewer.id,
        **values,
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["request_id"], []).append(row["parent_id"])
    return found


def children(parent_id: str) -> Shelf:
    """Name the images that were made of one. Whether that one may be seen is for the caller to judge."""
    return Shelf(
        source="parents p CROSS JOIN images c",
        condition="p.parent_id = :parent_id AND c.request_id = p.request_id",
        values={"parent_id": parent_id},
        image_id="c.id",
    )
