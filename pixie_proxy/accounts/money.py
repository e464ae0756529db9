"""Change what people may still spend: corrections of the ledger and top-ups, each one transaction.

The ledger's rows stay as they are. A correction is an entry of its own, which counts in every account that a call would
have moved, on the day and in the month that it names.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from pixie_proxy.accounts import people
from pixie_proxy.accounts.acting import COMMAND_LINE, Actor, note
from pixie_proxy.accounts.version import raise_version
from pixie_proxy.errors import InvalidValue, NotFound
from pixie_proxy.index import Tx, accounts, corrections, ledger
from pixie_proxy.index.ledger import LedgerRow
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import MOST, Correction, new_id, period

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
    tx: Tx,
    *,
    change_micros: int,
    reason: str,
    name: str | None,
    request_id: str | None = None,
    day: date | None = None,
    now_us: int,
    by: Actor = COMMAND_LINE,
) -> Correction:
    """Book that a user (None: the team alone) has spent more, or less; of one call, or on a day, which is today's.

    Raises InvalidValue where more would come back than was spent, NotFound.
    """
    row = None if request_id is None else _ended_call(tx, request_id)
    user_id = people.find_user(tx, name).id if name is not None else row.call.user_id if row else None
    if row is not None and user_id != row.call.user_id:
        message = f"request {request_id} is not of '{name}'"
        raise InvalidValue(message, param="request")
    correction = Correction(
        id=new_id("cor"),
        user_id=user_id,
        key_id=row.call.key_id if row else None,
        request_id=request_id,
        change_micros=change_micros,
        reason=reason,
        booked_us=row.call.created_us if row else now_us if day is None else _noon_us(day),
        created_us=now_us,
    )
    accounts.lock(tx, correction.accounts)
    if row is not None:
        row = _ended_call(tx, row.call.id)  # as it is now that nobody settles it
        _see_that(corrections.of_request(tx, row.call.id) + (row.cost_micros or 0), change_micros, "for it")
    booked = period(correction.booked_us)
    for subject in correction.accounts:
        _see_that(
            accounts.spent(tx, subject, booked["day"])[0], change_micros, f"on {booked['day']} (--date)"
        )
    corrections.insert(tx, correction)
    accounts.move(tx, correction.accounts, booked, spent_micros=change_micros)
    told = {"correction": correction.id, "usd": change_micros / 1_000_000, "request": request_id}
    note(tx, by, "spend.correct", user_id=user_id, key_id=correction.key_id, details=told)
    return correction


def top_up(tx: Tx, name: str, micros: int, general_usd: float | None) -> StoredUser:
    """Raise what a user may spend ever; `general_usd` is what it may where it has no limit of its own.

    Raises InvalidValue where there is nothing to raise.
    """
    raise_version(tx)  # nobody else raises it meanwhile
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


def _see_that(spent_micros: int, change_micros: int, when: str) -> None:
    """Refuse to give back what was not spent: no account falls below nothing, on no day."""
    if spent_micros + change_micros < 0:
        message = f"that is more than was spent {when}: ${spent_micros / 1e6:.6f}"
        raise InvalidValue(message, param="usd")


def _noon_us(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()) * 1_000_000
