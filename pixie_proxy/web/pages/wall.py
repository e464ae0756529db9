"""The wall: the images that somebody may see, newest first."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from pixie_proxy.errors import NotFound
from pixie_proxy.index import Tx, browsing, users
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import ImageRecord, Page, User
from pixie_proxy.web import queries
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.html import page
from pixie_proxy.web.pictures import IMAGE_PX, LIST_PX, picture_of, size_px

_PER_PAGE = 24
_QUESTION_CHARACTERS = 256
_FILTERS = ("q", "owner", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One page of the list with what its filters offer."""

    page: Page[ImageRecord]
    owners: list[str]
    models: list[str]


async def wall(request: web.Request) -> web.Response:
    """List the images that the viewer may see, newest first."""
    context, viewer = context_of(request), request[USER]
    chosen = {name: request.query.get(name) or None for name in _FILTERS}
    chosen["q"] = (chosen["q"] or "")[:_QUESTION_CHARACTERS].strip() or None
    after, before = (queries.cursor(request, name, "img", "an image") for name in ("after", "before"))
    found = await _list(request, chosen, after=after, before=before if after is None else None)
    is_first = after is None
    if before is not None and after is None:
        is_first = not found.page.has_more
        if is_first:  # the way back ends here: a full first page, not the few that are newer
            found = await _list(request, chosen)
    items = found.page.items
    small = size_px(context.settings, LIST_PX)
    has_older = found.page.has_more or (before is not None and not is_first)
    return page(
        request,
        "wall.html",
        pictures=[picture_of(record, small) for record in items],
        dense_px=size_px(context.settings, IMAGE_PX),
        owners=_with_chosen(
            [name for name in found.owners if name != viewer.name], chosen["owner"], "me", viewer.name
        ),
        models=_with_chosen(found.models, chosen["model"]),
        chosen=chosen,
        older={**chosen, "after": items[-1].id} if items and has_older else None,
        newer={**chosen, "before": items[0].id} if items and not is_first else None,
        trashed=await _trashed(request),
        base_url=f"{context.links.base_url}/v1",
        default_model=context.settings.models.default,
    )


async def _list(
    request: web.Request,
    chosen: dict[str, str | None],
    *,
    after: str | None = None,
    before: str | None = None,
) -> _Found:
    viewer = request[USER]

    def work(tx: Tx) -> _Found:
        return _Found(
            page=_page(tx, viewer, chosen, Walk(after=after, before=before, limit=_PER_PAGE)),
            owners=browsing.owners(tx, viewer),
            models=browsing.models(tx, viewer),
        )

    return await context_of(request).index.read(work)


def _page(tx: Tx, viewer: User, chosen: dict[str, str | None], walk: Walk) -> Page[ImageRecord]:
    owner = chosen["owner"]
    owner_id = users.resolve_owner(tx, owner, viewer.id)
    if owner is not None and owner_id is None:
        return Page(items=[], has_more=False)
    return browsing.page(tx, viewer, walk, question=chosen["q"], owner_id=owner_id, model=chosen["model"])


async def _trashed(request: web.Request) -> str | None:
    """Give the image that was just deleted, if it is there to be restored."""
    image_id = request.query.get("trashed")
    if image_id is None:
        return None
    try:
        record = await context_of(request).library.find(image_id, request[USER])
    except NotFound:
        return None
    return record.id if record.deleted_us is not None else None


def _with_chosen(known: list[str], chosen: str | None, *not_listed: str) -> list[str]:
    """Keep a filter that is set among the choices, though it finds nothing."""
    return known if chosen is None or chosen in {*known, *not_listed} else [*known, chosen]
