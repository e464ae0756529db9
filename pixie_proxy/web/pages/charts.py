"""Where the bars of a chart stand: amounts in, percent and pixels out. Pure; `charts.html` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT_PX = 176
_MOST_LINES = 4
_MOST_NAMES = 6
_LEAST_PX = 2.0
"""How high the least amount is: one micro is not nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """An amount in micros, `name` that stands below it, and `says`: all of it in one line."""

    micros: int
    name: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar: `x`, `middle` and `width` in percent of the chart, `y` and `height` in pixels.

    Few have a name below; every other of those `is_minor`, and goes where the chart is narrow.
    """

    x: float
    middle: float
    width: float
    y: float
    height: float
    name: str | None
    is_minor: bool
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line across the chart at `y`, and the amount that it stands for."""

    y: float
    micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """All that is drawn."""

    bars: Sequence[Bar]
    lines: Sequence[Line]


def bar_chart(points: Sequence[Point]) -> Chart:
    """Give every amount its bar, and a few round amounts their lines. What is below nothing has no height."""
    step = _step(max([point.micros for point in points], default=0))
    top = step * max(1, -(-max([point.micros for point in points], default=0) // step))
    slot = 100 / max(1, len(points))
    every = -(-len(points) // _MOST_NAMES)
    bars = [
        Bar(
            x=round(slot * (at + 0.14), 3),
            middle=round(slot * (at + 0.5), 3),
            width=round(slot * 0.72, 3),
            y=HEIGHT_PX - height,
            height=height,
            # Counted from the end: the last day is the one that people look for.
            name=point.name if (len(points) - 1 - at) % every == 0 else None,
            is_minor=(len(points) - 1 - at) // every % 2 == 1,
            says=point.says,
        )
        for at, point in enumerate(points)
        for height in [_height(point.micros, top)]
    ]
    lines = [
        Line(y=round(HEIGHT_PX * (1 - micros / top), 1), micros=micros) for micros in range(0, top + 1, step)
    ]
    return Chart(bars=bars, lines=lines)


def percent(part: int, whole: int) -> float:
    """Give a part in percent, from 0 to 100; of nothing, everything is all."""
    if whole <= 0:
        return 100.0
    return round(min(100.0, max(0.0, 100 * part / whole)), 2)


def _height(micros: int, top: int) -> float:
    return 0.0 if micros <= 0 else round(max(_LEAST_PX, HEIGHT_PX * micros / top), 1)


def _step(most: int) -> int:
    """Choose the distance of lines: 1, 2 or 5 times a power of ten, so that there are few."""
    size = 1
    while True:
        for step in (size, 2 * size, 5 * size):
            if most <= step * _MOST_LINES:
                return step
        size *= 10
