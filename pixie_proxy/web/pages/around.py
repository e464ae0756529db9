"""What stands around an image on its page: what it was made of and became, its neighbours, its collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import urlencode

from aiohttp import web
from yarl import URL

from pixie_proxy.errors import InvalidValue
from pixie_proxy.gallery.library import may_see
from pixie_proxy.index import Tx, browsing, collections, images, lineage
from pixie_proxy.index.seen import look
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import Collection, ImageRecord, Page, User
from pixie_proxy.web import filters, queries
from pixie_proxy.web.filters import Filters

_CHILDREN = 12
"""How many of them are shown; the wall has all."""
_COLLECTIONS = 100


_NAMES = filters.NAMES | {"since", "until"}


class Listed(NamedTuple):
    """The list that an image was found in. `query` is that of its address, without a question mark."""

    query: str
    filters: Filters
    span: Walk


def listed(request: web.Request) -> Listed:
    """Tell in which list an image was found: that of the page's own address, else that of the wall which led here.

    What makes no sense there is no reason not to show the image: then it is the list of all.
    """
    query = [(name, value) for name, value in (request.query or _of_wall(request)).items() if name in _NAMES]
    for kept in (query, []):
        asked = request.clone(rel_url=URL.build(path=request.path, query=kept))
        try:
            since_us, until_us = (queries.time_us(asked, name) for name in ("since", "until"))
            span = Walk(since_us=since_us, until_us=until_us, limit=1)
            return Listed(urlencode(kept), filters.read(asked), span)
        except InvalidValue:
            continue
    raise AssertionError  # no query is a good one


def _of_wall(request: web.Request) -> Mapping[str, str]:
    try:
        came_from = URL(request.headers.get("Referer", ""))
    except ValueError:
        return {}
    return came_from.query if came_from.path == "/" else {}


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


def around(tx: Tx, viewer: User, record: ImageRecord, found: Listed) -> Around:
    """Look around an image that `viewer` may see, in the list that it was found in."""

    def beside(*, before: str | None = None, after: str | None = None) -> str | None:
        items = found.filters.page(tx, viewer, replace(found.span, before=before, after=after)).items
        return items[0].id if items else None

    (seen,) = look(tx, viewer, [record])
    own = Walk(limit=_COLLECTIONS)
    return Around(
        is_favorite=seen.is_favorite,
        parents=_in_order(browsing.visible(tx, viewer, seen.parents), seen.parents),
        children=browsing.page(tx, viewer, Walk(limit=_CHILDREN), shelves=[lineage.children(record.id)]),
        siblings=_siblings(tx, viewer, record),
        newer=beside(before=record.id),
        older=beside(after=record.id),
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
