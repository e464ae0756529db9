"""The list of images and the changes to them, as JSON."""

from __future__ import annotations

import orjson
from aiohttp import web

from pixie_proxy.errors import InvalidValue, MissingParameter
from pixie_proxy.index import Tx
from pixie_proxy.index.seen import Seen, look
from pixie_proxy.records import VISIBILITIES, ImageRecord, Page, User
from pixie_proxy.web import bodies, fields, filters, queries
from pixie_proxy.web.context import USER, Context, context_of
from pixie_proxy.web.wire.images import deleted_json, image_json, list_json
from pixie_proxy.web.wire.people import user_json

_NAMES = queries.WALK | filters.NAMES


async def list_images(request: web.Request) -> web.Response:
    """List what the caller may see, newest first; or, with `deleted`, what is theirs in the trash."""
    context, viewer = context_of(request), request[USER]
    queries.check_names(request, _NAMES)
    walk = queries.walk(request, "img", "an image")
    asked = filters.read(request)

    def work(tx: Tx) -> Page[Seen]:
        page = asked.page(tx, viewer, walk)
        return Page(items=look(tx, viewer, page.items), has_more=page.has_more)

    page = await context.index.read(work)
    return json_response(list_json(page, [_image(context, seen, viewer) for seen in page.items]))


async def get_image(request: web.Request) -> web.Response:
    """Describe one image."""
    context, viewer = context_of(request), request[USER]
    record = await context.library.get(request.match_info["id"], viewer)
    return await _answer(context, record, viewer)


async def change_image(request: web.Request) -> web.Response:
    """Change who may see an image, or end its links."""
    context, viewer = context_of(request), request[USER]
    said = await bodies.read_object(request, {"visibility", "revoke_url", "tags"})
    if not said:
        message = "Give 'visibility', 'revoke_url' or 'tags'."
        raise MissingParameter(message, param="visibility")
    visibility, revokes_url = said.get("visibility"), said.get("revoke_url", False)
    if "visibility" in said and visibility not in VISIBILITIES:
        message = f"'visibility' must be one of {', '.join(VISIBILITIES)}."
        raise InvalidValue(message, param="visibility")
    if not isinstance(revokes_url, bool):
        message = "'revoke_url' must be true or false."
        raise InvalidValue(message, param="revoke_url")
    tags = fields.tags(said)
    record = await context.library.get(request.match_info["id"], viewer)
    record = await context.library.change(
        record, viewer, visibility=visibility, revokes_url=revokes_url, tags=tags
    )
    return await _answer(context, record, viewer)


async def delete_image(request: web.Request) -> web.Response:
    """Put an image into the trash. Once more is no error: a client may not have heard the first answer."""
    context, viewer = context_of(request), request[USER]
    record = await context.library.find(request.match_info["id"], viewer)
    await context.library.delete(record, viewer)
    return json_response(deleted_json(record.id))


async def restore_image(request: web.Request) -> web.Response:
    """Take an image out of the trash; one that is not in there stays as it is."""
    context, viewer = context_of(request), request[USER]
    record = await context.library.find(request.match_info["id"], viewer)
    record = await context.library.restore(record, viewer)
    return await _answer(context, record, viewer)


async def like_image(request: web.Request) -> web.Response:
    """Make an image a favourite of the caller's. Viewers may: it is their own list, and nobody else sees it."""
    return await _like(request, likes=True)


async def unlike_image(request: web.Request) -> web.Response:
    """Take an image out of the caller's favourites."""
    return await _like(request, likes=False)


async def _like(request: web.Request, *, likes: bool) -> web.Response:
    context, viewer = context_of(request), request[USER]
    record = await context.library.get(request.match_info["id"], viewer)
    await context.library.like(record, viewer, likes=likes)
    return await _answer(context, record, viewer)


async def me(request: web.Request) -> web.Response:
    """Tell the caller who it is here."""
    return json_response(user_json(request[USER]))


def json_response(body: object) -> web.Response:
    """Write JSON that no shared cache may keep."""
    return web.Response(
        body=orjson.dumps(body),
        content_type="application/json",
        headers={"Cache-Control": "private, no-store", "Vary": "Authorization, Cookie"},
    )


async def _answer(context: Context, record: ImageRecord, viewer: User) -> web.Response:
    (seen,) = await context.index.read(lambda tx: look(tx, viewer, [record]))
    return json_response(_image(context, seen, viewer))


def _image(context: Context, seen: Seen, viewer: User) -> dict[str, object]:
    return image_json(seen, viewer, context.library.url(seen.record))
