"""The shapes that a demo picture is made of, and a pen to draw them with.

A picture is a list of shapes in units of its shorter edge, x to the right and y down; `raster` paints the list and
`vector` writes it as SVG, so both show the same picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

Color = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sky:
    """A vertical gradient over the whole picture: (height from 0 to 1, colour) from the top down."""

    stops: tuple[tuple[float, Color], ...]


@dataclass(frozen=True, slots=True)
class Glow:
    """A soft round light, fading to nothing at `radius`."""

    at: Point
    radius: float
    color: Color
    alpha: int


@dataclass(frozen=True, slots=True)
class Oval:
    """An ellipse."""

    at: Point
    rx: float
    ry: float
    color: Color
    alpha: int = 255


@dataclass(frozen=True, slots=True)
class Poly:
    """A filled outline."""

    points: tuple[Point, ...]
    color: Color
    alpha: int = 255


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line through points, with round joints."""

    points: tuple[Point, ...]
    width: float
    color: Color
    alpha: int = 255


Shape = Sky | Glow | Oval | Poly | Stroke


def mix(one: Color, other: Color, share: float) -> Color:
    """Blend two colours; `share` is the part of the other one."""
    return (
        round(one[0] + (other[0] - one[0]) * share),
        round(one[1] + (other[1] - one[1]) * share),
        round(one[2] + (other[2] - one[2]) * share),
    )


def darker(color: Color, share: float) -> Color:
    """Blend towards a blue black, as shade does outdoors."""
    return mix(color, (14, 14, 34), share)


def lighter(color: Color, share: float) -> Color:
    """Blend towards a warm white."""
    return mix(color, (255, 250, 240), share)


def curve(points: tuple[Point, ...], steps: int = 10) -> tuple[Point, ...]:
    """Round a closed outline (Catmull-Rom through its points)."""
    count, out = len(points), []
    for index in range(count):
        before, start, end, after = (points[(index + shift) % count] for shift in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            out.append(
                (
                    _catmull(before[0], start[0], end[0], after[0], t),
                    _catmull(before[1], start[1], end[1], after[1], t),
                )
            )
    return tuple(out)


def _catmull(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws one thing that stands at `(x, y)` and is `unit` high: its own y goes up, from 0 to about 1."""

    shapes: list[Shape]
    x: float
    y: float
    unit: float
    mirrored: bool = False
    tilt: float = 0.0

    def at(self, x: float, y: float, scale: float = 1.0, *, tilt: float = 0.0) -> Pen:
        """Give a pen for a part of the thing, standing at a point of it."""
        px, py = self._map((x, y))
        return replace(self, x=px, y=py, unit=self.unit * scale, tilt=self.tilt + tilt)

    def poly(
        self, points: tuple[Point, ...], color: Color, alpha: int = 255, *, smooth: bool = False
    ) -> None:
        """Fill an outline, rounded if `smooth`."""
        placed = tuple([self._map(point) for point in points])
        self.shapes.append(Poly(curve(placed) if smooth else placed, color, alpha))

    def oval(self, x: float, y: float, rx: float, ry: float, color: Color, alpha: int = 255) -> None:
        """Fill an ellipse round a point."""
        if self.tilt and rx != ry:
            ring = [(math.cos(i * math.tau / 24), math.sin(i * math.tau / 24)) for i in range(24)]
            self.poly(tuple([(x + rx * cos, y + ry * sin) for cos, sin in ring]), color, alpha)
            return
        self.shapes.append(Oval(self._map((x, y)), rx * self.unit, ry * self.unit, color, alpha))

    def box(
        self, left: float, bottom: float, right: float, top: float, color: Color, alpha: int = 255
    ) -> None:
        """Fill a rectangle."""
        self.poly(((left, bottom), (right, bottom), (right, top), (left, top)), color, alpha)

    def line(self, points: tuple[Point, ...], width: float, color: Color, alpha: int = 255) -> None:
        """Draw a line through points."""
        placed = tuple([self._map(point) for point in points])
        self.shapes.append(Stroke(placed, width * self.unit, color, alpha))

    def glow(self, x: float, y: float, radius: float, color: Color, alpha: int) -> None:
        """Put a soft light at a point."""
        self.shapes.append(Glow(self._map((x, y)), radius * self.unit, color, alpha))

    def _map(self, point: Point) -> Point:
        x = -point[0] if self.mirrored else point[0]
        y = point[1]
        if self.tilt:
            sin, cos = math.sin(self.tilt), math.cos(self.tilt)
            x, y = x * cos - y * sin, x * sin + y * cos
        return self.x + x * self.unit, self.y - y * self.unit
