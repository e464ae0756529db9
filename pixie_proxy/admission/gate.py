"""The gate: rate and concurrency, all checked, then all taken, in the transaction that also writes the ledger row.

A refusal costs nothing, calls nobody and leaves no row.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from pixie_proxy.admission.rate import Taken, go_duration, take
from pixie_proxy.errors import (
    ConcurrencyLimitExceeded,
    InvalidValue,
    ProxyError,
    RateLimitExceeded,
)
from pixie_proxy.index import Tx, accounts, ledger
from pixie_proxy.records import Account, CallRecord, Limits, period

USUAL_DURATION_S = 20
"""How long a call usually takes: the wait that we suggest to somebody whose slots are all in use."""

_MAX_RETRY_AFTER_S = 60
"""The Node SDK ignores anything longer and comes back at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The state of each bucket, for the answer's headers: after an admission took from it, or as it stands."""

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


def open_account(tx: Tx, user_id: str, now_us: int) -> Account:
    """Give a user's account as of now, locked: this must be a transaction's first statement, on both databases."""
    return _rolled_over(accounts.lock(tx, user_id), now_us)


def admit(
    tx: Tx, account: Account, call: CallRecord, limits: Limits, *, now_us: int
) -> Admitted | ProxyError:
    """Check every limit, take from all, and write the ledger row as `sent`; or return the refusal, having taken none.

    A refusal is no exception in here, because one would undo the works of others in the same batch, and under overload
    refusals are what there is most of. An idempotency key that somebody still holds is taken over: whether that may be
    is for the caller to know.
    """
    requests = _rate(account.requests_tat_us, now_us, limits.requests_per_minute, 1)
    images = _rate(account.images_tat_us, now_us, limits.images_per_minute, call.images_asked)
    admitted = Admitted(requests=requests, images=images)
    if (refusal := _refusal(call, account, limits, admitted)) is not None:
        refusal.headers |= standing(account, limits, now_us).headers()
        return refusal
    if call.idempotency_key is not None:
        ledger.free_idempotency_key(tx, call.user_id, call.kind, call.idempotency_key)
    accounts.save(
        tx,
        replace(
            account,
            requests_tat_us=requests.tat_us if requests else 0,
            images_tat_us=images.tat_us if images else 0,
            in_flight=account.in_flight + 1,
            held_micros=account.held_micros + call.hold_micros,
        ),
    )
    ledger.insert(tx, call, "sent")
    return admitted


def _rolled_over(account: Account, now_us: int) -> Account:
    """Start a new day or month of spending; what is held runs on, for its calls belong to the period they began in."""
    now = period(now_us)
    if account.day != now["day"]:
        account = replace(account, day=now["day"], spent_day_micros=0)
    if account.month != now["month"]:
        account = replace(account, month=now["month"], spent_month_micros=0)
    return account


def _rate(tat_us: int, now_us: int, limit: int | None, count: int) -> Taken | None:
    return None if limit is None else take(tat_us, now_us, limit, count)


def standing(account: Account, limits: Limits, now_us: int) -> Admitted:
    """Say what is left to somebody who takes nothing: who was refused, or gets an answer again."""
    return Admitted(
        requests=_rate(account.requests_tat_us, now_us, limits.requests_per_minute, 0),
        images=_rate(account.images_tat_us, now_us, limits.images_per_minute, 0),
    )


def _refusal(call: CallRecord, account: Account, limits: Limits, admitted: Admitted) -> ProxyError | None:
    """Give the answer for the first limit that the call would pass, if there is one."""
    images = limits.images_per_minute
    if images is not None and call.images_asked > images:
        message = (
            f"n is {call.images_asked}, and your limit is {images} images a minute: it can never be met."
        )
        return InvalidValue(message, param="n")
    for name, taken in (("requests", admitted.requests), ("images", admitted.images)):
        if taken is not None and taken.wait_us > 0:
            wait_s = min(_MAX_RETRY_AFTER_S, max(1, math.ceil(taken.wait_us / 1_000_000)))
            message = (
                f"Rate limit reached: {taken.limit} {name} a minute. "
                f"Please try again in {go_duration(taken.wait_us)}. Nothing was sent or charged."
            )
            return RateLimitExceeded(message, headers={"retry-after": str(wait_s)})
    slots = limits.concurrent_requests
    if slots is not None and account.in_flight >= slots:
        return concurrency_refusal(account.in_flight, slots)
    return None


def concurrency_refusal(running: int, slots: int) -> ConcurrencyLimitExceeded:
    """Say that all slots are in use, and suggest to come back when a call has usually ended."""
    wait_s = round(min(_MAX_RETRY_AFTER_S, max(10, USUAL_DURATION_S * random.uniform(0.75, 1.25))))  # noqa: S311
    message = f"You already have {running} requests running, and your limit is {slots} at once."
    return ConcurrencyLimitExceeded(message, headers={"retry-after": str(wait_s)})
