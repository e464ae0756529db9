"""Token buckets as one number: the generic cell rate algorithm (GCRA, ITU-T I.371).

A bucket of L tokens that refills at L a minute is kept as its *theoretical arrival time* (TAT): the moment at which it
is full again. Taking n moves it n intervals into the future; it may not lie more than a minute ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_US = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What taking from a bucket gave. Where `wait_us` > 0 nothing may be taken before that long."""

    tat_us: int
    limit: int
    remaining: int
    reset_us: int
    wait_us: int


def take(tat_us: int, now_us: int, limit: int, count: int) -> Taken:
    """Take `count` of `limit` a minute at `now_us`, from a bucket that is full again at `tat_us`.

    A clock that was set back must not lock anybody out, and a refusal leaves the TAT as it is: so one that is more than
    two windows ahead is not believed at all, and one that is less (hosts differ a little) only up to one window. All in
    integers: a third of a microsecond too much, seven times, would be a token less.
    """
    ahead_us = max(tat_us - now_us, 0)
    used_us = min(ahead_us, WINDOW_US) if ahead_us <= 2 * WINDOW_US else 0
    wait_us = used_us - (limit - count) * WINDOW_US // limit
    if wait_us <= 0:
        used_us += count * WINDOW_US // limit
    return Taken(
        tat_us=now_us + used_us,
        limit=limit,
        remaining=limit - -(-used_us * limit // WINDOW_US),
        reset_us=used_us,
        wait_us=max(0, wait_us),
    )


def go_duration(microseconds: int) -> str:
    """Write a duration as Go does (`6m0s`, `1.5s`, `20ms`), the form of OpenAI's `x-ratelimit-reset-*` headers."""
    if microseconds < 1_000_000:
        return f"{-(-microseconds // 1000)}ms"
    minutes, rest = divmod(microseconds, 60_000_000)
    seconds = f"{rest / 1_000_000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
