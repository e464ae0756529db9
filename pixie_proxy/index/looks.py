"""The query for what the thumbnail worker found when it looked at an image."""

from __future__ import annotations

from pixie_proxy.index import Tx


def note(tx: Tx, image_id: str, placeholder: bytes | None, *, is_animated: bool) -> bool:
    """Note what stands in an image's place while it loads; None: it can't be decoded. False if it is gone."""
    return (
        tx.run(
            "UPDATE images SET placeholder = :placeholder, is_animated = :is_animated WHERE id = :id",
            placeholder=placeholder,
            is_animated=int(is_animated),
            id=image_id,
        )
        > 0
    )
