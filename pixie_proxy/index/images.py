"""The queries for stored images: keep, find, and list them page by page under the visibility rule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pixie_proxy.index import Row, Tx, search
from pixie_proxy.index.rights import Right, rights
from pixie_proxy.index.walking import Walk
from pixie_proxy.index.words import Phrase, phrases
from pixie_proxy.records import ImageRecord, Kind, Page, StoredImage, User, Visibility

_SELECT = (
    "SELECT i.id, i.request_id, i.position, i.owner_id, u.name AS owner_name, i.ref, i.mime, i.size_bytes,"
    " i.width, i.height, i.sha256, i.revised_prompt, i.visibility, i.link_epoch, i.created_us, i.deleted_us,"
    " i.expires_us, i.kind, i.model, r.prompt, r.params, r.cost_micros, i.siblings, i.damage"
    " FROM images i JOIN users u ON u.id = i.owner_id JOIN requests r ON r.id = i.request_id"
)


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
    if new:
        call = tx.one("SELECT prompt FROM requests WHERE id = :id", id=request_id)
        prompt = None if call is None else call["prompt"]
        about: Any = {"owner_id": owner_id, "visibility": visibility, "model": model, "kind": kind}
        for image in new:
            search.add(tx, image.id, (prompt, image.revised_prompt), **about)
    return len(new)


def get(tx: Tx, image_id: str) -> ImageRecord | None:
    """Find an image by id, a deleted one too; who may see it is for the caller to judge."""
    row = tx.one(_SELECT + " WHERE i.id = :id", id=image_id)
    return None if row is None else _image(row)


def of_request(tx: Tx, request_id: str) -> list[ImageRecord]:
    """Give the images of a call in their order, deleted ones too."""
    rows = tx.all(_SELECT + " WHERE i.request_id = :id ORDER BY i.position", id=request_id)
    return [_image(row) for row in rows]


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
    tx.run("UPDATE requests SET skeleton = NULL WHERE id = :id", id=request_id)


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
) -> Page[ImageRecord]:
    """List what `viewer` may see: their own images and those shared with the team, admins every one.

    `question`: only those whose texts have what it asks for (`words.phrases`); none, where that is no word.
    `deleted` lists the trash instead: one's own, for admins everybody's.
    """
    filters = [
        fragment
        for fragment, value in (
            ("i.owner_id = :owner_id", owner_id),
            ("i.model = :model", model),
            ("i.kind = :kind", kind),
            ("i.visibility = :visibility", visibility),
        )
        if value is not None
    ]
    filters += [*walk.filters("i.id"), "i.deleted_us IS NOT NULL" if deleted else "i.deleted_us IS NULL"]
    values = {
        "viewer": viewer.id,
        "owner_id": owner_id,
        "model": model,
        "kind": kind,
        "visibility": visibility,
        **walk.values("img"),
    }
    asked = None if question is None else phrases(question)
    found = [
        image_id
        for right in rights(viewer, owner_id, visibility, deleted=deleted)
        for image_id in _ids(tx, asked, right, walk, [*filters, *right.conditions], values)
    ]
    nearest = sorted(found, reverse=walk.direction == " DESC")[: values["rows"]]
    ids = {f"id{number}": image_id for number, image_id in enumerate(nearest)}
    rows = tx.all(
        _SELECT
        + " WHERE i.id IN ("
        + ", ".join([f":{name}" for name in ids])
        + ") ORDER BY i.id"
        + walk.direction,
        **ids,
    )
    return walk.page([_image(row) for row in rows])


def _ids(
    tx: Tx,
    asked: list[Phrase] | None,
    right: Right,
    walk: Walk,
    conditions: list[str],
    values: Mapping[str, Any],
) -> list[str]:
    """Give the ids of the first images of a list, along the walk."""
    if asked is not None:
        return search.find(tx, asked, right, walk, conditions, values) if asked else []
    rows = tx.all(
        "SELECT i.id FROM images i WHERE "
        + " AND ".join(conditions)
        + " ORDER BY i.id"
        + walk.direction
        + " LIMIT :rows",
        **values,
    )
    return [row["id"] for row in rows]


def owners(tx: Tx, viewer: User) -> list[str]:
    """Name everyone with images that `viewer` may see. A look or two into an index a user, however many images."""
    rows = tx.all(
        "SELECT u.name FROM users u WHERE " + _has_seen(viewer, "i.owner_id = u.id") + " ORDER BY u.name",
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
        "EXISTS (SELECT 1 FROM images i WHERE i.deleted_us IS NULL AND "
        + " AND ".join([what, *right.conditions])
        + ")"
        for right in rights(viewer)
    ]
    return "(" + " OR ".join(looks) + ")"


def _image(row: Row) -> ImageRecord:
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
    )
