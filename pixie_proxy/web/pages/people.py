"""People and their keys, for admins: who they are, what they may and what they spend.

These pages only show. What is changed there, a script changes through `/v1/admin/…`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from pixie_proxy.config import LimitSettings
from pixie_proxy.index import Tx, accounts, erasure, users
from pixie_proxy.index.users import StoredKey, StoredUser
from pixie_proxy.records import ROLES
from pixie_proxy.web.admin import find_user
from pixie_proxy.web.context import context_of
from pixie_proxy.web.html import page
from pixie_proxy.web.pages.meters import Purse, party_of, purse

LIMITS = tuple(LimitSettings.model_fields)
LIFETIMES_DAYS = (7, 30, 90, 365)
OVERLAPS_S = (0, 3600, 86_400, 604_800)

_PER_PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user with what counts for it."""

    user: StoredUser
    purse: Purse
    keys: Sequence[StoredKey]

    @property
    def last_used_us(self) -> int | None:
        """When one of its keys was last used, as far as that was noted."""
        return max((key.last_used_us for key in self.keys if key.last_used_us), default=None)


async def people(request: web.Request) -> web.Response:
    """List everybody by name, or those in whose names a text is."""
    text, after = request.query.get("q", "").strip(), request.query.get("after", "")
    general, now_us = context_of(request).settings.limits, time.time_ns() // 1000

    def work(tx: Tx) -> tuple[list[Person], int, bool]:
        everybody = users.list_users(tx)
        fitting = [one for one in everybody if text.casefold() in one.name.casefold() and one.name > after]
        shown = [_person(tx, one, general, now_us) for one in fitting[:_PER_PAGE]]
        return shown, len(everybody), len(fitting) > _PER_PAGE

    found, count, has_more = await context_of(request).index.read(work)
    return page(
        request,
        "people.html",
        people=found,
        count=count,
        text=text,
        more={"q": text, "after": found[-1].user.name} if has_more else None,
        roles=ROLES,
        limits=LIMITS,
        general=general.model_dump(),
    )


async def person(request: web.Request) -> web.Response:
    """Show one of them with all keys."""
    context, now_us = context_of(request), time.time_ns() // 1000

    def work(tx: Tx) -> tuple[Person, int]:
        user = find_user(tx, request.match_info["user"])
        return _person(tx, user, context.settings.limits, now_us), erasure.count_images(tx, user.id)

    found, images = await context.index.read(work)
    models = context.catalog.listed()
    kept = {model for key in found.keys for model in key.models}
    return page(
        request,
        "person.html",
        person=found,
        images=images,
        keys=sorted(found.keys, key=lambda key: (key.revoked_us is not None, key.id)),
        roles=ROLES,
        limits=LIMITS,
        general=context.settings.limits.model_dump(),
        models=models,
        named_models=[*models, *sorted(kept - set(models))],
        lifetimes_days=LIFETIMES_DAYS,
        overlaps_s=OVERLAPS_S,
        now_us=now_us,
    )


def _person(tx: Tx, user: StoredUser, general: LimitSettings, now_us: int) -> Person:
    (account,) = accounts.read(tx, [user.id], now_us)
    return Person(
        user=user,
        purse=purse(party_of(user, general), account, is_whole=True),
        keys=users.list_keys(tx, user.id),
    )
