"""What was spent, for whom and on what, as charts with tables; and the calls that it was spent on.

The figures are those of `GET /v1/usage`, `/v1/credits/balance` and `/v1/requests`, from the same functions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlencode

from aiohttp import web

from pixie_proxy.errors import NotFound
from pixie_proxy.index import Tx, accounts, users
from pixie_proxy.index import usage as sums
from pixie_proxy.index.history import PastCall
from pixie_proxy.index.usage import By, Spent
from pixie_proxy.index.walking import Walk
from pixie_proxy.records import TEAM, Page, Party
from pixie_proxy.web import queries
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.html import money, page
from pixie_proxy.web.ledger import STATES, calls_of
from pixie_proxy.web.pages.charts import Chart, Point, bar_chart, percent
from pixie_proxy.web.pages.days import CHOICES, Days, day_of, month_of, read_days
from pixie_proxy.web.pages.meters import Purse, party_of, purse
from pixie_proxy.web.texts import t
from pixie_proxy.web.usage import spent_of, total

FLAGS = frozenset({"not_kept", "over_hold", "unpriced", "no_usage", "corrected", "damaged", "salvaged"})
"""What the ledger may say of a call that has a text here."""

_BYS: tuple[By, ...] = ("day", "model", "key")
_TEAM_BYS: tuple[By, ...] = ("day", "model", "user", "key")
_CALLS_PER_PAGE = 20
_MOST_RANKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A group of calls by the name that people know it by. `share` of the whole cost is in percent."""

    name: str
    spent: Spent
    share: float = 0.0
    owner: str | None = None
    """Whose page tells more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The cost of a time by one of its sides. `csv` leads to the same as a file."""

    by: By
    rows: Sequence[Row]
    csv: str

    @property
    def ranks(self) -> Sequence[Row]:
        """Give the dearest, which are drawn."""
        return self.rows[:_MOST_RANKS]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What the index tells in one look, so that all figures agree."""

    purses: list[Purse]
    found: dict[By, list[Spent]]
    names: dict[By, dict[str, tuple[str, str]]]
    calls: Page[PastCall]
    people: list[str]


async def usage(request: web.Request) -> web.Response:
    """Show what was spent, for whom and on what, as charts with tables."""
    viewer = request[USER]
    said = {name: value for name, value in request.query.items() if value}
    days = read_days(said, datetime.now(UTC).date())
    owner = said.get("owner") if viewer.is_admin else said.get("owner", "me")
    state = next((each for each in STATES if each == said.get("state")), None)
    bys = _TEAM_BYS if viewer.is_admin and owner is None else _BYS
    after, before = (queries.cursor(request, name, "req", "a request") for name in ("after", "before"))
    walk = Walk(
        since_us=days.since_us,
        until_us=days.until_us,
        after=after,
        before=before if after is None else None,
        limit=_CALLS_PER_PAGE,
    )

    def work(tx: Tx) -> _Seen:
        return _Seen(
            purses=_purses(request, tx, owner),
            found={by: spent_of(tx, viewer, by, owner, days.since_us, days.until_us) for by in bys},
            names={by: sums.names(tx, by) for by in bys},
            calls=calls_of(tx, viewer, walk, owner, state=state),
            people=[user.name for user in users.list_users(tx)] if viewer.is_admin else [],
        )

    seen = await context_of(request).index.read(work)
    chosen = {**days.query, "owner": owner if viewer.is_admin else None}
    return page(
        request,
        "usage.html",
        days=days,
        choices=CHOICES,
        owner=owner,
        people=seen.people,
        purses=seen.purses,
        total=total(seen.found["day"]),
        chart=_chart(_by_day(days, seen.found["day"])),
        by_day=Breakdown(by="day", rows=_by_day(days, seen.found["day"]), csv=_csv("day", days, owner)),
        breakdowns=[
            Breakdown(by=by, rows=_rows(by, seen.found[by], seen.names[by]), csv=_csv(by, days, owner))
            for by in bys[1:]
        ],
        calls=seen.calls.items,
        states=STATES,
        state=state,
        chosen=chosen,
        known_flags=FLAGS,
        anchor="#ledger",
        **queries.ends(walk, seen.calls),
    )


def _purses(request: web.Request, tx: Tx, owner: str | None) -> list[Purse]:
    """Give the budgets of whoever the page is about, and those beside which the viewer's own calls must fit."""
    viewer, settings = request[USER], context_of(request).settings
    if owner is None:
        parties = [Party("team", TEAM, viewer.team_limits)]
    elif users.resolve_owner(tx, owner, viewer.id) == viewer.id:
        team, user, *key = viewer.parties
        parties = [user, team, *key]
    else:
        found = users.get_user_by_name(tx, owner) if viewer.is_admin else None
        if found is None:
            message = "There is nobody of this name."
            raise NotFound(message)
        parties = [party_of(found, settings.limits)]
    stored = accounts.read(tx, [party.account for party in parties], time.time_ns() // 1000)
    purses = [
        purse(party, account, is_whole=party is parties[0])
        for party, account in zip(parties, stored, strict=True)
    ]
    return [each for each in purses if each.meters]


def _by_day(days: Days, found: Sequence[Spent]) -> list[Row]:
    """Give every day its row, or every month where there are many days; days without calls too."""
    groups: dict[object, list[Spent]] = {day: [] for day in days.each()}
    for spent in found:
        day = day_of(int(spent.id or 0))
        groups[month_of(day) if days.are_many else day].append(spent)
    form = "%b %Y" if days.are_many else "%-d %b"
    return [Row(name=format(day, form), spent=total(group)) for day, group in groups.items()]


def _chart(rows: Sequence[Row]) -> Chart:
    return bar_chart(
        [
            Point(
                micros=row.spent.cost_micros,
                name=row.name,
                says=t("usage.bar", day=row.name, cost=money(row.spent.cost_micros), n=row.spent.images),
            )
            for row in rows
        ]
    )


def _rows(by: By, found: Sequence[Spent], names: dict[str, tuple[str, str]]) -> list[Row]:
    """Name groups, the dearest first."""
    whole = sum(max(0, spent.cost_micros) for spent in found)
    return [
        replace(_named(by, spent, names), share=percent(spent.cost_micros, whole) if whole else 0.0)
        for spent in found
    ]


def _named(by: By, spent: Spent, names: dict[str, tuple[str, str]]) -> Row:
    if spent.id is None:
        return Row(name=t(f"usage.none.{by}"), spent=spent)
    if by == "model":
        return Row(name=str(spent.id), spent=spent)
    user, key = names.get(str(spent.id), (t("usage.gone"), ""))
    if by == "user":
        return Row(name=user, spent=spent, owner=user if str(spent.id) in names else None)
    return Row(name=f"{user} · {key or str(spent.id)[-6:]}", spent=spent)


def _csv(by: By, days: Days, owner: str | None) -> str:
    whose = {} if owner is None else {"owner": owner}
    return "/v1/usage?" + urlencode({"by": by, **days.api_query, **whose, "format": "csv"})
