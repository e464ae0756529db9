"""The queries for stored images: keep, find, change and remove them. Whole lists of them are in `browsing`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pixie_proxy.index import Row, Tx
from pixie_proxy.index.lists import named
from pixie_proxy.records import ImageRecord, Kind, StoredImage, Visibility

SELECT = (
    "SELECT i.id, i.request_id, i.position, i.owner_id, u.name AS owner_name, i.ref, i.mime, i.size_bytes,"
    " i.width, i.height, i.sha256, i.revised_prompt, i.visibility, i.link_epoch, i.created_us, i.deleted_us,"
    " i.expires_us, i.kind, i.model, r.prompt, r.params, r.cost_micros, i.siblings, i.damage, i.tags,"
    " i.placeholder, i.is_animated"
    " FROM images i JOIN users u ON u.id = i.owner_id JOIN requests r ON r.id = i.request_id"
)
"""What `image_of` reads, of images `i`."""


def insert(
    tx: Tx,
    images: Sequence[StoredImage],
    *,
    request_id: str,
    owner_id: str,
    folder: str,
    kind: Kind,
    model: str,
    visibility: Visibility,
    created_us: int,
    expires_us: int | None = None,
    siblings: int | None = None,
) -> int:
    """Add the images of a call, which lie in `folder` of the storage; those that are there already stay as they are.

    `siblings` is how many images the call made, if these are not all of them. Returns how many are new.
    """
    new = [
        image
        for image in images
        if tx.run(
            "INSERT INTO images (id, request_id, position, owner_id, ref, mime, size_bytes, width, height, sha256,"
            " revised_prompt, visibility, created_us, expires_us, kind, model, siblings)"
            " VALUES (:id, :request_id, :position, :owner_id, :ref, :mime, :size_bytes, :width, :height, :sha256,"
            " :revised_prompt, :visibility, :created_us, :expires_us, :kind, :model, :siblings)"
            " ON CONFLICT DO NOTHING",
            id=image.id,
            request_id=request_id,
            position=image.position,
            owner_id=owner_id,
            ref=f"{folder}/{image.file}",
            mime=image.mime,
            size_bytes=image.size_bytes,
            width=image.width,
            height=image.height,
            sha256=image.sha256,
            revised_prompt=image.revised_prompt,
            visibility=visibility,
            created_us=created_us,
            expires_us=expires_us,
            kind=kind,
            model=model,
            siblings=siblings or len(images),
        )
        > 0
    ]
    for image in new:
        tx.search.add(tx, image.id)
    return len(new)


def get(tx: Tx, image_id: str) -> ImageRecord | None:
    """Find an image by id, a deleted one too; who may see it is for the caller to judge."""
    row = tx.one(SELECT + " WHERE i.id = :id AND u.deleted_us IS NULL", id=image_id)
    return None if row is None else image_of(row)


def known(tx: Tx, image_ids: Iterable[str]) -> set[str]:
    """Give those of some ids (not none) that there are images of, those in the trash too."""
    names, values = named("id", image_ids)
    return {row["id"] for row in tx.all("SELECT id FROM images WHERE id IN " + names, **values)}


def lock(tx: Tx, image_id: str) -> None:
    """Keep every other change off an image until this transaction ends."""
    tx.run("UPDATE images SET link_epoch = link_epoch WHERE id = :id", id=image_id)


def of_request(tx: Tx, request_id: str) -> list[ImageRecord]:
    """Give the images of a call in their order, deleted ones too."""
    rows = tx.all(SELECT + " WHERE i.request_id = :id ORDER BY i.position", id=request_id)
    return [image_of(row) for row in rows]


def set_visibility(tx: Tx, image_id: str, visibility: Visibility, *, raises_epoch: bool) -> bool:
    """Change who may see an image; raising the link epoch makes the links of before worthless."""
    return (
        tx.run(
            "UPDATE images SET visibility = :visibility, link_epoch = link_epoch + :step WHERE id = :id",
            visibility=visibility,
            step=int(raises_epoch),
            id=image_id,
        )
        > 0
    )


def set_state(
    tx: Tx,
    image_id: str,
    *,
    visibility: Visibility,
    deleted_us: int | None,
    expires_us: int | None,
    link_epoch: int,
) -> None:
    """Give a row that was just rebuilt what had changed about its image before."""
    tx.run(
        "UPDATE images SET visibility = :visibility, deleted_us = :deleted_us, expires_us = :expires_us,"
        " link_epoch = :link_epoch WHERE id = :id",
        visibility=visibility,
        deleted_us=deleted_us,
        expires_us=expires_us,
        link_epoch=link_epoch,
        id=image_id,
    )


def raise_link_epoch(tx: Tx, image_id: str) -> bool:
    """Make every link to an image worthless."""
    return tx.run("UPDATE images SET link_epoch = link_epoch + 1 WHERE id = :id", id=image_id) > 0


def delete(tx: Tx, image_id: str, at_us: int) -> bool:
    """Put an image into the trash, its links made worthless; False if it is not there, or there already."""
    return (
        tx.run(
            "UPDATE images SET deleted_us = :at, link_epoch = link_epoch + 1"
            " WHERE id = :id AND deleted_us IS NULL",
            at=at_us,
            id=image_id,
        )
        > 0
    )


def restore(tx: Tx, image_id: str, expires_us: int | None = None) -> bool:
    """Take an image out of the trash; retention, where it is on, lets it be until `expires_us`."""
    return (
        tx.run(
            "UPDATE images SET deleted_us = NULL, expires_us = :expires_us"
            " WHERE id = :id AND deleted_us IS NOT NULL",
            expires_us=expires_us,
            id=image_id,
        )
        > 0
    )


def count(tx: Tx) -> int:
    """Count all images, those in the trash too."""
    row = tx.one("SELECT count(*) AS images FROM images")
    return 0 if row is None else row["images"]


def remove(tx: Tx, image_id: str, request_id: str) -> None:
    """Remove an image for good, and with it the answer that brought it."""
    tx.run("DELETE FROM images WHERE id = :id", id=image_id)
    forget_answer(tx, request_id)


def forget_answer(tx: Tx, request_id: str) -> None:
    """Let an answer not be given again: images of it are gone."""
    tx.run("UPDATE requests SET skeleton = NULL WHERE id = :id", id=request_id)


def image_of(row: Row) -> ImageRecord:
    """Read a row of `SELECT`."""
    return ImageRecord(
        id=row["id"],
        request_id=row["request_id"],
        position=row["position"],
        owner_id=row["owner_id"],
        owner_name=row["owner_name"],
        ref=row["ref"],
        mime=row["mime"],
        size_bytes=row["size_bytes"],
        width=row["width"],
        height=row["height"],
        sha256=row["sha256"],
        revised_prompt=row["revised_prompt"],
        visibility=row["visibility"],
        link_epoch=row["link_epoch"],
        created_us=row["created_us"],
        deleted_us=row["deleted_us"],
        expires_us=row["expires_us"],
        kind=row["kind"],
        model=row["model"],
        prompt=row["prompt"],
        params=json.loads(row["params"]),
        cost_micros=row["cost_micros"],
        siblings=row["siblings"],
        damage=row["damage"],
        tags=tuple(json.loads(row["tags"])),
        placeholder=row["placeholder"],
        is_animated=None if row["is_animated"] is None else bool(row["is_animated"]),
    )
