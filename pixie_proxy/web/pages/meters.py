"""Budgets as pages show them: what was spent today, this month and ever, and how much of each limit is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pixie_proxy.admission.budget import Budget, Span, budgets
from pixie_proxy.config import LimitSettings
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import Account, Limits, Party, PartyKind
from pixie_proxy.web.pages.charts import percent

Level = Literal["ok", "warning", "fault"]

_SPANS: tuple[Span, ...] = get_args(Span)
_WARNS_FROM_PERCENT = 80.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What was spent in a span; `budget` is None where nothing limits it."""

    span: Span
    spent_micros: int
    budget: Budget | None

    @property
    def spent_percent(self) -> float:
        """How much of the limit is spent."""
        return percent(self.spent_micros, self.budget.limit_micros) if self.budget else 0.0

    @property
    def held_percent(self) -> float:
        """How much of the limit is held, as far as it is not spent."""
        if self.budget is None:
            return 0.0
        gone = percent(self.spent_micros + self.budget.held_micros, self.budget.limit_micros)
        return round(gone - self.spent_percent, 2)

    @property
    def level(self) -> Level:
        """Whether it is time to look, or too late."""
        if self.budget is None or self.spent_percent + self.held_percent < _WARNS_FROM_PERCENT:
            return "ok"
        return "fault" if self.budget.remaining_micros <= 0 else "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """The meters of a user, a key or the team, and what their running calls hold."""

    kind: PartyKind
    account: Account
    meters: Sequence[Meter]

    @property
    def month(self) -> Meter:
        """Give this month's."""
        return next(meter for meter in self.meters if meter.span == "month")


def purse(party: Party, account: Account, *, is_whole: bool) -> Purse:
    """Give a party's meters: of every span, or only of those that are limited."""
    limited = {budget.span: budget for budget in budgets(party, account)}
    spent: dict[Span, int] = {
        "day": account.spent_day_micros,
        "month": account.spent_month_micros,
        "total": account.spent_life_micros,
    }
    meters = [
        Meter(span=span, spent_micros=spent[span], budget=limited.get(span))
        for span in _SPANS
        if is_whole or span in limited
    ]
    return Purse(kind=party.kind, account=account, meters=meters)


def party_of(user: StoredUser, general: LimitSettings) -> Party:
    """Give a stored user with the limits that count for it."""
    return Party("user", user.id, Limits(**{**general.model_dump(), **user.limits}))
