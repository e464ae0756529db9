"""The ledger as JSON: what was asked for, what became of it and what it cost. One's own; admins see everybody's."""

from __future__ import annotations

from typing import get_args

from aiohttp import web

from pixie_proxy.errors import NotFound
from pixie_proxy.index import Tx, history, users
from pixie_proxy.index.history import PastCall
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import KINDS, Kind, Page, State, User, is_id
from pixie_proxy.web import queries
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.gallery import json_response
from pixie_proxy.web.wire.images import list_json
from pixie_proxy.web.wire.money import request_json

STATES: tuple[State, ...] = get_args(State)
_NAMES = queries.WALK | {"owner", "key", "model", "kind", "state"}


async def list_requests(request: web.Request) -> web.Response:
    """List paid calls, failures included, newest first."""
    viewer = request[USER]
    queries.check_names(request, _NAMES)
    walk = queries.walk(request, "req", "a request")
    owner, model = queries.text(request, "owner"), queries.text(request, "model")
    key_id = queries.text(request, "key")
    kind, state = queries.choice(request, "kind", KINDS), queries.choice(request, "state", STATES)
    page = await context_of(request).index.read(
        lambda tx: calls_of(tx, viewer, walk, owner, key_id=key_id, model=model, kind=kind, state=state)
    )
    return json_response(list_json(page, [request_json(call) for call in page.items]))


def calls_of(
    tx: Tx,
    viewer: User,
    walk: Walk,
    owner: str | None,
    *,
    key_id: str | None = None,
    model: str | None = None,
    kind: Kind | None = None,
    state: State | None = None,
) -> Page[PastCall]:
    """List the calls of `owner`; without one, of everybody for an admin and of `viewer` else."""
    owner_id = users.resolve_owner(tx, owner, viewer.id)
    if owner is not None and owner_id is None:
        return Page(items=[], has_more=False)
    if not viewer.is_admin:
        if owner_id not in {None, viewer.id}:
            return Page(items=[], has_more=False)  # just as for a name that nobody has
        owner_id = viewer.id
    return history.page(tx, walk, owner_id=owner_id, key_id=key_id, model=model, kind=kind, state=state)


async def get_request(request: web.Request) -> web.Response:
    """Tell of one call."""
    call = await _find(request, request.match_info["id"], request[USER])
    return json_response(request_json(call))


async def _find(request: web.Request, request_id: str, viewer: User) -> PastCall:
    """Find a call that `viewer` may see. Raises NotFound for any other, whether or not it exists."""
    call = None
    if is_id(request_id, "req"):
        call = await context_of(request).index.read(lambda tx: history.get(tx, request_id))
    if call is None or not (viewer.is_admin or call.owner_id == viewer.id):
        message = "This request does not exist."
        raise NotFound(message)
    return call
