"""The days that a page of figures is about: a few spans to choose from, or any two dates; whole days in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from pixie_proxy.errors import InvalidValue

Choice = Literal["7", "30", "90", "month", "last-month"]

CHOICES: tuple[Choice, ...] = ("7", "30", "90", "month", "last-month")
USUAL: Choice = "30"
MOST_BARS = 92
"""Days that are drawn one by one; of a longer time, months are."""

_FIRST = date(1970, 1, 1)
_MOST_DAYS = 10 * 366


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """From `first` to `last`, both included. `choice` is None where the dates were given."""

    choice: Choice | None
    first: date
    last: date

    @property
    def since_us(self) -> int:
        """Give when the first day begins."""
        return _start_us(self.first)

    @property
    def until_us(self) -> int:
        """Give when the last day is over."""
        return _start_us(self.last + timedelta(days=1))

    @property
    def query(self) -> dict[str, str]:
        """Say it again in an address."""
        if self.choice is None:
            return {"from": self.first.isoformat(), "to": self.last.isoformat()}
        return {} if self.choice == USUAL else {"period": self.choice}

    @property
    def api_query(self) -> dict[str, str]:
        """Say it as the API does: half-open."""
        return {"since": self.first.isoformat(), "until": (self.last + timedelta(days=1)).isoformat()}

    def each(self) -> list[date]:
        """Give every day, or the first of every month where that would be too many to draw."""
        count = (self.last - self.first).days + 1
        days = [self.first + timedelta(days=n) for n in range(count)]
        return days if not self.are_many else sorted({month_of(day) for day in days})

    @property
    def are_many(self) -> bool:
        """Whether months are drawn."""
        return (self.last - self.first).days >= MOST_BARS


def read_days(said: Mapping[str, str], today: date) -> Days:
    """Read them out of a query: `period`, or `from` and `to`. Raises InvalidValue."""
    if said.get("from") or said.get("to"):
        last = _date(said, "to", today)
        first = _date(said, "from", last)
        if not timedelta(0) <= last - first <= timedelta(days=_MOST_DAYS):
            message = "'from' must not be after 'to', nor ten years before it."
            raise InvalidValue(message, param="from")
        return Days(choice=None, first=first, last=last)
    for choice in CHOICES:
        if choice == (said.get("period") or USUAL):
            return _chosen(choice, today)
    message = f"'period' must be one of {', '.join(CHOICES)}."
    raise InvalidValue(message, param="period")


def day_of(days: int) -> date:
    """Give a day that is counted since the epoch, as the ledger's sums are."""
    return _FIRST + timedelta(days=days)


def month_of(day: date) -> date:
    """Give the first day of its month."""
    return day.replace(day=1)


def _chosen(choice: Choice, today: date) -> Days:
    if choice == "month":
        return Days(choice=choice, first=month_of(today), last=today)
    if choice == "last-month":
        last = month_of(today) - timedelta(days=1)
        return Days(choice=choice, first=month_of(last), last=last)
    return Days(choice=choice, first=today - timedelta(days=int(choice) - 1), last=today)


def _date(said: Mapping[str, str], name: str, default: date) -> date:
    text = said.get(name)
    if not text:
        return default
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or not _FIRST <= found < date.max - timedelta(days=1):
        message = f"'{name}' must be a date such as 2026-11-21."
        raise InvalidValue(message, param=name)
    return found


def _start_us(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * 1_000_000
