"""Read the query of an address: known names only, each checked, each fault named."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, TypeVar

from aiohttp import web

from pixie_proxy.errors import InvalidValue
from pixie_proxy.index.walking import Order, Walk
from pixie_proxy.records import IdKind, Page, is_id

WALK = frozenset({"limit", "after", "before", "order", "since", "until"})
"""The names that `walk` reads."""

ORDERS: tuple[Order, ...] = ("asc", "desc")
DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_TEXT = 256
MAX_EPOCH_S = 253_402_300_799  # the end of the year 9999

T = TypeVar("T", bound=str)


def check_names(request: web.Request, known: Collection[str]) -> None:
    """Refuse names that mean nothing here: a misspelt filter must not answer with everything."""
    for name in request.query:
        if name not in known:
            message = f"Unknown query parameter: '{name}'. Known here: {', '.join(sorted(known))}."
            raise InvalidValue(message, param=name)


def text(request: web.Request, name: str, most: int = MAX_TEXT) -> str | None:
    """Read a text."""
    value = request.query.get(name)
    if value is not None and not 1 <= len(value) <= most:
        message = f"'{name}' must have 1 to {most} characters."
        raise InvalidValue(message, param=name)
    return value


def choice(request: web.Request, name: str, choices: Collection[T]) -> T | None:
    """Read one of several words."""
    value = request.query.get(name)
    if value is None:
        return None
    for known in choices:
        if value == known:
            return known
    message = f"'{name}' must be one of {', '.join(choices)}."
    raise InvalidValue(message, param=name)


def limit(request: web.Request) -> int:
    """Read the size of a page."""
    value = request.query.get("limit", str(DEFAULT_LIMIT))
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MAX_LIMIT):
        message = f"'limit' must be an integer from 1 to {MAX_LIMIT}."
        raise InvalidValue(message, param="limit")
    return int(value)


def walk(request: web.Request, kind: IdKind, what: str) -> Walk:
    """Read which part of a list of `what` is asked for."""
    after, before = cursor(request, "after", kind, what), cursor(request, "before", kind, what)
    if after and before:
        message = "Give 'after' or 'before', not both."
        raise InvalidValue(message, param="before")
    return Walk(
        since_us=time_us(request, "since"),
        until_us=time_us(request, "until"),
        after=after,
        before=before,
        order=choice(request, "order", ORDERS) or "desc",
        limit=limit(request),
    )


def cursor(request: web.Request, name: str, kind: IdKind, what: str) -> str | None:
    """Read a cursor: the id of `what`, which need not exist any more."""
    value = request.query.get(name)
    if value is not None and not is_id(value, kind):
        message = f"'{name}' must be the id of {what}, as a list gave it."
        raise InvalidValue(message, param=name)
    return value


def ends(walk: Walk, page: Page[Any]) -> dict[str, Any]:
    """Give the cursors that lead on from a page of the newest first: `older` and `newer`, None where it ends."""
    ids = [item.id for item in page.items]
    has_older = page.has_more if walk.before is None else True
    has_newer = walk.after is not None if walk.before is None else page.has_more
    return {
        "older": ids[-1] if ids and has_older else None,
        "newer": ids[0] if ids and has_newer else None,
    }


def time_us(request: web.Request, name: str) -> int | None:
    """Read a point in time: epoch seconds or ISO-8601 (UTC unless it says otherwise; a bare date is its start)."""
    value = request.query.get(name)
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None:
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = moment.timestamp()
        else:
            seconds = -1.0
    if not 0 <= seconds <= MAX_EPOCH_S:
        message = f"'{name}' must be seconds since 1970 or a time such as 2026-11-21T12:00:00Z."
        raise InvalidValue(message, param=name)
    return round(seconds * 1_000_000)
