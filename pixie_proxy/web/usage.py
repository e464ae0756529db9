"""What was spent, by user, key, model or day, as JSON and as CSV. One's own; admins see everybody's."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable
from typing import Any, Literal, get_args

from aiohttp import web

from pixie_proxy.errors import InvalidValue
from pixie_proxy.index import Tx, usage, users
from pixie_proxy.index.usage import By, Spent
from pixie_proxy.records import User, bounds, period
from pixie_proxy.web import queries
from pixie_proxy.web.context import USER, context_of
from pixie_proxy.web.gallery import json_response
from pixie_proxy.web.wire.money import spent_json

_BYS: tuple[By, ...] = get_args(By)
FORMATS: tuple[Literal["json", "csv"], ...] = ("json", "csv")
_NAMES = frozenset({"by", "since", "until", "owner", "format"})
_SUMS = ("requests", "images", "failed", "unknown", "cost_micros", "held_micros")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def get_usage(request: web.Request) -> web.Response:
    """Sum the ledger over a time: this calendar month, unless it is said. A call counts where it was admitted."""
    viewer = request[USER]
    queries.check_names(request, _NAMES)
    by = queries.choice(request, "by", _BYS) or "day"
    owner = queries.text(request, "owner")
    now_us = time.time_ns() // 1000
    since_us = queries.time_us(request, "since")
    since_us = bounds(period(now_us)["month"])[0] if since_us is None else since_us
    until_us = queries.time_us(request, "until") or now_us + 1
    if since_us >= until_us:
        message = "'since' must be before 'until'."
        raise InvalidValue(message, param="since")

    def work(tx: Tx) -> tuple[list[Spent], dict[str, tuple[str, str]]]:
        return spent_of(tx, viewer, by, owner, since_us, until_us), usage.names(tx, by)

    found, names = await context_of(request).index.read(work)
    rows = [spent_json(by, each, names) for each in found]
    if queries.choice(request, "format", FORMATS) == "csv":
        return _csv(by, rows)
    return json_response(
        {
            "object": "usage",
            "by": by,
            "since": since_us // 1_000_000,
            "until": -(-until_us // 1_000_000),
            "currency": "usd",
            "data": rows,
            "total": spent_json(None, total(found), {}),
        }
    )


def spent_of(tx: Tx, viewer: User, by: By, owner: str | None, since_us: int, until_us: int) -> list[Spent]:
    """Sum the calls of `owner` in a half-open time; without one, of everybody for an admin and of `viewer` else."""
    user_id = users.resolve_owner(tx, owner, viewer.id)
    if not viewer.is_admin:
        if owner is not None and user_id != viewer.id:
            return []  # just as for a name that nobody has
        user_id = viewer.id
    elif owner is not None and user_id is None:
        return []
    return usage.spent(tx, by, since_us=since_us, until_us=until_us, user_id=user_id)


def total(found: Iterable[Spent]) -> Spent:
    """Add groups up."""
    groups = list(found)
    return Spent(id=None, **{name: sum(getattr(each, name) for each in groups) for name in _SUMS})


def _csv(by: By, rows: list[dict[str, Any]]) -> web.Response:
    """Write the rows as a table for spreadsheets, which would run what looks like a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    head = list(spent_json(by, Spent(id=None), {}))
    writer.writerow(head)
    writer.writerows([[_cell(row[name]) for name in head] for row in rows])
    return web.Response(
        text=text.getvalue(),
        content_type="text/csv",
        charset="utf-8",
        headers={
            "Cache-Control": "private, no-store",
            "Vary": "Authorization, Cookie",
            "Content-Disposition": f'attachment; filename="usage-by-{by}.csv"',
        },
    )


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
