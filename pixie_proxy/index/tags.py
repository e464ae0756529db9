"""The queries for tags: words that an image's owner gives it, for all who see the image."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pixie_proxy.index import Tx
from pixie_proxy.index.shelves import Shelf


def put(tx: Tx, image_id: str, tags: Sequence[str]) -> None:
    """Give an image these tags in place of those that it has."""
    tx.run("UPDATE images SET tags = :tags WHERE id = :id", tags=json.dumps(tags), id=image_id)
    tx.run("DELETE FROM image_tags WHERE image_id = :id", id=image_id)
    for tag in tags:
        tx.run("INSERT INTO image_tags (tag, image_id) VALUES (:tag, :id)", tag=tag, id=image_id)


def shelf(tag: str) -> Shelf:
    """Name the images that have a tag."""
    return Shelf(
        source="image_tags t",
        condition="t.tag = :tag",
        values={"tag": tag},
        image_id="t.image_id",
    )
