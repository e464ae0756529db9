"""Change what people may still spend: corrections of the ledger and top-ups, each one transaction.

The ledger's rows stay as they are. A correction is an entry of its own, which counts in every account that a call would
have moved, on the day and in the month that it names.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from pixie_proxy.accounts import people
from pixie_proxy.errors import InvalidValue, NotFound
from pixie_proxy.index import Tx, accounts, corrections, ledger
from pixie_proxy.index.ledger import LedgerRow
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import MOST, TEAM, Correction, accounts_of, new_id, period

_OPEN = frozenset({"admitted", "sent"})


def micros_of(usd: str) -> int:
    """Read an amount, which may be below nothing. Raises InvalidValue for what is none, or finer than a micro."""
    try:
        micros = Decimal(usd) * 1_000_000
    except InvalidOperation:
        micros = Decimal(0)
    whole = int(micros) if micros.is_finite() and abs(micros) < MOST * 1_000_000 else 0
    if whole == 0 or whole != micros:
        message = f"{usd!r} is no amount in USD: up to six digits behind the point, and not 0"
        raise InvalidValue(message, param="usd")
    return whole


def correct(
    tx: Tx, *, change_micros: int, reason: str, name: str | None, request_id: str | None, day: date | None
) -> Correction:
    """Book that a user (None: the team alone) has spent more, or less; of one call, or on a day, which is today's.

    Raises InvalidValue where more would come back than was spent, NotFound.
    """
    now_us = time.time_ns() // 1000
    row = None if request_id is None else _ended_call(tx, request_id)
    user_id = people.find_user(tx, name).id if name is not None else row.call.user_id if row else None
    if row is not None and user_id != row.call.user_id:
        message = f"request {request_id} is not of '{name}'"
        raise InvalidValue(message, param="request")
    key_id = row.call.key_id if row else None
    correction = Correction(
        id=new_id("cor"),
        user_id=user_id,
        key_id=key_id,
        request_id=request_id,
        change_micros=change_micros,
        reason=reason,
        booked_us=row.call.created_us if row else now_us if day is None else _noon_us(day),
        created_us=now_us,
    )
    subjects = (TEAM,) if user_id is None else accounts_of(user_id, key_id)
    accounts.lock(tx, subjects)
    if (
        row is not None
        and (row.cost_micros or 0) + corrections.of_request(tx, row.call.id) + change_micros < 0
    ):
        raise _too_much("the request has cost")
    _check_room(tx, subjects, correction)
    corrections.insert(tx, correction)
    accounts.move(tx, subjects, period(correction.booked_us), spent_micros=change_micros)
    return correction


def top_up(tx: Tx, name: str, micros: int, general_usd: float | None) -> StoredUser:
    """Raise what a user may spend ever; `general_usd` is what it may where it has no limit of its own.

    Raises InvalidValue where there is nothing to raise.
    """
    had_usd = people.find_user(tx, name).limits.get("usd_total", general_usd)
    if had_usd is None:
        message = f"'{name}' may spend without end: first give a limit (pixie user set {name} --usd-total X)"
        raise InvalidValue(message, param="name")
    total_micros = round(had_usd * 1_000_000) + micros
    if micros < 0 or total_micros >= MOST * 1_000_000:
        message = "a top-up is more than 0 (to take money away: pixie user set NAME --usd-total X)"
        raise InvalidValue(message, param="usd")
    return people.change_user(tx, name, None, {"usd_total": total_micros / 1_000_000}, frozenset())


def _ended_call(tx: Tx, request_id: str) -> LedgerRow:
    row = ledger.get(tx, request_id)
    if row is None:
        message = f"there is no request '{request_id}'"
        raise NotFound(message, param="request")
    if row.state in _OPEN:
        message = "the request is still under way: what it costs is not known yet"
        raise InvalidValue(message, param="request")
    return row


def _check_room(tx: Tx, subjects: tuple[str, ...], correction: Correction) -> None:
    """See that no account falls below nothing, neither for good nor in a day or month that it counts now."""
    booked = period(correction.booked_us)
    for account in accounts.read(tx, subjects, correction.created_us):
        for spent_micros, when, counts in (
            (account.spent_life_micros, "in total", True),
            (account.spent_month_micros, f"in {account.month}", account.month == booked["month"]),
            (account.spent_day_micros, f"on {account.day}", account.day == booked["day"]),
        ):
            if counts and spent_micros + correction.change_micros < 0:
                raise _too_much(f"was spent {when}", spent_micros)


def _too_much(what: str, spent_micros: int | None = None) -> InvalidValue:
    told = (
        ""
        if spent_micros is None
        else f" (${spent_micros / 1e6:.6f}); name the day that it belongs to (--date)"
    )
    return InvalidValue(f"that is more than {what}{told}", param="usd")


def _noon_us(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()) * 1_000_000
