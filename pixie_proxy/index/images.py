"""The queries for stored images: keep, find, and list them page by page under the visibility rule."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pixie_proxy.index import Row, Tx
from pixie_proxy.index.lists import named
from pixie_proxy.index.shelves import Shelf, source_of, values_of
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import VISIBILITIES, ImageRecord, Kind, Page, StoredImage, User, Visibility

_SELECT = (
    "SELECT i.id, i.request_id, i.position, i.owner_id, u.name AS owner_name, i.ref, i.mime, i.size_bytes,"
    " i.width, i.height, i.sha256, i.revised_prompt, i.visibility, i.link_epoch, i.created_us, i.deleted_us,"
    " i.expires_us, i.kind, i.model, r.prompt, r.params, r.cost_micros, i.siblings, i.damage, i.tags"
    " FROM images i JOIN users u ON u.id = i.owner_id JOIN requests r ON r.id = i.request_id"
)
_OWN = "i.owner_id = :viewer"
_NOT_ERASED = "i.owner_id NOT IN (SELECT d.id FROM users d WHERE d.deleted_us IS NOT NULL)"
"""Not of a user who was deleted and whose images go page by page."""
_SEEN: dict[Visibility, str] = {
    "private": "i.visibility = 'private'",
    "team": "i.visibility = 'team'",
    "public": "i.visibility = 'public'",
}


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
    return sum(
        tx.run(
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
        for image in images
    )


def get(tx: Tx, image_id: str) -> ImageRecord | None:
    """Find an image by id, a deleted one too; who may see it is for the caller to judge."""
    row = tx.one(_SELECT + " WHERE i.id = :id AND u.deleted_us IS NULL", id=image_id)
    return None if row is None else _image(row)


def lock(tx: Tx, image_id: str) -> None:
    """Keep every other change off an image until this transaction ends."""
    tx.run("UPDATE images SET link_epoch = link_epoch WHERE id = :id", id=image_id)


def visible(tx: Tx, viewer: User, image_ids: Sequence[str]) -> list[ImageRecord]:
    """Give those of some images that `viewer` may see and that are in no trash, oldest first."""
    if not image_ids:
        return []
    those, values = named("image", image_ids)
    rows = tx.all(
        _SELECT
        + f" WHERE i.id IN {those} AND i.deleted_us IS NULL AND "
        + seen_by(viewer)
        + " ORDER BY i.id",
        viewer=viewer.id,
        **values,
    )
    return [_image(row) for row in rows]


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
    forget_answer(tx, request_id)


def forget_answer(tx: Tx, request_id: str) -> None:
    """Let an answer not be given again: images of it are gone."""
    tx.run("UPDATE requests SET skeleton = NULL WHERE id = :id", id=request_id)


def page(
    tx: Tx,
    viewer: User,
    walk: Walk,
    *,
    owner_id: str | None = None,
    model: str | None = None,
    kind: Kind | None = None,
    visibility: Visibility | None = None,
    deleted: bool = False,
    shelves: Sequence[Shelf] = (),
) -> Page[ImageRecord]:
    """List what `viewer` may see: their own images and those shared with the team, admins every one.

    `deleted` lists the trash instead: one's own, for admins everybody's. Of `shelves` an image must lie in each.
    """
    rights = _rights(viewer, owner_id, visibility, deleted=deleted)
    if shelves and not deleted:  # which is walked along once, past what may not be seen
        rights = [(seen_by(viewer),)]
    if not rights:
        return Page(items=[], has_more=False)
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
    source, within, key = source_of(shelves)
    filters += [
        *within,
        *walk.filters(key),
        "i.deleted_us IS NOT NULL" if deleted else "i.deleted_us IS NULL",
    ]
    filters.append(_NOT_ERASED)
    walks = [
        f"SELECT i.id FROM {source} WHERE "
        + " AND ".join([*filters, *right])
        + f" ORDER BY {key}"
        + walk.direction
        + " LIMIT :rows"
        for right in rights
    ]
    rows = tx.all(
        _SELECT
        + " WHERE i.id IN ("
        + " UNION ALL ".join([f"SELECT w{n}.id FROM ({one}) w{n}" for n, one in enumerate(walks)])
        + ") ORDER BY i.id"
        + walk.direction
        + " LIMIT :rows",
        viewer=viewer.id,
        owner_id=owner_id,
        model=model,
        kind=kind,
        visibility=visibility,
        **values_of(shelves),
        **walk.values("img"),
    )
    return walk.page([_image(row) for row in rows])


def public_page(tx: Tx, walk: Walk) -> Page[ImageRecord]:
    """List what anyone may see."""
    filters = [_SEEN["public"], "i.deleted_us IS NULL", *walk.filters("i.id")]
    rows = tx.all(
        _SELECT + " WHERE " + " AND ".join(filters) + " ORDER BY i.id" + walk.direction + " LIMIT :rows",
        **walk.values("img"),
    )
    return walk.page([_image(row) for row in rows])


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


def seen_by(viewer: User) -> str:
    """Write the condition for an image that `viewer` may see, for whatever is asked about it; it names `:viewer`."""
    rights = _rights(viewer, None, None, deleted=False)
    return "(" + " OR ".join([" AND ".join(right) for right in rights]) + ")"


def _has_seen(viewer: User, what: str) -> str:
    """Write the condition that there is an image of this kind which `viewer` may see."""
    rights = _rights(viewer, None, None, deleted=False)
    looks = [
        "EXISTS (SELECT 1 FROM images i WHERE i.deleted_us IS NULL AND " + " AND ".join([what, *right]) + ")"
        for right in rights
    ]
    return "(" + " OR ".join(looks) + ")"


def _rights(
    viewer: User, owner_id: str | None, visibility: Visibility | None, *, deleted: bool
) -> list[tuple[str, ...]]:
    """Say what a viewer may see as conditions of which exactly one holds; each is a walk along an index of its own.

    As one condition with OR, a listing would walk past every image that others keep private.
    """
    if deleted:
        return [() if viewer.is_admin else (_OWN,)]
    rights: list[tuple[str, ...]] = []
    for each in VISIBILITIES:
        if visibility not in (None, each):
            continue
        if each != "private" or viewer.is_admin:
            rights.append((_SEEN[each],))
        elif owner_id in (None, viewer.id):
            rights.append((_SEEN[each], _OWN))
    return rights


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
        tags=tuple(json.loads(row["tags"])),
    )
