"""The wall: the images that somebody may see, newest first, narrowed to what its address says."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web

from pixie_proxy.errors import InvalidValue, NotFound
from pixie_proxy.gallery import collections
from pixie_proxy.index import Tx, browsing
from pixie_proxy.index import collections as stored
from pixie_proxy.index.seen import Seen, look
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import KINDS, VISIBILITIES, Collection, Page, User
from pixie_proxy.web import filters, queries
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.filters import Filters
from pixie_proxy.web.html import page
from pixie_proxy.web.pictures import IMAGE_PX, LIST_PX, picture_of, size_px
from pixie_proxy.web.texts import t

_PER_PAGE = 30
_COLLECTIONS = 100
"""As many of the newest are offered as a filter."""

_FILTERS = (
    *("q", "owner", "model", "kind", "visibility", "tag", "collection", "since", "until", "parent"),
    *("favorite", "deleted"),
)
_VIEWS: dict[str, Mapping[str, str]] = {
    "all": {},
    "mine": {"owner": "me"},
    "favorites": {"favorite": "true"},
    "trash": {"deleted": "true"},
}
"""What people look at most, one click each: what each sets, among what any of them sets."""
_VIEW_FILTERS = frozenset({"owner", "favorite", "deleted"})


class _Asked(NamedTuple):
    """What the address asks for; `span` has its times."""

    filters: Filters
    span: Walk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """What there is to choose from."""

    owners: list[str]
    models: list[str]
    collections: list[Collection]


async def wall(request: web.Request) -> web.Response:
    """List the images that the viewer may see, newest first. A filter without sense finds nothing, and says why."""
    context, viewer = context_of(request), request[USER]
    after, before = (queries.cursor(request, name, "img", "an image") for name in ("after", "before"))
    if after is not None:
        before = None
    chosen = {name: value for name in _FILTERS if (value := request.query.get(name, "").strip())}
    if chosen.get("deleted") == "false":
        del chosen["deleted"]
    found: Page[Seen] = Page(items=[], has_more=False)
    fault = None
    try:
        asked = _read(request, chosen)
        found = await _list(request, asked, after, before)
        if (
            before is not None and not found.has_more
        ):  # the way back ends here: a full first page, not the few newer
            before, found = None, await _list(request, asked)
    except InvalidValue as exc:
        fault = None if exc.param == "q" else exc.message  # half a question is no fault while one types
    choices = await context.index.read(lambda tx: _choices(tx, viewer, chosen))
    view = _view(chosen, viewer)
    ids = [seen.record.id for seen in found.items]
    small = size_px(context.settings, LIST_PX)
    return page(
        request,
        "wall.html",
        tiles=[(picture_of(seen.record, small), seen) for seen in found.items],
        dense_px=size_px(context.settings, IMAGE_PX),
        choices=choices,
        kinds=KINDS,
        visibilities=VISIBILITIES,
        chosen=chosen,
        chips=_chips(chosen, choices, _VIEWS[view] if view else {}),
        views=_views(chosen),
        view=view,
        is_narrowed=view is None or bool(chosen.keys() - _VIEW_FILTERS),
        older={**chosen, "after": ids[-1]} if ids and (found.has_more or before) else None,
        newer={**chosen, "before": ids[0]} if ids and (after or before) else None,
        fault=fault,
        trashed=await _trashed(request),
        base_url=f"{context.links.base_url}/v1",
        default_model=context.settings.models.default,
    )


def _read(request: web.Request, chosen: Mapping[str, str]) -> _Asked:
    """Read the filters as the JSON API does. A form sends its empty fields along: they are no filters."""
    said = request.clone(rel_url=request.rel_url.with_query(dict(chosen)))
    span = Walk(
        since_us=queries.time_us(said, "since"), until_us=queries.time_us(said, "until"), limit=_PER_PAGE
    )
    return _Asked(filters.read(said), span)


async def _list(
    request: web.Request, asked: _Asked, after: str | None = None, before: str | None = None
) -> Page[Seen]:
    viewer, span = request[USER], asked.span
    walk = Walk(since_us=span.since_us, until_us=span.until_us, after=after, before=before, limit=span.limit)

    def work(tx: Tx) -> Page[Seen]:
        found = asked.filters.page(tx, viewer, walk)
        return Page(items=look(tx, viewer, found.items), has_more=found.has_more)

    return await context_of(request).index.read(work)


def _choices(tx: Tx, viewer: User, chosen: Mapping[str, str]) -> _Choices:
    """List the choices; a filter that is set stays among them, though it finds nothing."""
    owners = [name for name in browsing.owners(tx, viewer) if name != viewer.name]
    models = browsing.models(tx, viewer)
    shelves = stored.page(tx, viewer, Walk(limit=_COLLECTIONS)).items
    owner, model, shelf = (chosen.get(name) for name in ("owner", "model", "collection"))
    if owner is not None and owner not in {*owners, "me", viewer.name}:
        owners = [*owners, owner]
    if model is not None and model not in models:
        models = [*models, model]
    if shelf is not None and all(each.id != shelf for each in shelves):
        with suppress(NotFound):
            shelves = [*shelves, collections.find(tx, shelf, viewer)]
    return _Choices(owners=owners, models=models, collections=shelves)


def _view(chosen: Mapping[str, str], viewer: User) -> str | None:
    """Give the view that is looked at; None where filters make it none of them."""
    shown = {name: value for name, value in chosen.items() if name in _VIEW_FILTERS}
    if shown.get("owner") == viewer.name:
        shown["owner"] = "me"
    return next((name for name, sets in _VIEWS.items() if sets == shown), None)


def _views(chosen: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Give the filters of each view, beside those that are set and that no view sets."""
    others = {name: value for name, value in chosen.items() if name not in _VIEW_FILTERS}
    return {name: {**others, **sets} for name, sets in _VIEWS.items()}


def _chips(
    chosen: Mapping[str, str], choices: _Choices, view: Mapping[str, str]
) -> list[tuple[str, dict[str, str]]]:
    """Say each filter that is set, and give what is left without it. Question and view stand in their own places."""
    names: dict[str, str] = {
        **{each.id: each.name for each in choices.collections},
        **{kind: t(f"wall.kind.{kind}") for kind in KINDS},
        **{visibility: t(f"wall.visibility.{visibility}") for visibility in VISIBILITIES},
    }
    return [
        (
            t(f"wall.chip.{name}", value=names.get(value, value)),
            {other: kept for other, kept in chosen.items() if other != name},
        )
        for name, value in chosen.items()
        if name != "q" and name not in view
    ]


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
