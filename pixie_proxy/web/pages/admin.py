"""How the proxy is, at a glance; and what admins did. For admins."""

from __future__ import annotations

import platform
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from pixie_proxy import __version__
from pixie_proxy.index import Tx, accounts, acts, history, usage, users
from pixie_proxy.index.acts import Act
from pixie_proxy.index.history import PastCall
from pixie_proxy.index.usage import Spent
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import TEAM, Page, Party, is_id
from pixie_proxy.web import queries
from pixie_proxy.web.context import USER, Context, context_of
from pixie_proxy.web.html import lasting, page, plain
from pixie_proxy.web.pages.health import lights, worst
from pixie_proxy.web.pages.meters import Purse, purse
from pixie_proxy.web.texts import t
from pixie_proxy.web.usage import total

ACTIONS = (
    *("user.add", "user.change", "user.disable", "user.enable", "user.delete"),
    *("key.add", "key.change", "key.rotate", "key.revoke", "spend.correct"),
)
"""What is written into the log of acts."""

_DAY_US = 86_400_000_000
_LATEST = 60
_MOST_FAULTS = 6
_ACTS_PER_PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    team: Purse
    lately: Spent
    calls: list[PastCall]


async def admin(request: web.Request) -> web.Response:
    """Show how the proxy is."""
    context, viewer, now_us = context_of(request), request[USER], time.time_ns() // 1000
    since_us = now_us - _DAY_US

    def work(tx: Tx) -> _Seen:
        (team,) = accounts.read(tx, [TEAM], now_us)
        return _Seen(
            team=purse(Party("team", TEAM, viewer.team_limits), team, is_whole=True),
            lately=total(usage.spent(tx, "model", since_us=since_us, until_us=now_us + 1)),
            calls=history.page(tx, Walk(since_us=since_us, limit=_LATEST)).items,
        )

    seen = await context.index.read(work)
    found = await lights(context, seen.calls, seen.team.account)
    return page(
        request,
        "admin.html",
        lights=found,
        level=worst(found),
        team=seen.team,
        lately=seen.lately,
        faults=[call for call in seen.calls if call.state in {"failed", "unknown"}][:_MOST_FAULTS],
        refusals=_refusals(context),
        facts=_facts(context),
        now_us=now_us,
    )


async def log_of_acts(request: web.Request) -> web.Response:
    """List what admins did, newest first."""
    said = {name: value for name, value in request.query.items() if value}
    after, before = (queries.cursor(request, name, "act", "an act") for name in ("after", "before"))
    walk = Walk(after=after, before=before if after is None else None, limit=_ACTS_PER_PAGE)
    action = next((each for each in ACTIONS if each == said.get("action")), None)
    who = said.get("user")

    def work(tx: Tx) -> tuple[Page[Act], list[str]]:
        people = [user.name for user in users.list_users(tx)]
        user_id = who if who is None or is_id(who, "usr") else None
        if who is not None and user_id is None:
            named = users.get_user_by_name(tx, who)
            if named is None:
                return Page(items=[], has_more=False), people
            user_id = named.id
        return acts.page(tx, walk, user_id=user_id, action=action), people

    found, people = await context_of(request).index.read(work)
    return page(
        request,
        "acts.html",
        acts=[(act, _told(act.details)) for act in found.items],
        people=people,
        actions=ACTIONS,
        chosen={"user": who, "action": action},
        **queries.ends(walk, found),
    )


def _told(details: Mapping[str, Any]) -> list[str]:
    """Write what an act changed, a line for each thing; what is empty tells nothing."""
    return [
        f"{name}: {_word(value['from'])} → {_word(value['to'])}"
        if isinstance(value, dict) and value.keys() == {"from", "to"}
        else f"{name}: {_word(value)}"
        for name, value in details.items()
        if value not in (None, {}, [])
    ]


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_word(each)}" for name, each in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return t("admin.none") if value is None else plain(value)


def _refusals(context: Context) -> list[tuple[str, int]]:
    """Give why requests were refused or failed since the start, the most frequent reason first."""
    numbers = context.metrics
    counts = {**numbers.refusals.by_label(), **numbers.failures.by_label()}
    return sorted(((why, int(n)) for why, n in counts.items() if n), key=lambda each: -each[1])


def _facts(context: Context) -> list[tuple[str, str]]:
    """Tell what runs here. The names are texts of the page."""
    settings, numbers = context.settings, context.metrics
    return [
        ("version", __version__),
        (
            "python",
            f"{platform.python_version()}, aiohttp {aiohttp.__version__}, SQLite {sqlite3.sqlite_version}",
        ),
        ("up", lasting(time.time() - context.started)),
        ("address", context.links.base_url),
        ("upstream", settings.upstream.base_url),
        ("model", settings.models.default),
        ("requests", f"{numbers.requests_in_flight.value:.0f}"),
        ("upstream_calls", f"{numbers.upstream_in_flight.value:.0f}"),
    ]
