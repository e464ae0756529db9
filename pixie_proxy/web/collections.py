"""Collections as JSON. Their images are a filter of the list of images."""

from __future__ import annotations

from aiohttp import web

from pixie_proxy.errors import InvalidValue, MissingParameter
from pixie_proxy.gallery import collections
from pixie_proxy.index import Tx, browsing, users
from pixie_proxy.index import collections as stored
from pixie_proxy.records import COLLECTION_VISIBILITIES, Collection, CollectionVisibility, Page, User
from pixie_proxy.web import bodies, fields, queries
from pixie_proxy.web.bulk import MAX_IDS, read_ids
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.gallery import json_response
from pixie_proxy.web.wire.images import bulk_json, collection_json, deleted_json, list_json

_FIELDS = frozenset({"name", "visibility"})


async def list_collections(request: web.Request) -> web.Response:
    """List one's own collections and the team's, newest first."""
    viewer = request[USER]
    queries.check_names(request, queries.WALK | {"owner", "image"})
    walk, owner = queries.walk(request, "col", "a collection"), queries.text(request, "owner")
    image_id = queries.cursor(request, "image", "img", "an image")

    def work(tx: Tx) -> Page[Collection]:
        owner_id = users.resolve_owner(tx, owner, viewer.id)
        if (owner is not None and owner_id is None) or not (image_id is None or _sees(tx, viewer, image_id)):
            return Page(items=[], has_more=False)
        return stored.page(tx, viewer, walk, owner_id=owner_id, image_id=image_id)

    page = await context_of(request).index.read(work)
    return json_response(list_json(page, [collection_json(each) for each in page.items]))


async def add_collection(request: web.Request) -> web.Response:
    """Make an empty collection, one's own alone unless it says otherwise."""
    said, viewer = await bodies.read_object(request, _FIELDS), request[USER]
    name = _name(fields.text(said, "name"))
    visibility: CollectionVisibility = fields.choice(said, "visibility", COLLECTION_VISIBILITIES, "private")
    made = await context_of(request).index.write(lambda tx: collections.make(tx, viewer, name, visibility))
    return json_response(collection_json(made))


async def get_collection(request: web.Request) -> web.Response:
    """Describe a collection."""
    viewer, collection_id = request[USER], request.match_info["collection"]
    found = await context_of(request).index.read(lambda tx: collections.find(tx, collection_id, viewer))
    return json_response(collection_json(found))


async def change_collection(request: web.Request) -> web.Response:
    """Give a collection another name, or show it to others."""
    said, viewer = await bodies.read_object(request, _FIELDS), request[USER]
    if not said:
        message = "Give 'name' or 'visibility'."
        raise MissingParameter(message, param="name")
    name = _name(fields.text(said, "name")) if "name" in said else None
    visibility = fields.choice(said, "visibility", COLLECTION_VISIBILITIES, None)
    changed = await context_of(request).index.write(
        lambda tx: collections.change(tx, request.match_info["collection"], viewer, name, visibility)
    )
    return json_response(collection_json(changed))


async def delete_collection(request: web.Request) -> web.Response:
    """Delete a collection; its images stay."""
    viewer, collection_id = request[USER], request.match_info["collection"]
    await context_of(request).index.write(lambda tx: collections.delete(tx, collection_id, viewer))
    return json_response({**deleted_json(collection_id), "object": "collection"})


async def fill_collection(request: web.Request) -> web.Response:
    """Put images into a collection, and take others out."""
    said, viewer = await bodies.read_object(request, {"add", "remove"}), request[USER]
    if not said:
        message = "Give 'add' or 'remove': lists of images' ids."
        raise MissingParameter(message, param="add")
    add, remove = (read_ids(said, name) if name in said else [] for name in ("add", "remove"))
    if len(add) + len(remove) > MAX_IDS or {*add} & {*remove}:
        message = f"'add' and 'remove' must name at most {MAX_IDS} images together, and none of them twice."
        raise InvalidValue(message, param="add")
    done = await context_of(request).index.write(
        lambda tx: collections.fill(tx, request.match_info["collection"], viewer, add, remove)
    )
    return json_response(bulk_json("collect", done))


def _sees(tx: Tx, viewer: User, image_id: str) -> bool:
    return bool(browsing.visible(tx, viewer, [image_id]))


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name:
        message = "'name' must have a character that shows."
        raise InvalidValue(message, param="name")
    return name
