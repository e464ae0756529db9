"""The shares of an image: made, listed and ended, as JSON and by the forms of its page."""

from __future__ import annotations

from aiohttp import web

from pixie_proxy.errors import InvalidValue
from pixie_proxy.gallery.shares import NewShare
from pixie_proxy.records import ImageRecord, Page
from pixie_proxy.web import bodies, fields
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.forms import read_fields
from pixie_proxy.web.gallery import json_response
from pixie_proxy.web.pages import LIFETIMES_S, image_page, see_other
from pixie_proxy.web.wire.images import list_json
from pixie_proxy.web.wire.shares import share_json

MAX_LIFETIME_S = 10 * 365 * 86_400


async def make(request: web.Request) -> web.Response:
    """Share an image. The answer is the only one with the link in it."""
    record = await _image(request)
    said = await bodies.read_object(request, {"expires_in_s", "password", "show_prompt"})
    password = said.get("password")
    if password is not None and not isinstance(password, str):
        message = "'password' must be a text."
        raise InvalidValue(message, param="password")
    made = await context_of(request).shares.make(
        record,
        request[USER],
        lifetime_s=fields.number(said, "expires_in_s", MAX_LIFETIME_S),
        password=password,
        shows_prompt=fields.flag(said, "show_prompt") or False,
    )
    return json_response(share_json(made.share, _link(request, made)))


async def listed(request: web.Request) -> web.Response:
    """List the shares of an image, newest first, those that have ended too."""
    shares = await context_of(request).shares.of_image(await _image(request), request[USER])
    return json_response(list_json(Page(items=shares, has_more=False), [share_json(each) for each in shares]))


async def revoke(request: web.Request) -> web.Response:
    """End a share at once. Once more is no error: a client may not have heard the first answer."""
    record = await _image(request)
    share = await context_of(request).shares.revoke(record, request[USER], request.match_info["share"])
    return json_response({"id": share.id, "object": "share", "revoked": True})


async def make_by_form(request: web.Request) -> web.Response:
    """Share an image from its page, which comes again with the link. It stands in no address, so in no history."""
    record = await _image(request)
    said = await read_fields(request)
    lifetime = said.get("lifetime", "")
    if lifetime not in LIFETIMES_S:
        message = f"'lifetime' must be one of {', '.join(LIFETIMES_S)}."
        raise InvalidValue(message, param="lifetime")
    made = await context_of(request).shares.make(
        record,
        request[USER],
        lifetime_s=LIFETIMES_S[lifetime],
        password=said.get("password") or None,
        shows_prompt="show_prompt" in said,
    )
    return await image_page(request, record, _link(request, made))


async def revoke_by_form(request: web.Request) -> web.Response:
    """End a share from its image's page."""
    record = await _image(request)
    await context_of(request).shares.revoke(record, request[USER], request.match_info["share"])
    return see_other(f"/images/{record.id}")


async def _image(request: web.Request) -> ImageRecord:
    return await context_of(request).library.get(request.match_info["id"], request[USER])


def _link(request: web.Request, made: NewShare) -> str:
    return f"{context_of(request).links.base_url}/s/{made.token}"
