"""What admins do over HTTP: people, their keys and limits, and the log of all that."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from pixie_proxy.accounts import erasing, keyring, people
from pixie_proxy.accounts.acting import Actor
from pixie_proxy.errors import MissingParameter, NotFound, PermissionDenied
from pixie_proxy.index import Tx, accounts, acts, users
from pixie_proxy.index.users import StoredKey, StoredUser
from pixie_proxy.records import ROLES, Page, is_id
from pixie_proxy.web import bodies, fields, queries
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.gallery import json_response
from pixie_proxy.web.wire.images import list_json
from pixie_proxy.web.wire.people import act_json, key_json, person_json

MAX_LIFETIME_S = 100 * 365 * 86_400


async def list_users(request: web.Request) -> web.Response:
    """List everybody, newest first, with what they may and what they have spent."""
    queries.check_names(request, queries.WALK)
    walk, now_us = queries.walk(request, "usr", "a user"), time.time_ns() // 1000

    def work(tx: Tx) -> tuple[Page[StoredUser], list[dict[str, Any]]]:
        page = walk.over(users.list_users(tx), "usr", lambda user: user.id)
        return page, [_person(request, tx, user, now_us) for user in page.items]

    page, people_json = await context_of(request).index.read(work)
    return json_response(list_json(page, people_json))


async def get_user(request: web.Request) -> web.Response:
    """Tell of one user, named by id or name."""
    now_us, which = time.time_ns() // 1000, request.match_info["user"]
    return json_response(
        await context_of(request).index.read(lambda tx: _person(request, tx, find_user(tx, which), now_us))
    )


async def add_user(request: web.Request) -> web.Response:
    """Add a user with a first key, which is told now and never again."""
    said = await bodies.read_object(request, {"name", "role", "limits"})
    name, role = fields.text(said, "name"), fields.choice(said, "role", ROLES, "member")
    limits, _ = fields.limits(said)

    def work(tx: Tx, by: Actor) -> dict[str, Any]:
        made = people.add_user(tx, name, role, limits, by=by)
        person = _person(request, tx, people.find_user(tx, name), made.key.created_us)
        return {**person, "first_key": key_json(made.key, name, made.text)}

    return await _write(request, work)


async def change_user(request: web.Request) -> web.Response:
    """Change a user's role or limits, shut it out or let it in again. Admins do not demote or shut out themselves."""
    said = await bodies.read_object(request, {"role", "disabled", "limits"})
    role = fields.choice(said, "role", ROLES, None)
    disabled = fields.flag(said, "disabled")
    limits, cleared = fields.limits(said)
    which, now_us = request.match_info["user"], time.time_ns() // 1000
    if not said:
        message = "Give 'role', 'disabled' or 'limits'."
        raise MissingParameter(message, param="role")

    def work(tx: Tx, by: Actor) -> dict[str, Any]:
        user = find_user(tx, which)
        if user.id == by.user_id and (disabled or role not in {None, user.role}):
            message = "Another admin must do this: you would lock yourself out."
            raise PermissionDenied(message)
        if role is not None or limits or cleared:
            people.change_user(tx, user.name, role, limits, cleared, by=by)
        if disabled is not None:
            people.set_disabled(tx, user.name, disabled=disabled, by=by)
        return _person(request, tx, people.find_user(tx, user.name), now_us)

    return await _write(request, work)


async def delete_user(request: web.Request) -> web.Response:
    """Delete a user and all that is kept of it, but for the anonymous ledger; `confirm` is its name once more."""
    queries.check_names(request, {"confirm"})
    which, confirm = request.match_info["user"], queries.text(request, "confirm")
    if confirm is None:
        message = "Give 'confirm', the name of the user to delete for good."
        raise MissingParameter(message, param="confirm")

    def work(tx: Tx, by: Actor) -> dict[str, Any]:
        deleted = erasing.delete_user(tx, find_user(tx, which), confirm, by=by)
        return {"id": deleted.id, "object": "user", "deleted": True, "images": deleted.images}

    answer = await _write(request, work)
    context_of(request).erasing.nudge()
    return answer


async def list_keys(request: web.Request) -> web.Response:
    """List the keys of everybody, or of one user, newest first."""
    queries.check_names(request, queries.WALK | {"user"})
    walk, which = queries.walk(request, "key", "a key"), queries.text(request, "user")

    def work(tx: Tx) -> tuple[Page[StoredKey], dict[str, str]]:
        user_id = find_user(tx, which).id if which else None
        owners = {user.id: user.name for user in users.list_users(tx)}
        return walk.over(users.list_keys(tx, user_id), "key", lambda key: key.id), owners

    page, owners = await context_of(request).index.read(work)
    return json_response(list_json(page, [key_json(key, owners[key.user_id]) for key in page.items]))


async def add_key(request: web.Request) -> web.Response:
    """Give a user one more key, which is told now and never again."""
    said = await bodies.read_object(request, {"user", "name", "expires_in_s", "limits", "models"})
    which, name = fields.text(said, "user"), fields.text(said, "name", "")
    lifetime_s = fields.number(said, "expires_in_s", MAX_LIFETIME_S)
    limits, _ = fields.limits(said)
    models = fields.models(said)

    def work(tx: Tx, by: Actor) -> dict[str, Any]:
        user = find_user(tx, which)
        made = keyring.add_key(tx, user, name, lifetime_s, by=by, limits=limits, models=models or ())
        return key_json(made.key, user.name, made.text)

    return await _write(request, work)


async def change_key(request: web.Request) -> web.Response:
    """Change a key's limits, or the models that it is for."""
    said = await bodies.read_object(request, {"limits", "models"})
    limits, cleared = fields.limits(said)
    models = fields.models(said)
    if not said:
        message = "Give 'limits' or 'models'."
        raise MissingParameter(message, param="limits")

    def work(tx: Tx, by: Actor) -> dict[str, Any]:
        key = keyring.change_key(tx, _key_id(request), limits, cleared, models, by=by)
        return key_json(key, _name_of(tx, key.user_id))

    return await _write(request, work)


async def rotate_key(request: web.Request) -> web.Response:
    """Give a key a new text, told now and never again; the old one is good for `overlap_s` more (a day by itself)."""
    said = await bodies.read_object(request, {"overlap_s"})
    overlap_s = fields.number(said, "overlap_s", keyring.MAX_OVERLAP_S, least=0)

    def work(tx: Tx, by: Actor) -> dict[str, Any]:
        overlap = keyring.USUAL_OVERLAP_S if overlap_s is None else overlap_s
        made = keyring.rotate_key(tx, _key_id(request), overlap, by=by)
        return key_json(made.key, _name_of(tx, made.key.user_id), made.text)

    return await _write(request, work)


async def revoke_key(request: web.Request) -> web.Response:
    """End a key for good, everywhere within two seconds."""

    def work(tx: Tx, by: Actor) -> dict[str, Any]:
        key = keyring.revoke_key(tx, _key_id(request), by=by)
        return {"id": key.id, "object": "key", "revoked": True}

    return await _write(request, work)


async def list_acts(request: web.Request) -> web.Response:
    """List what admins did, newest first."""
    queries.check_names(request, queries.WALK | {"user", "action"})
    walk = queries.walk(request, "act", "an act")
    which, action = queries.text(request, "user"), queries.text(request, "action")

    def user_id(tx: Tx) -> str | None:
        return (
            which if which is None or is_id(which, "usr") else find_user(tx, which).id
        )  # a deleted one's, too

    def work(tx: Tx) -> Page[acts.Act]:
        return acts.page(tx, walk, user_id=user_id(tx), action=action)

    page = await context_of(request).index.read(work)
    return json_response(list_json(page, [act_json(act) for act in page.items]))


async def _write(request: web.Request, work: Callable[[Tx, Actor], dict[str, Any]]) -> web.Response:
    """Do an act of the caller's in one transaction, known in this process before the answer goes out."""
    context, by = context_of(request), Actor.of(request[USER])
    said = await context.index.write(lambda tx: work(tx, by))
    await context.directory.load()
    return json_response(said)


def _person(request: web.Request, tx: Tx, user: StoredUser, now_us: int) -> dict[str, Any]:
    (account,) = accounts.read(tx, [user.id], now_us)
    return person_json(user, account, context_of(request).settings.limits.model_dump())


def find_user(tx: Tx, which: str) -> StoredUser:
    """Find a user by id or name. Raises NotFound."""
    found = users.get_user(tx, which) if is_id(which, "usr") else users.get_user_by_name(tx, which)
    if found is None or found.is_deleted:
        message = "This user does not exist."
        raise NotFound(message)
    return found


def _name_of(tx: Tx, user_id: str) -> str | None:
    found = users.get_user(tx, user_id)
    return found.name if found else None


def _key_id(request: web.Request) -> str:
    key_id = request.match_info["key"]
    if not is_id(key_id, "key"):
        message = "This key does not exist."
        raise NotFound(message)
    return key_id
