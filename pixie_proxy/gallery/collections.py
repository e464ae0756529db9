"""Collections under the visibility rules: private for owner and admins, team for all; changed by owner and admins.

An image in a collection is seen by those who may see the image: a collection shows nobody more, and hides nothing.
Each function is a work for the index, and raises before it has changed anything.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from pixie_proxy.errors import InvalidValue, NotFound, PermissionDenied, ProxyError
from pixie_proxy.gallery.library import may_see
from pixie_proxy.index import Tx, accounts, collections, images
from pixie_proxy.records import Collection, CollectionVisibility, User, is_id, new_id

MAX_COLLECTIONS = 1_000
"""Of one user."""
MAX_IMAGES = 10_000
"""In one collection."""


def find(tx: Tx, collection_id: str, viewer: User) -> Collection:
    """Find a collection that `viewer` may see. Raises NotFound for any other, whether or not it exists."""
    found = collections.get(tx, collection_id) if is_id(collection_id, "col") else None
    if found is None or not (_is_own(found, viewer) or found.visibility == "team"):
        message = "This collection does not exist."
        raise NotFound(message)
    return found


def make(tx: Tx, viewer: User, name: str, visibility: CollectionVisibility) -> Collection:
    """Make an empty collection. Raises InvalidValue where there are too many."""
    accounts.lock(tx, [viewer.id])  # so that nobody makes one too many beside us
    if collections.count(tx, viewer.id) >= MAX_COLLECTIONS:
        message = (
            f"You have {MAX_COLLECTIONS} collections, which is as many as anybody may. Delete one first."
        )
        raise InvalidValue(message)
    made = Collection(
        id=new_id("col"),
        owner_id=viewer.id,
        owner_name=viewer.name,
        name=name,
        visibility=visibility,
        created_us=time.time_ns() // 1000,
    )
    collections.insert(tx, made)
    return made


def change(
    tx: Tx, collection_id: str, viewer: User, name: str | None, visibility: CollectionVisibility | None
) -> Collection:
    """Give a collection another name, or show it to others. Raises NotFound, PermissionDenied."""
    found = _find_own(tx, collection_id, viewer)
    changed = replace(found, name=name or found.name, visibility=visibility or found.visibility)
    collections.update(tx, changed)
    return changed


def delete(tx: Tx, collection_id: str, viewer: User) -> None:
    """Delete a collection; its images stay. Raises NotFound, PermissionDenied."""
    collections.delete(tx, _find_own(tx, collection_id, viewer).id)


def fill(
    tx: Tx, collection_id: str, viewer: User, add: Sequence[str], remove: Sequence[str]
) -> dict[str, ProxyError | None]:
    """Take images out and put others in, and say by id what was in the way. Raises NotFound, PermissionDenied.

    Whatever is to be out is out then, also what one can't see any more, or what never was.
    """
    collections.lock(tx, collection_id)
    found = _find_own(tx, collection_id, viewer)
    done: dict[str, ProxyError | None] = dict.fromkeys(remove)
    for image_id in remove:
        collections.take(tx, found.id, image_id)
    room = MAX_IMAGES - collections.size(tx, found.id)
    for image_id in add:
        image = images.get(tx, image_id) if is_id(image_id, "img") else None
        if image is None or image.deleted_us is not None or not may_see(image, viewer):
            done[image_id] = NotFound("This image does not exist.")
        elif (new := collections.put(tx, found.id, image_id)) > room:
            collections.take(tx, found.id, image_id)
            done[image_id] = InvalidValue(f"A collection holds at most {MAX_IMAGES} images.", param="add")
        else:
            done[image_id] = None
            room -= new
    return done


def _find_own(tx: Tx, collection_id: str, viewer: User) -> Collection:
    found = find(tx, collection_id, viewer)
    if not _is_own(found, viewer):
        message = "Only a collection's owner and admins may change it."
        raise PermissionDenied(message)
    return found


def _is_own(found: Collection, viewer: User) -> bool:
    return viewer.is_admin or found.owner_id == viewer.id
