"""The list of images, as JSON."""

from __future__ import annotations

from typing import Literal

import orjson
from aiohttp import web

from pixie_proxy.errors import InvalidValue
from pixie_proxy.index import Tx, accounts, images
from pixie_proxy.records import ImageRecord, Page, User
from pixie_proxy.web import queries
from pixie_proxy.web.context import USER, Context, context_of
from pixie_proxy.web.wire import image_json, list_json, user_json

_ORDERS: tuple[Literal["asc", "desc"], ...] = ("asc", "desc")
_NAMES = frozenset({"owner", "model", "since", "until", "limit", "after", "before", "order"})


async def list_images(request: web.Request) -> web.Response:
    """List what the caller may see, newest first."""
    context, viewer = context_of(request), request[USER]
    queries.check_names(request, _NAMES)
    after, before = queries.image_cursor(request, "after"), queries.image_cursor(request, "before")
    if after and before:
        message = "Give 'after' or 'before', not both."
        raise InvalidValue(message, param="before")
    owner = queries.text(request, "owner")
    since_us, until_us = queries.time_us(request, "since"), queries.time_us(request, "until")
    model = queries.text(request, "model")
    order = queries.choice(request, "order", _ORDERS)
    limit = queries.limit(request)

    def work(tx: Tx) -> Page[ImageRecord]:
        owner_id = viewer.id if owner == "me" else None
        if owner is not None and owner != "me":
            found = accounts.get_user_by_name(tx, owner)
            if found is None:
                return Page(items=[], has_more=False)
            owner_id = found.id
        return images.page(
            tx,
            viewer,
            owner_id=owner_id,
            model=model,
            since_us=since_us,
            until_us=until_us,
            after=after,
            before=before,
            order=order or "desc",
            limit=limit,
        )

    page = await context.index.read(work)
    return json_response(list_json(page, [_image(context, record, viewer) for record in page.items]))


async def get_image(request: web.Request) -> web.Response:
    """Describe one image."""
    context, viewer = context_of(request), request[USER]
    record = await context.library.get(request.match_info["id"], viewer)
    return json_response(_image(context, record, viewer))


async def me(request: web.Request) -> web.Response:
    """Tell the caller who it is here."""
    return json_response(user_json(request[USER]))


def json_response(body: object) -> web.Response:
    """Write JSON that no shared cache may keep."""
    return web.Response(
        body=orjson.dumps(body),
        content_type="application/json",
        headers={"Cache-Control": "private, no-store", "Vary": "Authorization"},
    )


def _image(context: Context, record: ImageRecord, viewer: User) -> dict[str, object]:
    return image_json(record, viewer, context.library.url(record))
