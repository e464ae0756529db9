"""What a list of images can be narrowed to, by the query of its address."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from pixie_proxy.errors import InvalidValue, NotFound
from pixie_proxy.gallery import collections
from pixie_proxy.gallery.library import may_see
from pixie_proxy.gallery.tagging import normal
from pixie_proxy.index import Tx, browsing, favorites, images, lineage, tags, users
from pixie_proxy.index import collections as stored
from pixie_proxy.index.shelves import Shelf
from pixie_proxy.index.walking import Walk
from pixie_proxy.index.words import phrases
from pixie_proxy.records import KINDS, VISIBILITIES, ImageRecord, Kind, Page, User, Visibility
from pixie_proxy.web import queries

NAMES = frozenset(
    {"q", "owner", "model", "kind", "visibility", "deleted", "parent", "tag", "favorite", "collection"}
)
"""The names that `read` reads."""

_BOOLEANS = ("true", "false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which images are asked for; None is no matter which."""

    question: str | None
    owner: str | None
    model: str | None
    kind: Kind | None
    visibility: Visibility | None
    deleted: bool
    parent: str | None
    tag: str | None
    is_favorite: bool
    collection: str | None

    def page(self, tx: Tx, viewer: User, walk: Walk) -> Page[ImageRecord]:
        """List them, as far as `viewer` may see them. Whoever or whatever does not exist for them has no images."""
        owner_id = users.resolve_owner(tx, self.owner, viewer.id)
        shelves = self._shelves(tx, viewer)
        if (self.owner is not None and owner_id is None) or shelves is None:
            return Page(items=[], has_more=False)
        return browsing.page(
            tx,
            viewer,
            walk,
            question=self.question,
            owner_id=owner_id,
            model=self.model,
            kind=self.kind,
            visibility=self.visibility,
            deleted=self.deleted,
            shelves=shelves,
        )

    def _shelves(self, tx: Tx, viewer: User) -> list[Shelf] | None:
        """Give the shelves that an image must lie in; None if there is one that `viewer` may not see."""
        shelves: list[Shelf] = []
        if self.parent is not None:
            parent = images.get(tx, self.parent)
            if parent is None or parent.deleted_us is not None or not may_see(parent, viewer):
                return None
            shelves.append(lineage.children(parent.id))
        if self.collection is not None:
            try:
                shelves.append(stored.shelf(collections.find(tx, self.collection, viewer).id))
            except NotFound:
                return None
        if self.tag is not None:
            shelves.append(tags.shelf(self.tag))
        if self.is_favorite:
            shelves.append(favorites.shelf(viewer.id))
        return shelves


def read(request: web.Request) -> Filters:
    """Read them. Raises InvalidValue, which names the one at fault."""
    tag = queries.text(request, "tag")
    return Filters(
        question=_question(request),
        owner=queries.text(request, "owner"),
        model=queries.text(request, "model"),
        kind=queries.choice(request, "kind", KINDS),
        visibility=queries.choice(request, "visibility", VISIBILITIES),
        deleted=queries.choice(request, "deleted", _BOOLEANS) == "true",
        parent=queries.cursor(request, "parent", "img", "an image"),
        tag=None if tag is None else normal(tag, "tag"),
        is_favorite=queries.choice(request, "favorite", ("true",)) is not None,
        collection=queries.cursor(request, "collection", "col", "a collection"),
    )


def _question(request: web.Request) -> str | None:
    """Read what is searched for. Raises InvalidValue where there is no word in it: nothing could ever be found."""
    question = queries.text(request, "q")
    if question is not None and not phrases(question):
        message = "'q' must have a word to search for, such as fox, fox* or \"red fox\"."
        raise InvalidValue(message, param="q")
    return question
