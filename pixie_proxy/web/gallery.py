"""The list of images and the changes to them, as JSON."""

from __future__ import annotations

import orjson
from aiohttp import web

from pixie_proxy.errors import InvalidValue, MissingParameter
from pixie_proxy.index import Tx, lineage
from pixie_proxy.records import VISIBILITIES, ImageRecord, Page, User
from pixie_proxy.web import bodies, filters, queries
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

    def work(tx: Tx) -> tuple[Page[ImageRecord], dict[str, list[str]]]:
        page = asked.page(tx, viewer, walk)
        return page, lineage.parents(tx, viewer, page.items)

    page, parents = await context.index.read(work)
    items = [
        image_json(record, viewer, context.library.url(record), parents.get(record.request_id, []))
        for record in page.items
    ]
    return json_response(list_json(page, items))


async def get_image(request: web.Request) -> web.Response:
    """Describe one image."""
    context, viewer = context_of(request), request[USER]
    record = await context.library.get(request.match_info["id"], viewer)
    return await _answer(context, record, viewer)


async def change_image(request: web.Request) -> web.Response:
    """Change who may see an image, or end its links."""
    context, viewer = context_of(request), request[USER]
    said = await bodies.read_object(request, {"visibility", "revoke_url"})
    if not said:
        message = "Give 'visibility' or 'revoke_url'."
        raise MissingParameter(message, param="visibility")
    visibility, revokes_url = said.get("visibility"), said.get("revoke_url", False)
    if "visibility" in said and visibility not in VISIBILITIES:
        message = f"'visibility' must be one of {', '.join(VISIBILITIES)}."
        raise InvalidValue(message, param="visibility")
    if not isinstance(revokes_url, bool):
        message = "'revoke_url' must be true or false."
        raise InvalidValue(message, param="revoke_url")
    record = await context.library.get(request.match_info["id"], viewer)
    record = await context.library.change(record, viewer, visibility=visibility, revokes_url=revokes_url)
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
    parents = {}
    if record.kind != "generation":
        parents = await context.index.read(lambda tx: lineage.parents(tx, viewer, [record]))
    url = context.library.url(record)
    return json_response(image_json(record, viewer, url, parents.get(record.request_id, [])))
