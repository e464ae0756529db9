"""The same change of many images at once, each answered for by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from aiohttp import web

from pixie_proxy.errors import InvalidValue, MissingParameter
from pixie_proxy.gallery.library import Act
from pixie_proxy.records import VISIBILITIES
from pixie_proxy.web import bodies, fields
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.gallery import json_response
from pixie_proxy.web.wire.images import bulk_json

MAX_IDS = 200
"""As many rows as one transaction may change: others wait for no longer than that takes."""

ACTS: tuple[Act, ...] = get_args(Act)


async def change_images(request: web.Request) -> web.Response:
    """Delete, restore, hide, show, tag or like images; who may not, or what there is not, is told for each."""
    said = await bodies.read_object(request, {"ids", "action", "visibility", "tags"})
    ids = read_ids(said, "ids")
    act: Act | None = fields.choice(said, "action", ACTS, None)
    if act is None:
        message = f"Give 'action': {', '.join(ACTS)}."
        raise MissingParameter(message, param="action")
    visibility = fields.choice(said, "visibility", VISIBILITIES, None)
    if ("visibility" in said) != (act == "visibility") or (act == "visibility" and visibility is None):
        message = "'visibility' belongs to the action 'visibility', and to no other."
        raise InvalidValue(message, param="visibility")
    tags = fields.tags(said) or ()
    if ("tags" in said) != (act in {"tag", "untag"}) or (act in {"tag", "untag"} and not tags):
        message = "'tags' belong to the actions 'tag' and 'untag', and to no other."
        raise InvalidValue(message, param="tags")
    done = await context_of(request).library.change_all(ids, request[USER], act, visibility, tags)
    return json_response(bulk_json(act, done))


def read_ids(said: Mapping[str, Any], name: str) -> list[str]:
    """Read a list of images' ids, each once."""
    ids = said.get(name)
    if isinstance(ids, list) and 1 <= len(ids) <= MAX_IDS and all(isinstance(each, str) for each in ids):
        return list(dict.fromkeys(ids))
    message = f"'{name}' must be a list of 1 to {MAX_IDS} images' ids."
    raise InvalidValue(message, param=name)
