"""Token buckets: never one too many, never one too few, whatever the clock does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixie_proxy.admission.rate import WINDOW_US, go_duration, take

NOW = 1_795_000_000_000_000
LIMITS = st.integers(1, 10_000)


def taken_at(times: list[int], limit: int, counts: list[int]) -> list[tuple[int, int]]:
    """Play attempts against one bucket; give (time, count) of those that were let through."""
    tat, through = 0, []
    for now, count in zip(times, counts, strict=True):
        found = take(tat, now, limit, count)
        if found.wait_us <= 0:
            tat = found.tat_us
            through.append((now, count))
    return through


@given(LIMITS, st.integers(0, 3))
def test_a_full_bucket_holds_exactly_its_limit(limit: int, more: int) -> None:
    """L at one moment go through, and no L + 1st; what is left is told exactly each time."""
    tat = 0
    for left in range(limit - 1, -1, -1) if limit < 50 else ():
        found = take(tat, NOW, limit, 1)
        assert (found.wait_us, found.remaining, found.limit) == (0, left, limit)
        tat = found.tat_us
    all_at_once = take(0, NOW, limit, limit)
    assert (all_at_once.wait_us, all_at_once.remaining) == (0, 0)
    assert take(all_at_once.tat_us, NOW, limit, 1 + more).wait_us > 0
    assert take(0, NOW, limit, limit + 1 + more).wait_us > 0


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 20_000_000), st.integers(1, 5)), min_size=1, max_size=80),
)
def test_no_span_of_time_ever_gives_more_than_it_may(limit: int, steps: list[tuple[int, int]]) -> None:
    """Between any two moments at most L, and what has refilled between them, to the token."""
    now, times = NOW, []
    for step, _ in steps:
        now += step
        times.append(now)
    through = taken_at(times, limit, [count for _, count in steps])
    for first, (start, _) in enumerate(through):
        total = 0
        for end, count in through[first:]:
            total += count
            assert total <= limit + (end - start) * limit / WINDOW_US + 1e-3


@given(LIMITS, st.integers(1, 10_000))
def test_the_wait_is_just_long_enough(limit: int, count: int) -> None:
    """After the wait that was told it goes through, a millisecond earlier it does not."""
    count = min(count, limit)
    tat = take(0, NOW, limit, limit).tat_us
    wait_us = take(tat, NOW, limit, count).wait_us
    assert 0 < wait_us <= WINDOW_US
    assert take(tat, NOW + wait_us, limit, count).wait_us <= 0
    assert take(tat, NOW + wait_us - 1000, limit, count).wait_us > 0


@given(LIMITS)
def test_an_empty_bucket_is_full_after_a_minute(limit: int) -> None:
    """It refills evenly: half after half of it, all after all of it, and never more."""
    empty = take(0, NOW, limit, limit)
    assert empty.reset_us == pytest.approx(WINDOW_US, abs=1)
    assert take(empty.tat_us, NOW + WINDOW_US // 2, limit, 0).remaining == limit // 2
    for later in (WINDOW_US, WINDOW_US + 1, 100 * WINDOW_US):
        assert take(empty.tat_us, NOW + later, limit, 0).remaining == limit


@given(st.integers(1, 500))
def test_an_even_pace_at_the_limit_is_never_refused(limit: int) -> None:
    """One every 60/L seconds goes on for ever, from an empty bucket too."""
    interval_us = -(-WINDOW_US // limit)
    tat, now = take(0, NOW, limit, limit).tat_us, NOW
    for _ in range(200):
        now += interval_us
        found = take(tat, now, limit, 1)
        assert found.wait_us <= 0
        tat = found.tat_us


@given(LIMITS, st.integers(0, 10**18), st.integers(1, 10))
def test_a_clock_that_was_set_back_locks_nobody_out(limit: int, back_us: int, count: int) -> None:
    """However far, and although a refusal leaves the bucket as it is: after two minutes everything is there again."""
    count = min(count, limit)
    tat = take(0, NOW + back_us, limit, limit).tat_us
    found = take(tat, NOW, limit, count)
    assert found.wait_us <= WINDOW_US
    assert found.reset_us <= WINDOW_US
    stands_at = tat if found.wait_us else found.tat_us
    assert take(stands_at, NOW + 2 * WINDOW_US, limit, count).wait_us <= 0


@given(LIMITS, st.integers(0, WINDOW_US))
def test_clocks_that_differ_a_little_give_nothing_away(limit: int, back_us: int) -> None:
    """Of two hosts on one index the one that is behind believes what the other has taken."""
    tat = take(0, NOW + back_us, limit, limit).tat_us
    assert take(tat, NOW, limit, 1).wait_us > 0


@given(LIMITS, st.integers(0, WINDOW_US), st.integers(0, 20))
def test_a_refusal_takes_nothing(limit: int, ago_us: int, count: int) -> None:
    """The bucket stands as it stood."""
    tat = take(0, NOW - ago_us, limit, limit).tat_us
    found = take(tat, NOW, limit, limit + count)
    if found.wait_us > 0:
        assert found.tat_us == max(tat, NOW)
        assert found.remaining == take(tat, NOW, limit, 0).remaining


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "0ms"),
        (1, "1ms"),
        (20_000, "20ms"),
        (999_000, "999ms"),
        (1_000_000, "1s"),
        (1_500_000, "1.5s"),
        (10_000_000, "10s"),
        (59_999_000, "59.999s"),
        (60_000_000, "1m0s"),
        (90_500_000, "1m30.5s"),
        (360_000_000, "6m0s"),
    ],
)
def test_durations_are_written_as_go_does(microseconds: int, text: str) -> None:
    """The form of OpenAI's own `x-ratelimit-reset-*`, which clients parse."""
    assert go_duration(microseconds) == text


@given(st.lists(st.integers(0, 10**8), min_size=2, max_size=20))
def test_longer_durations_never_read_as_shorter(microseconds: list[int]) -> None:
    """Rounding keeps the order, and never makes sixty seconds of a minute."""

    def seconds(text: str) -> float:
        if text.endswith("ms"):
            return float(text[:-2]) / 1000
        minutes, _, rest = text[:-1].rpartition("m")
        assert float(rest) < 60
        return 60 * int(minutes or 0) + float(rest)

    read = [seconds(go_duration(each)) for each in sorted(microseconds)]
    assert all(earlier <= later for earlier, later in pairwise(read))
