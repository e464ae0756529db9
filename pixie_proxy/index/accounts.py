"""The queries for accounts: what each subject (the team, a user, a key) has under way, holds and has spent.

What one call moves, it moves in all of its accounts at once (`records.accounts_of`). The ledger is what counts: an
account is the sum of its rows and its corrections, kept beside them so that a limit costs one look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pixie_proxy.index import Tx
from pixie_proxy.records import TEAM, Account, Period, bounds, id_floor, period

_MOST = 3
"""Accounts that a call has."""
_READ = tuple(
    "SELECT subject, requests_tat_us, images_tat_us, in_flight, day, spent_day_micros, images_day, month,"
    " spent_month_micros, spent_life_micros, held_micros FROM accounts WHERE subject IN ("
    + ", ".join(f":subject{at}" for at in range(count))
    + ")"
    for count in range(_MOST + 1)
)
_MADE = tuple(
    "INSERT INTO accounts (subject) VALUES "
    + ", ".join(f"(:subject{at})" for at in range(count))
    + " ON CONFLICT (subject) DO UPDATE SET "
    for count in range(_MOST + 1)
)
"""Change accounts, each made if need be: in their order, and in half the time that an UPDATE … IN takes."""

_MOVE = (
    "in_flight = CASE WHEN accounts.in_flight + :slots > 0 THEN accounts.in_flight + :slots ELSE 0 END,"
    " held_micros = CASE WHEN accounts.held_micros + :held > 0 THEN accounts.held_micros + :held ELSE 0 END,"
    " images_day = CASE WHEN accounts.day <> :day THEN accounts.images_day"
    " WHEN accounts.images_day + :images > 0 THEN accounts.images_day + :images ELSE 0 END,"
    " spent_day_micros = CASE WHEN accounts.day <> :day THEN accounts.spent_day_micros"
    " WHEN accounts.spent_day_micros + :spent > 0 THEN accounts.spent_day_micros + :spent ELSE 0 END,"
    " spent_month_micros = CASE WHEN accounts.month <> :month THEN accounts.spent_month_micros"
    " WHEN accounts.spent_month_micros + :spent > 0 THEN accounts.spent_month_micros + :spent ELSE 0 END,"
    " spent_life_micros = CASE WHEN accounts.spent_life_micros + :spent > 0"
    " THEN accounts.spent_life_micros + :spent ELSE 0 END"
)
_DAY_US = 86_400_000_000


def lock(tx: Tx, subjects: Sequence[str]) -> None:
    """Keep every other transaction off these accounts until this one ends; those that are not there are made."""
    tx.run(_MADE[len(subjects)] + "in_flight = accounts.in_flight", **_named(subjects))


def lock_and_read(tx: Tx, subjects: Sequence[str], now_us: int) -> list[Account]:
    """Lock accounts and give them as of now; a day or month that has come is written down."""
    lock(tx, subjects)
    found = _stored(tx, subjects)
    now = period(now_us)
    for at, account in enumerate(found):
        if (account.day, account.month) != (now["day"], now["month"]):
            found[at] = _as_of(tx, account, now)
            save(tx, found[at])
    return found


def read(tx: Tx, subjects: Sequence[str], now_us: int) -> list[Account]:
    """Give accounts as of now, in their order; one that was never used is empty.

    Where another day or month has come since the last use, it begins with what the ledger books in it. That is nothing,
    unless the clock was set: then a budget that was spent stays spent. What is held runs on.
    """
    now = period(now_us)
    return [_as_of(tx, account, now) for account in _stored(tx, subjects)]


def get(tx: Tx, subject: str) -> Account:
    """Give an account as it was last written."""
    (account,) = _stored(tx, [subject])
    return account


def save(tx: Tx, account: Account) -> None:
    """Write back an account that this transaction has locked."""
    tx.run(
        "UPDATE accounts SET requests_tat_us = :requests_tat_us, images_tat_us = :images_tat_us,"
        " in_flight = :in_flight, day = :day, spent_day_micros = :spent_day_micros, images_day = :images_day,"
        " month = :month, spent_month_micros = :spent_month_micros, spent_life_micros = :spent_life_micros,"
        " held_micros = :held_micros WHERE subject = :subject",
        subject=account.subject,
        requests_tat_us=account.requests_tat_us,
        images_tat_us=account.images_tat_us,
        in_flight=account.in_flight,
        day=account.day,
        spent_day_micros=account.spent_day_micros,
        images_day=account.images_day,
        month=account.month,
        spent_month_micros=account.spent_month_micros,
        spent_life_micros=account.spent_life_micros,
        held_micros=account.held_micros,
    )


def move(
    tx: Tx,
    subjects: Sequence[str],
    booked: Period,
    *,
    slots: int = 0,
    held_micros: int = 0,
    spent_micros: int = 0,
    images: int = 0,
) -> None:
    """Add to what accounts say that this transaction has locked, or take from it, but never to below nothing.

    `booked` is the period that the call was admitted in. An account that is in another one by now, or has none yet,
    keeps its day and month as they are.
    """
    tx.run(
        _MADE[len(subjects)] + _MOVE,
        **_named(subjects),
        **booked,
        slots=slots,
        held=held_micros,
        spent=spent_micros,
        images=images,
    )


def spent(tx: Tx, subject: str, day_or_month: str) -> tuple[int, int]:
    """Add up what the ledger books for a subject in a day or month: micros, and images that were not refused.

    Open calls have cost nothing so far. A request's id is made when it comes, so its time is never behind that of its
    admission, and at most so long before it as an upload takes.
    """
    begin_us, end_us = bounds(day_or_month)
    told = {"subject": subject, "begin": begin_us, "end": end_us}
    calls = tx.one(
        "SELECT coalesce(sum(cost_micros), 0) AS micros,"
        " coalesce(sum(CASE WHEN state = 'failed' THEN 0 ELSE images_asked END), 0) AS images"
        " FROM requests WHERE id >= :floor AND created_us >= :begin AND created_us < :end" + _whose(subject),
        floor=id_floor("req", begin_us - _DAY_US),
        **told,
    )
    corrections = tx.one(
        "SELECT coalesce(sum(change_micros), 0) AS micros FROM corrections"
        " WHERE booked_us >= :begin AND booked_us < :end" + _whose(subject),
        **told,
    )
    if calls is None or corrections is None:  # a sum always answers
        raise LookupError(subject)
    return max(0, calls["micros"] + corrections["micros"]), calls["images"]


def _stored(tx: Tx, subjects: Sequence[str]) -> list[Account]:
    rows = tx.all(_READ[len(subjects)], **_named(subjects))
    found = {row["subject"]: Account(**row) for row in rows}
    return [found.get(subject) or Account(subject=subject) for subject in subjects]


def _as_of(tx: Tx, account: Account, now: Period) -> Account:
    if account.day != now["day"]:
        micros, images = spent(tx, account.subject, now["day"])
        account = replace(account, day=now["day"], spent_day_micros=micros, images_day=images)
    if account.month != now["month"]:
        micros, _ = spent(tx, account.subject, now["month"])
        account = replace(account, month=now["month"], spent_month_micros=micros)
    return account


def _whose(subject: str) -> str:
    """Narrow a query to the rows of a subject."""
    if subject == TEAM:
        return ""
    return " AND key_id = :subject" if subject.startswith("key_") else " AND user_id = :subject"


def _named(subjects: Sequence[str]) -> dict[str, str]:
    return {f"subject{at}": subject for at, subject in enumerate(subjects)}
