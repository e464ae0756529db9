"""Budgets: what a party may spend a day, a month or ever, and what is left of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pixie_proxy.errors import BudgetExhausted
from pixie_proxy.records import Account, Party, PartyKind, bounds, to_datetime

Span = Literal["day", "month", "total"]

_WHOSE: dict[PartyKind, str] = {
    "user": "Your budget",
    "key": "The budget of this key",
    "team": "The team's budget",
}
_SPAN: dict[Span, str] = {"day": "a day", "month": "a month", "total": "in total"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One ceiling for money and how much of it is gone, in micros. `resets_us` is None where it never does."""

    party: PartyKind
    span: Span
    limit_micros: int
    spent_micros: int
    held_micros: int
    resets_us: int | None

    @property
    def remaining_micros(self) -> int:
        """What a call may still hold; below nothing where a call cost more than it held."""
        return self.limit_micros - self.spent_micros - self.held_micros


def budgets(party: Party, account: Account) -> Iterator[Budget]:
    """Give each budget that a party has, by its account as of now.

    Calls that run since the day before count in today's, until they have ended: what they hold is not known to be spent
    yesterday before then.
    """
    limits = party.limits
    if not limits.has_budget:
        return
    spans: tuple[tuple[Span, float | None, int, int | None], ...] = (
        ("day", limits.usd_per_day, account.spent_day_micros, bounds(account.day)[1]),
        ("month", limits.usd_per_month, account.spent_month_micros, bounds(account.month)[1]),
        ("total", limits.usd_total, account.spent_life_micros, None),
    )
    for span, usd, spent_micros, resets_us in spans:
        if usd is not None:
            yield Budget(
                party=party.kind,
                span=span,
                limit_micros=round(usd * 1_000_000),
                spent_micros=spent_micros,
                held_micros=account.held_micros,
                resets_us=resets_us,
            )


def tightest(found: Iterable[Budget]) -> Budget | None:
    """Give the budget that has the least left; of equals, the one that takes the longest to reset."""
    return min(
        found,
        key=lambda budget: (budget.remaining_micros, -(budget.resets_us or 1 << 63)),
        default=None,
    )


def budget_refusal(budget: Budget, hold_micros: int, hint: str) -> BudgetExhausted:
    """Say which budget a call would pass, how much of it is left, and what can be done."""
    resets = (
        "It does not reset: ask the admin to top it up."
        if budget.resets_us is None
        else f"It resets at {instant(budget.resets_us)}."
    )
    message = (
        f"{_WHOSE[budget.party]} of {_usd(budget.limit_micros)} {_SPAN[budget.span]} has "
        f"{_usd(max(0, budget.remaining_micros))} left ({_usd(budget.spent_micros)} spent, "
        f"{_usd(budget.held_micros)} held by running calls), and this call may cost up to {_usd(hold_micros)}. "
        f"{resets} {hint and hint + ' '}Nothing was sent or charged."
    )
    return BudgetExhausted(message, headers={"x-should-retry": "false"})


def instant(at_us: int) -> str:
    """Write a moment that people wait for."""
    return f"{to_datetime(at_us):%Y-%m-%dT%H:%M:%SZ}"


def _usd(micros: int) -> str:
    """Write micros as USD: to the cent where that is exact, else to the micro."""
    return f"${micros / 1e6:.2f}" if micros % 10_000 == 0 else f"${micros / 1e6:.6f}".rstrip("0")
