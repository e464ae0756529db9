"""The queries for favourites: images that a user likes, which nobody else is told of."""

from __future__ import annotations

from collections.abc import Collection

from pixie_proxy.index import Tx
from pixie_proxy.index.lists import named
from pixie_proxy.index.shelves import Shelf


def add(tx: Tx, user_id: str, image_id: str) -> None:
    """Note that a user likes an image; once more changes nothing."""
    tx.run(
        "INSERT INTO favorites (user_id, image_id) VALUES (:user_id, :image_id) ON CONFLICT DO NOTHING",
        user_id=user_id,
        image_id=image_id,
    )


def remove(tx: Tx, user_id: str, image_id: str) -> None:
    """Forget that a user likes an image."""
    tx.run(
        "DELETE FROM favorites WHERE user_id = :user_id AND image_id = :image_id",
        user_id=user_id,
        image_id=image_id,
    )


def among(tx: Tx, user_id: str, image_ids: Collection[str]) -> set[str]:
    """Give those of some images that a user likes."""
    if not image_ids:
        return set()
    those, values = named("image", image_ids)
    rows = tx.all(
        "SELECT image_id FROM favorites WHERE user_id = :user_id AND image_id IN " + those,
        user_id=user_id,
        **values,
    )
    return {row["image_id"] for row in rows}


def shelf(user_id: str) -> Shelf:
    """Name the images that a user likes."""
    return Shelf(
        source="favorites f",
        condition="f.user_id = :liked_by",
        values={"liked_by": user_id},
        image_id="f.image_id",
    )
