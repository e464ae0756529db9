"""What stands around an image on its page: what it was made of and became, its neighbours in a list, its collections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixie_proxy.gallery.library import may_see
from pixie_proxy.index import Tx, collections, images, lineage
from pixie_proxy.index.seen import look
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import Collection, ImageRecord, Page, User
from pixie_proxy.web.filters import Filters

_CHILDREN = 12
"""How many of them are shown; the wall has all."""
_COLLECTIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """All of it, as far as the viewer may see it. `newer` and `older` are ids of the next images in the list."""

    is_favorite: bool
    parents: list[ImageRecord]
    children: Page[ImageRecord]
    siblings: list[ImageRecord]
    newer: str | None
    older: str | None
    collections: list[Collection]
    own_collections: list[Collection]


def around(tx: Tx, viewer: User, record: ImageRecord, asked: Filters) -> Around:
    """Look around an image that `viewer` may see, in the list that `asked` tells."""
    (seen,) = look(tx, viewer, [record])
    own = Walk(limit=_COLLECTIONS)
    return Around(
        is_favorite=seen.is_favorite,
        parents=_in_order(images.visible(tx, viewer, seen.parents), seen.parents),
        children=images.page(tx, viewer, Walk(limit=_CHILDREN), shelves=[lineage.children(record.id)]),
        siblings=_siblings(tx, viewer, record),
        newer=_first(asked.page(tx, viewer, Walk(before=record.id, limit=1))),
        older=_first(asked.page(tx, viewer, Walk(after=record.id, limit=1))),
        collections=collections.page(tx, viewer, Walk(limit=_COLLECTIONS), image_id=record.id).items,
        own_collections=collections.page(tx, viewer, own, owner_id=viewer.id).items,
    )


def _siblings(tx: Tx, viewer: User, record: ImageRecord) -> list[ImageRecord]:
    """Give the others of the same call."""
    if record.siblings == 1:
        return []
    return [
        each
        for each in images.of_request(tx, record.request_id)
        if each.id != record.id and each.deleted_us is None and may_see(each, viewer)
    ]


def _in_order(found: list[ImageRecord], ids: Sequence[str]) -> list[ImageRecord]:
    return sorted(found, key=lambda record: ids.index(record.id))


def _first(page: Page[ImageRecord]) -> str | None:
    return page.items[0].id if page.items else None
