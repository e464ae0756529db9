"""The gallery's pages: the list, one image, and what its owner may do with it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from pixie_proxy.errors import InvalidValue, NotFound
from pixie_proxy.gallery.library import may_change
from pixie_proxy.gallery.shares import PASSWORD_CHARACTERS
from pixie_proxy.index import Tx, browsing, users
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import VISIBILITIES, ImageRecord, Page, User, Visibility
from pixie_proxy.web import queries
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.forms import read_fields
from pixie_proxy.web.html import page
from pixie_proxy.web.pictures import IMAGE_PX, LIST_PX, picture_of, size_px
from pixie_proxy.web.wire.images import share as part_of_cost

LIFETIMES_S = {"A day": 86_400, "A week": 7 * 86_400, "A month": 30 * 86_400, "No end": None}
"""How long a link may be good that is made on an image's page; programs may choose any."""

_PER_PAGE = 24
_QUESTION_CHARACTERS = 256
_FILTERS = ("q", "owner", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One page of the list with what its filters offer."""

    page: Page[ImageRecord]
    owners: list[str]
    models: list[str]


async def gallery(request: web.Request) -> web.Response:
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
        "gallery.html",
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


async def image(request: web.Request) -> web.Response:
    """Show one image with everything that is known of it."""
    return await image_page(
        request, await context_of(request).library.get(request.match_info["id"], request[USER])
    )


async def image_page(request: web.Request, record: ImageRecord, new_link: str | None = None) -> web.Response:
    """Write the page of an image; `new_link` is that of a share which was just made, shown this once."""
    context, viewer = context_of(request), request[USER]
    settings, library = context.settings, context.library
    is_own = may_change(record, viewer)
    shares = await context.shares.of_image(record, viewer) if is_own else []
    return page(
        request,
        "image.html",
        picture=picture_of(record, size_px(settings, IMAGE_PX)),
        image=record,
        is_vector=record.mime == "image/svg+xml",
        params=_params(record),
        cost_micros=part_of_cost(record.cost_micros, record.siblings, record.position),
        is_own=is_own,
        link=library.url(record) if viewer.is_admin or record.owner_id == viewer.id else None,
        visibilities=_offered(record, allows_public=settings.gallery.allow_public),
        public_path=f"/public/{record.id}"
        if settings.gallery.allow_public and record.visibility == "public"
        else None,
        shares=[share for share in shares if share.is_live(time.time_ns() // 1000)],
        new_link=new_link,
        lifetimes_s=LIFETIMES_S,
        password_characters=PASSWORD_CHARACTERS,
    )


async def set_visibility(request: web.Request) -> web.Response:
    """Change who may see an image."""
    library, viewer = context_of(request).library, request[USER]
    record = await library.get(request.match_info["id"], viewer)
    wanted = _visibility((await read_fields(request)).get("visibility"))
    await library.change(record, viewer, visibility=wanted)
    return see_other(f"/images/{record.id}")


async def delete(request: web.Request) -> web.Response:
    """Put an image into the trash; the list then offers to take it out again. Twice is no fault."""
    library, viewer = context_of(request).library, request[USER]
    record = await library.find(request.match_info["id"], viewer)
    await library.delete(record, viewer)
    return see_other(f"/?trashed={record.id}")


async def restore(request: web.Request) -> web.Response:
    """Take an image out of the trash."""
    library, viewer = context_of(request).library, request[USER]
    record = await library.find(request.match_info["id"], viewer)
    await library.restore(record, viewer)
    return see_other(f"/images/{record.id}")


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


def _params(record: ImageRecord) -> list[tuple[str, str]]:
    """Give what was asked for beside prompt and model, as people wrote it."""
    values: dict[str, Any] = record.params
    return [
        (
            name,
            value
            if isinstance(value, str)
            else str(value).lower()
            if isinstance(value, bool)
            else str(value),
        )
        for name, value in values.items()
        if value is not None
    ]


def _offered(record: ImageRecord, *, allows_public: bool) -> list[Visibility]:
    """Give the visibilities to choose from: `public` where it means something, or is set already."""
    return [
        each for each in VISIBILITIES if each != "public" or allows_public or record.visibility == "public"
    ]


def _visibility(text: str | None) -> Visibility:
    for known in VISIBILITIES:
        if text == known:
            return known
    raise InvalidValue(f"'visibility' must be one of {', '.join(VISIBILITIES)}.", param="visibility")


def see_other(path: str) -> web.Response:
    """Lead a browser on after a form."""
    return web.Response(status=303, headers={"Location": path, "Vary": "Cookie"})
