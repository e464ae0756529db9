"""The queries for what was spent: the ledger summed by user, key, model or day."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pixie_proxy.index import Row, Tx
from pixie_proxy.records import State

By = Literal["user", "key", "model", "day"]

_PAGE = 200
_DAY_US = 86_400_000_000
_GROUPS: dict[By, str] = {
    "user": "r.user_id",
    "key": "r.key_id",
    "model": "r.model",
    "day": "r.created_us / 86400000000",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the calls of one group came to. `failed` ones are free; `unknown` ones count at their hold. In micros."""

    id: str | int | None
    """The user's or key's id, the model's name, or days since the epoch; None of the calls of a browser."""
    requests: int = 0
    images: int = 0
    """What was asked for by calls that did not fail."""
    failed: int = 0
    unknown: int = 0
    cost_micros: int = 0
    held_micros: int = 0
    """Of calls that run now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """A call that was charged for, as the bill of a provider would count it."""

    id: str
    created_us: int
    model: str
    images: int
    state: State
    cost_micros: int
    usage: dict[str, Any] | None
    flags: tuple[str, ...]


def spent(
    tx: Tx, by: By, *, since_us: int, until_us: int, user_id: str | None = None, key_id: str | None = None
) -> list[Spent]:
    """Sum the calls that were admitted in a half-open time, the dearest group first; days in their order."""
    group = _GROUPS[by]
    rows = tx.all(
        "SELECT " + group + " AS id, count(*) AS requests,"
        " sum(CASE WHEN r.state <> 'failed' THEN r.images_asked ELSE 0 END) AS images,"
        " sum(CASE WHEN r.state = 'failed' THEN 1 ELSE 0 END) AS failed,"
        " sum(CASE WHEN r.state = 'unknown' THEN 1 ELSE 0 END) AS unknown,"
        " sum(CASE WHEN r.cost_micros IS NULL THEN 0 ELSE r.cost_micros END) AS cost_micros,"
        " sum(CASE WHEN r.state IN ('admitted', 'sent') THEN r.hold_micros ELSE 0 END) AS held_micros"
        " FROM requests r WHERE r.created_us >= :since AND r.created_us < :until"
        + ("" if user_id is None else " AND r.user_id = :user_id")
        + ("" if key_id is None else " AND r.key_id = :key_id")
        + " GROUP BY "
        + group
        + (" ORDER BY id" if by == "day" else " ORDER BY cost_micros DESC, requests DESC, id"),
        since=since_us,
        until=until_us,
        user_id=user_id,
        key_id=key_id,
    )
    return [_spent(row) for row in rows]


def names(tx: Tx, by: By) -> dict[str, tuple[str, str]]:
    """Name what the groups' ids mean: (user, "") by user id, or (user, key's name) by key id."""
    if by == "user":
        return {row["id"]: (row["name"], "") for row in tx.all("SELECT id, name FROM users")}
    if by == "key":
        rows = tx.all("SELECT k.id, u.name AS owner, k.name FROM keys k JOIN users u ON u.id = k.user_id")
        return {row["id"]: (row["owner"], row["name"]) for row in rows}
    return {}


def billed(tx: Tx, *, since_us: int, until_us: int) -> Iterator[Billed]:
    """Give the calls that cost something, or may have, in the order of their admission, page by page."""
    last = (since_us, "")
    while True:
        rows = tx.all(
            "SELECT id, created_us, model, images_asked, state, cost_micros, usage, flags FROM requests"
            " WHERE created_us >= :from AND (created_us > :from OR id > :id) AND created_us < :until"
            " AND state IN ('done', 'unknown') ORDER BY created_us, id LIMIT :page",
            **{"from": last[0]},
            id=last[1],
            until=until_us,
            page=_PAGE,
        )
        for row in rows:
            yield _billed(row)
        if len(rows) < _PAGE:
            return
        last = (rows[-1]["created_us"], rows[-1]["id"])


def day_start_us(days: int) -> int:
    """Give the beginning of a day, counted since the epoch."""
    return days * _DAY_US


def _spent(row: Row) -> Spent:
    return Spent(**dict(row))


def _billed(row: Row) -> Billed:
    return Billed(
        id=row["id"],
        created_us=row["created_us"],
        model=row["model"],
        images=row["images_asked"],
        state=row["state"],
        cost_micros=row["cost_micros"] or 0,
        usage=None if row["usage"] is None else json.loads(row["usage"]),
        flags=tuple(json.loads(row["flags"])),
    )
