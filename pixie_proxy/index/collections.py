"""The queries for collections: named sets of images. Who may see or change one is for the caller to judge."""

from __future__ import annotations

from pixie_proxy.index import Row, Tx
from pixie_proxy.index.shelves import Shelf
from pixie_proxy.index.walking import Walk, asked
from pixie_proxy.records import Collection, Page, User

_HOLDS = "c.id IN (SELECT s.collection_id FROM collection_images s WHERE s.image_id = :image_id)"
_SELECT = (
    "SELECT c.id, c.owner_id, u.name AS owner_name, c.name, c.visibility, c.created_us"
    " FROM collections c JOIN users u ON u.id = c.owner_id"
)


def insert(tx: Tx, collection: Collection) -> None:
    """Add an empty collection."""
    tx.run(
        "INSERT INTO collections (id, owner_id, name, visibility, created_us)"
        " VALUES (:id, :owner_id, :name, :visibility, :created_us)",
        id=collection.id,
        owner_id=collection.owner_id,
        name=collection.name,
        visibility=collection.visibility,
        created_us=collection.created_us,
    )


def get(tx: Tx, collection_id: str) -> Collection | None:
    """Find a collection by id."""
    row = tx.one(_SELECT + " WHERE c.id = :id", id=collection_id)
    return None if row is None else _collection(row)


def lock(tx: Tx, collection_id: str) -> None:
    """Keep others from filling a collection until this transaction ends."""
    tx.run("UPDATE collections SET name = name WHERE id = :id", id=collection_id)


def count(tx: Tx, owner_id: str) -> int:
    """Count somebody's collections."""
    row = tx.one("SELECT count(*) AS n FROM collections WHERE owner_id = :owner_id", owner_id=owner_id)
    return 0 if row is None else int(row["n"])


def page(
    tx: Tx, viewer: User, walk: Walk, *, owner_id: str | None = None, image_id: str | None = None
) -> Page[Collection]:
    """List one's own collections and those shared with the team; for admins every one.

    With `image_id` only those that hold this image; whether that one may be seen is for the caller to judge.
    """
    conditions = asked({"c.owner_id = :owner_id": owner_id, _HOLDS: image_id})
    if not viewer.is_admin:
        conditions.append("(c.owner_id = :viewer OR c.visibility = 'team')")
    rows = tx.all(
        _SELECT + walk.along("c.id", conditions),
        viewer=viewer.id,
        owner_id=owner_id,
        image_id=image_id,
        **walk.values("col"),
    )
    return walk.page([_collection(row) for row in rows])


def update(tx: Tx, collection: Collection) -> None:
    """Give a collection another name, or show it to others."""
    tx.run(
        "UPDATE collections SET name = :name, visibility = :visibility WHERE id = :id",
        id=collection.id,
        name=collection.name,
        visibility=collection.visibility,
    )


def delete(tx: Tx, collection_id: str) -> None:
    """Delete a collection; its images stay."""
    tx.run("DELETE FROM collections WHERE id = :id", id=collection_id)


def put(tx: Tx, collection_id: str, image_id: str) -> int:
    """Put an image into a collection; 0 if it was there already."""
    return tx.run(
        "INSERT INTO collection_images (collection_id, image_id) VALUES (:id, :image_id) ON CONFLICT DO NOTHING",
        id=collection_id,
        image_id=image_id,
    )


def take(tx: Tx, collection_id: str, image_id: str) -> None:
    """Take an image out of a collection."""
    tx.run(
        "DELETE FROM collection_images WHERE collection_id = :id AND image_id = :image_id",
        id=collection_id,
        image_id=image_id,
    )


def size(tx: Tx, collection_id: str) -> int:
    """Count the images of a collection, those too that nobody but their owners sees."""
    row = tx.one("SELECT count(*) AS n FROM collection_images WHERE collection_id = :id", id=collection_id)
    return 0 if row is None else int(row["n"])


def shelf(collection_id: str) -> Shelf:
    """Name the images of a collection."""
    return Shelf(
        source="collection_images s",
        condition="s.collection_id = :collection_id",
        values={"collection_id": collection_id},
        image_id="s.image_id",
    )


def _collection(row: Row) -> Collection:
    return Collection(
        id=row["id"],
        owner_id=row["owner_id"],
        owner_name=row["owner_name"],
        name=row["name"],
        visibility=row["visibility"],
        created_us=row["created_us"],
    )
