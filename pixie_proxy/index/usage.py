"""The queries for what was spent: the ledger summed by user, key, model or day, corrections included."""

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
_GROUPS: dict[By, tuple[str, str]] = {
    "user": ("r.user_id", "c.user_id"),
    "key": ("r.key_id", "c.key_id"),
    "model": ("r.model", "r.model"),
    "day": ("r.created_us / 86400000000", "c.booked_us / 86400000000"),
}
"""What a call belongs to, and what a correction does: to the model of its call, where it is one's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one group came to. `failed` calls are free; `unknown` ones count at their hold. Money in micros.

    Corrections are in `cost_micros`, which is below nothing where a group has little else.
    """

    id: str | int | None
    """The user's or key's id, the model's name, or days since the epoch.

    None: the key of calls of a browser; whatever a correction does not name.
    """
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
    """A call that was charged for, as the bill of a provider would count it; or a correction that is not of one call.

    Such a correction has no id and no model. `corrected_micros` are in `cost_micros`.
    """

    id: str | None
    created_us: int
    model: str | None
    images: int
    state: State
    cost_micros: int
    usage: dict[str, Any] | None
    corrected_micros: int = 0


def spent(
    tx: Tx, by: By, *, since_us: int, until_us: int, user_id: str | None = None, key_id: str | None = None
) -> list[Spent]:
    """Sum the calls that were admitted in a half-open time, the dearest group first; days in their order.

    Corrections count when they are booked, as they do in the accounts.
    """
    call_group, correction_group = _GROUPS[by]

    def whose(table: str) -> str:
        return ("" if user_id is None else f" AND {table}.user_id = :user_id") + (
            "" if key_id is None else f" AND {table}.key_id = :key_id"
        )

    rows = tx.all(
        "SELECT id, sum(requests) AS requests, sum(images) AS images, sum(failed) AS failed, sum(unknown) AS unknown,"
        " sum(cost_micros) AS cost_micros, sum(held_micros) AS held_micros FROM (SELECT "
        + call_group
        + " AS id, 1 AS requests,"
        " CASE WHEN r.state <> 'failed' THEN r.images_asked ELSE 0 END AS images,"
        " CASE WHEN r.state = 'failed' THEN 1 ELSE 0 END AS failed,"
        " CASE WHEN r.state = 'unknown' THEN 1 ELSE 0 END AS unknown,"
        " coalesce(r.cost_micros, 0) AS cost_micros,"
        " CASE WHEN r.state IN ('admitted', 'sent') THEN r.hold_micros ELSE 0 END AS held_micros"
        " FROM requests r WHERE r.created_us >= :since AND r.created_us < :until"
        + whose("r")
        + " UNION ALL SELECT "
        + correction_group
        + ", 0, 0, 0, 0, c.change_micros, 0 FROM corrections c LEFT JOIN requests r ON r.id = c.request_id"
        " WHERE c.booked_us >= :since AND c.booked_us < :until"
        + whose("c")
        + ") entries GROUP BY id"
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
    """Give the calls that cost something, or may have, in the order of their admission, page by page.

    The corrections of a time that are not of one call come first.
    """
    corrections = tx.all(
        "SELECT booked_us, change_micros FROM corrections"
        " WHERE booked_us >= :since AND booked_us < :until AND request_id IS NULL",
        since=since_us,
        until=until_us,
    )
    for row in corrections:
        yield _correction(row)
    last = (since_us, "")
    while True:
        rows = tx.all(
            "SELECT id, created_us, model, images_asked, state, cost_micros, usage,"
            " (SELECT coalesce(sum(change_micros), 0) FROM corrections c WHERE c.user_id = r.user_id"
            " AND c.booked_us = r.created_us AND c.request_id = r.id) AS corrected_micros FROM requests r"
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
        cost_micros=(row["cost_micros"] or 0) + row["corrected_micros"],
        usage=None if row["usage"] is None else json.loads(row["usage"]),
        corrected_micros=row["corrected_micros"],
    )


def _correction(row: Row) -> Billed:
    micros = row["change_micros"]
    return Billed(
        id=None,
        created_us=row["booked_us"],
        model=None,
        images=0,
        state="done",
        cost_micros=micros,
        usage=None,
        corrected_micros=micros,
    )
