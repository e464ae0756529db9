"""The page of one image, and what its owner may do there by forms. What scripts do beside goes through the JSON API."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from pixie_proxy.errors import InvalidValue
from pixie_proxy.gallery.library import may_change
from pixie_proxy.gallery.retention import DAY_US
from pixie_proxy.gallery.shares import PASSWORD_CHARACTERS
from pixie_proxy.gallery.tagging import MAX_CHARACTERS
from pixie_proxy.records import VISIBILITIES, ImageRecord, Visibility
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.forms import read_fields
from pixie_proxy.web.html import page, see_other
from pixie_proxy.web.pages.around import around, listed
from pixie_proxy.web.pictures import IMAGE_PX, LIST_PX, Picture, picture_of, size_px
from pixie_proxy.web.snippets import snippets
from pixie_proxy.web.wire.images import share as part_of_cost

LIFETIMES_S = {"day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400, "endless": None}
"""How long a link may be good that is made on an image's page; programs may choose any."""


async def image(request: web.Request) -> web.Response:
    """Show one image with everything that is known of it; one in the trash can be taken out by whoever put it there.

    The address may hold the filters of the list that it was found in: see `around.listed`.
    """
    record = await context_of(request).library.find(request.match_info["id"], request[USER])
    if record.deleted_us is None:
        return await image_page(request, record)
    trash_days = context_of(request).settings.gallery.trash_days
    return page(
        request,
        "trashed.html",
        image=record,
        picture=picture_of(record, IMAGE_PX),
        gone_us=record.deleted_us + trash_days * DAY_US,
    )


async def image_page(request: web.Request, record: ImageRecord, new_link: str | None = None) -> web.Response:
    """Write the page of an image; `new_link` is that of a share which was just made, shown this once."""
    context, viewer = context_of(request), request[USER]
    settings, library = context.settings, context.library
    is_own = may_change(record, viewer)
    shares = await context.shares.of_image(record, viewer) if is_own else []
    found = listed(request)
    beside = await context.index.read(lambda tx: around(tx, viewer, record, found))
    picture, small = picture_of(record, size_px(settings, IMAGE_PX)), size_px(settings, LIST_PX)

    def pictures(records: list[ImageRecord]) -> list[Picture]:
        return [picture_of(each, small) for each in records]

    return page(
        request,
        "image.html",
        picture=picture,
        image=record,
        width=record.width or picture.width,
        height=record.height or picture.height,
        is_vector=record.mime == "image/svg+xml",
        params=_params(record),
        cost_micros=part_of_cost(record.cost_micros, record.siblings, record.position),
        is_own=is_own,
        is_maker=viewer.role != "viewer",
        around=beside,
        parents=pictures(beside.parents),
        children=pictures(beside.children.items),
        siblings=pictures(beside.siblings),
        listed=found.query,
        snippets=snippets(record, beside.parents),
        tag_characters=MAX_CHARACTERS,
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
