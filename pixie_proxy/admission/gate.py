"""The gate: rate, concurrency and budget, all checked, then all taken, in the transaction that writes the ledger row.

A call has to pass the limits of its user, of its key and of the team. A refusal costs nothing, calls nobody and leaves
no row.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pixie_proxy.admission.budget import budget_refusal, budgets, instant, tightest
from pixie_proxy.admission.rate import Taken, go_duration, take
from pixie_proxy.errors import (
    ConcurrencyLimitExceeded,
    InvalidValue,
    ProxyError,
    RateLimitExceeded,
)
from pixie_proxy.index import Tx, accounts, ledger
from pixie_proxy.records import NO_LIMITS, Account, CallRecord, Party, PartyKind, bounds, period

USUAL_DURATION_S = 20
"""How long a call usually takes: the wait that we suggest to somebody whose slots are all in use."""

_MAX_RETRY_AFTER_S = 60
"""The Node SDK ignores anything longer and comes back at once."""

_YOUR: dict[PartyKind, str] = {"user": "your limit", "key": "this key's limit", "team": "the team's limit"}


class Open(NamedTuple):
    """A party with its account, locked and as of now."""

    party: Party
    account: Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The state of the tightest buckets, for the answer's headers: after an admission took from them, or as it is."""

    requests: Taken | None
    images: Taken | None

    def headers(self) -> dict[str, str]:
        """Write the `x-ratelimit-*` headers; a limit that does not exist has none."""
        headers: dict[str, str] = {}
        for name, taken in (("requests", self.requests), ("images", self.images)):
            if taken is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(taken.limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(taken.remaining)
                headers[f"x-ratelimit-reset-{name}"] = go_duration(taken.reset_us)
        return headers


class _Take(NamedTuple):
    """What one call takes, or would take, from one party's buckets."""

    open: Open
    requests: Taken | None
    images: Taken | None


def open_accounts(tx: Tx, parties: Sequence[Party], now_us: int) -> list[Open]:
    """Give the parties' accounts as of now, locked: this must be a transaction's first statement, on both databases."""
    subjects = [party.account for party in parties]
    found = accounts.lock_and_read(tx, subjects, now_us)
    return [Open(*each) for each in zip(parties, found, strict=True)]


def admit(
    tx: Tx, opened: Sequence[Open], call: CallRecord, *, now_us: int, hint: str = ""
) -> Admitted | ProxyError:
    """Check every limit, take from all, and write the ledger row as `sent`; or return the refusal, having taken none.

    `hint` says how the same request would hold less money, for whoever has not enough of it left.

    A refusal is no exception in here, because one would undo the works of others in the same batch, and under overload
    refusals are what there is most of. An idempotency key that somebody still holds is taken over: whether that may be
    is for the caller to know.
    """
    takes = _takes(opened, now_us, 1, call.images_asked)
    refusal = next(_refusals(call, takes, hint), None)
    if refusal is not None:
        refusal.headers |= standing(opened, now_us).headers()
        return refusal
    if call.idempotency_key is not None:
        ledger.free_idempotency_key(tx, call.user_id, call.kind, call.idempotency_key)
    for (_, account), requests, images in takes:
        if requests or images:
            requests_us, images_us = requests.tat_us if requests else 0, images.tat_us if images else 0
            accounts.save(tx, replace(account, requests_tat_us=requests_us, images_tat_us=images_us))
    accounts.move(
        tx,
        [each.party.account for each in opened],
        period(now_us),
        slots=1,
        held_micros=call.hold_micros,
        images=call.images_asked,
    )
    ledger.insert(tx, call, "sent")
    return _told(takes)


def standing(opened: Sequence[Open], now_us: int) -> Admitted:
    """Say what is left to somebody who takes nothing: who was refused, or gets an answer again."""
    return _told(_takes(opened, now_us, 0, 0))


def _takes(opened: Sequence[Open], now_us: int, requests: int, images: int) -> list[_Take]:
    """Try to take from the buckets of those who have any limit at all."""

    def taken(tat_us: int, limit: int | None, count: int) -> Taken | None:
        return None if limit is None else take(tat_us, now_us, limit, count)

    return [
        _Take(
            each,
            taken(each.account.requests_tat_us, each.party.limits.requests_per_minute, requests),
            taken(each.account.images_tat_us, each.party.limits.images_per_minute, images),
        )
        for each in opened
        if each.party.limits != NO_LIMITS
    ]


def _told(takes: Sequence[_Take]) -> Admitted:
    return Admitted(
        requests=_least(each.requests for each in takes), images=_least(each.images for each in takes)
    )


def _least(found: Iterable[Taken | None]) -> Taken | None:
    return min(
        (taken for taken in found if taken is not None), key=lambda taken: taken.remaining, default=None
    )


def _refusals(call: CallRecord, takes: Sequence[_Take], hint: str) -> Iterator[ProxyError]:
    """Give the answer for each limit that the call would pass; the caller's own limits before the team's."""
    checks: tuple[Callable[[CallRecord, _Take], ProxyError | None], ...] = (_never, _rate, _slots, _day)
    for check in checks:
        for each in reversed(takes):
            if (refusal := check(call, each)) is not None:
                yield refusal
    found = [budget for each in takes for budget in budgets(*each.open)]
    budget = tightest(found)
    if budget is not None and budget.remaining_micros < call.hold_micros:
        yield budget_refusal(budget, call.hold_micros, hint)


def _never(call: CallRecord, asked: _Take) -> ProxyError | None:
    """Refuse more images than will ever be allowed at once."""
    kind, _, limits = asked.open.party
    for limit, span in ((limits.images_per_minute, "minute"), (limits.images_per_day, "day")):
        if limit is not None and call.images_asked > limit:
            message = f"n is {call.images_asked}, and {_YOUR[kind]} is {limit} images a {span}: it can never be met."
            return InvalidValue(message, param="n")
    return None


def _rate(call: CallRecord, asked: _Take) -> ProxyError | None:
    del call
    for name, taken in (("requests", asked.requests), ("images", asked.images)):
        if taken is not None and taken.wait_us > 0:
            wait_s = min(_MAX_RETRY_AFTER_S, max(1, math.ceil(taken.wait_us / 1_000_000)))
            message = (
                f"Rate limit reached: {_YOUR[asked.open.party.kind]} is {taken.limit} {name} a minute. "
                f"Please try again in {go_duration(taken.wait_us)}. Nothing was sent or charged."
            )
            return RateLimitExceeded(message, headers={"retry-after": str(wait_s)})
    return None


def _slots(call: CallRecord, asked: _Take) -> ProxyError | None:
    del call
    (kind, _, limits), account = asked.open
    slots = limits.concurrent_requests
    if slots is not None and account.in_flight >= slots:
        return concurrency_refusal(account.in_flight, slots, kind)
    return None


def _day(call: CallRecord, asked: _Take) -> ProxyError | None:
    """Refuse what today's images do not leave room for: no client waits for midnight, so it is told not to."""
    (kind, _, limits), account = asked.open
    limit = limits.images_per_day
    if limit is None or account.images_day + call.images_asked <= limit:
        return None
    message = (
        f"Limit reached: {_YOUR[kind]} is {limit} images a day, of which {max(0, limit - account.images_day)} are "
        f"left, and n is {call.images_asked}. The next day begins at {instant(bounds(account.day)[1])}. "
        "Nothing was sent or charged."
    )
    headers = {"retry-after": str(_MAX_RETRY_AFTER_S), "x-should-retry": "false"}
    return RateLimitExceeded(message, headers=headers)


def concurrency_refusal(running: int, slots: int, kind: PartyKind = "user") -> ConcurrencyLimitExceeded:
    """Say that all slots are in use, and suggest to come back when a call has usually ended."""
    wait_s = round(min(_MAX_RETRY_AFTER_S, max(10, USUAL_DURATION_S * random.uniform(0.75, 1.25))))  # noqa: S311
    message = f"There are {running} requests running, and {_YOUR[kind]} is {slots} at once."
    return ConcurrencyLimitExceeded(message, headers={"retry-after": str(wait_s)})
