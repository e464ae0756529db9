"""What a user has beside images and calls, for when the user goes: tags go with the images that have them."""

from __future__ import annotations

from pixie_proxy.index import Tx


def drop(tx: Tx, user_id: str, most: int) -> int:
    """Delete some of a user's favourites and of what their collections hold, at last the collections; give how many.

    Nothing is left where that is fewer than `most`.
    """
    liked = tx.run(
        "DELETE FROM favorites WHERE user_id = :user_id AND image_id IN"
        " (SELECT image_id FROM favorites WHERE user_id = :user_id ORDER BY image_id LIMIT :most)",
        user_id=user_id,
        most=most,
    )
    held = 0
    for row in tx.all("SELECT id FROM collections WHERE owner_id = :user_id ORDER BY id", user_id=user_id):
        if liked + held >= most:
            break
        held += tx.run(
            "DELETE FROM collection_images WHERE collection_id = :id AND image_id IN"
            " (SELECT image_id FROM collection_images WHERE collection_id = :id ORDER BY image_id LIMIT :most)",
            id=row["id"],
            most=most - liked - held,
        )
    if liked + held < most:
        tx.run("DELETE FROM collections WHERE owner_id = :user_id", user_id=user_id)
    return liked + held
