"""Figures of pages: days of a query, bars of a chart, money as text."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixie_proxy.errors import InvalidValue
from pixie_proxy.web.html import lasting, money
from pixie_proxy.web.pages.charts import HEIGHT_PX, Point, bar_chart, percent
from pixie_proxy.web.pages.days import MOST_BARS, read_days

TODAY = date(2026, 3, 17)


@pytest.mark.parametrize(
    ("said", "first", "last"),
    [
        ({}, "2026-02-16", "2026-03-17"),
        ({"period": "7"}, "2026-03-11", "2026-03-17"),
        ({"period": "90"}, "2025-12-18", "2026-03-17"),
        ({"period": "month"}, "2026-03-01", "2026-03-17"),
        ({"period": "last-month"}, "2026-02-01", "2026-02-28"),
        ({"from": "2026-01-05", "to": "2026-01-05", "period": "7"}, "2026-01-05", "2026-01-05"),
        ({"from": "2026-03-01"}, "2026-03-01", "2026-03-17"),
        ({"to": "2026-03-01"}, "2026-03-01", "2026-03-01"),
    ],
)
def test_days_are_whole_and_both_ends_count(said: dict[str, str], first: str, last: str) -> None:
    """As people say them; the API is asked half-open, and an address leads to the same days again."""
    days = read_days(said, TODAY)
    assert (days.first.isoformat(), days.last.isoformat()) == (first, last)
    assert days.until_us - days.since_us == (days.last - days.first + timedelta(1)) / timedelta(
        microseconds=1
    )
    assert datetime.fromtimestamp(days.since_us / 1e6, UTC).isoformat() == f"{first}T00:00:00+00:00"
    assert days.api_query["until"] == (days.last + timedelta(1)).isoformat()
    assert read_days(days.query, TODAY) == days


@pytest.mark.parametrize(
    "said",
    [
        {"period": "5"},
        {"from": "x"},
        {"from": "2026-03-18", "to": "2026-03-17"},
        {"from": "1969-12-31"},
        {"to": "9999-12-31"},
        {"from": "1980-01-01", "to": "2026-01-01"},
    ],
)
def test_days_that_are_none_are_told(said: dict[str, str]) -> None:
    """Neither a silent default nor a fault of ours."""
    with pytest.raises(InvalidValue):
        read_days(said, TODAY)


@given(st.dates(date(1990, 1, 1), date(2030, 1, 1)), st.integers(0, 3000))
@settings(max_examples=50, deadline=None)
def test_no_chart_has_too_many_bars(first: date, length: int) -> None:
    """Days, and months where there would be more days than can be drawn; each once and in order."""
    days = read_days(
        {"from": first.isoformat(), "to": (first + timedelta(length)).isoformat()}, date(2040, 1, 1)
    )
    each = days.each()
    assert each == sorted(set(each))
    assert len(each) == length + 1 if length < MOST_BARS else len(each) <= 3000 / 28 + 2


@given(st.lists(st.integers(-(10**9), 10**13), max_size=MOST_BARS))
@settings(max_examples=100, deadline=None)
def test_bars_are_as_high_as_their_amounts(amounts: list[int]) -> None:
    """The lines give the scale: few, round, and the highest above all bars. What is not nothing can be seen."""
    chart = bar_chart([Point(micros=micros, name="", says="") for micros in amounts])
    top = chart.lines[-1]
    assert 2 <= len(chart.lines) <= 5
    assert (chart.lines[0].micros, chart.lines[0].y, top.y) == (0, HEIGHT_PX, 0)
    assert str(chart.lines[1].micros).rstrip("0") in {"1", "2", "5"}
    for micros, bar in zip(amounts, chart.bars, strict=True):
        assert bar.y + bar.height == pytest.approx(HEIGHT_PX)
        assert 0 <= bar.x < bar.x + bar.width <= 100
        exact = HEIGHT_PX * micros / top.micros
        assert bar.height == pytest.approx(max(2, exact), abs=0.1) if micros > 0 else bar.height == 0
        assert bar.height <= HEIGHT_PX


@given(st.integers(-(10**15), 10**15))
def test_money_is_written_exactly(micros: int) -> None:
    """No digit is lost, and none is there for nothing."""
    text = money(micros)
    assert Decimal(text.replace("$", "").replace(",", "").replace("−", "-")) * 1_000_000 == micros
    assert len(text.partition(".")[2]) == 2 or not text.endswith("0")


def test_parts_and_times_as_people_say_them() -> None:
    """More than all is all; of a limit of nothing, everything is spent."""
    assert [percent(1, 3), percent(5, 4), percent(-1, 4), percent(0, 0)] == [33.33, 100.0, 0.0, 100.0]
    assert [lasting(s) for s in (4, 99, 100, 5999, 6000, 172_800)] == [
        *("4 s", "99 s", "2 min", "100 min", "2 h", "2 d")
    ]
