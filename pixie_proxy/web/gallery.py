"""The list of images and the changes to them, as JSON."""

from __future__ import annotations

import orjson
from aiohttp import web

from pixie_proxy.errors import InvalidValue, MissingParameter
from pixie_proxy.index import Tx, images, users
from pixie_proxy.index.words import phrases
from pixie_proxy.records import KINDS, VISIBILITIES, ImageRecord, Page, User
from pixie_proxy.web import bodies, queries
from pixie_proxy.web.context import USER, Context, context_of
from pixie_proxy.web.wire.images import deleted_json, image_json, list_json
from pixie_proxy.web.wire.people import user_json

_BOOLEANS = ("true", "false")
_NAMES = queries.WALK | {"q", "owner", "model", "kind", "visibility", "deleted"}


async def list_images(request: web.Request) -> web.Response:
    """List what the caller may see, newest first; or, with `deleted`, what is theirs in the trash."""
    context, viewer = context_of(request), request[USER]
    queries.check_names(request, _NAMES)
    walk, question = queries.walk(request, "img", "an image"), _question(request)
    owner, model = queries.text(request, "owner"), queries.text(request, "model")
    kind = queries.choice(request, "kind", KINDS)
    visibility = queries.choice(request, "visibility", VISIBILITIES)
    deleted = queries.choice(request, "deleted", _BOOLEANS) == "true"

    def work(tx: Tx) -> Page[ImageRecord]:
        owner_id = users.resolve_owner(tx, owner, viewer.id)
        if owner is not None and owner_id is None:
            return Page(items=[], has_more=False)
        return images.page(
            tx,
            viewer,
            walk,
            question=question,
            owner_id=owner_id,
            model=model,
            kind=kind,
            visibility=visibility,
            deleted=deleted,
        )

    page = await context.index.read(work)
    return json_response(list_json(page, [_image(context, record, viewer) for record in page.items]))


async def get_image(request: web.Request) -> web.Response:
    """Describe one image."""
    context, viewer = context_of(request), request[USER]
    record = await context.library.get(request.match_info["id"], viewer)
    return json_response(_image(context, record, viewer))


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
    return json_response(_image(context, record, viewer))


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
    return json_response(_image(context, record, viewer))


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


def _question(request: web.Request) -> str | None:
    """Read what is searched for. Raises InvalidValue where there is no word in it: nothing could ever be found."""
    question = queries.text(request, "q")
    if question is not None and not phrases(question):
        message = "'q' must have a word to search for, such as fox, fox* or \"red fox\"."
        raise InvalidValue(message, param="q")
    return question


def _image(context: Context, record: ImageRecord, viewer: User) -> dict[str, object]:
    return image_json(record, viewer, context.library.url(record))
