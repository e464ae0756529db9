"""The things that demo pictures can show: one small drawing each, and the words that ask for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from pixie_proxy.upstream.demo.shapes import Color, Pen, darker, lighter, mix

Place = Literal["ground", "sky", "water"]

INK: Color = (34, 32, 46)
CREAM: Color = (250, 244, 230)
WOOD: Color = (110, 74, 52)
GLASS: Color = (255, 221, 138)


@dataclass(frozen=True, slots=True)
class Subject:
    """A thing to draw: `height` in short edges of the picture, and where it belongs."""

    draw: Callable[[Pen, Color, Random], None]
    colors: tuple[Color, ...]
    height: float
    place: Place = "ground"


def _cat(pen: Pen, color: Color, rng: Random) -> None:
    shade = darker(color, 0.22)
    pen.line(((0.3, 0.1), (0.46, 0.12), (0.54, 0.28), (0.5, 0.44), (0.56, 0.54)), 0.085, shade)
    pen.poly(
        ((-0.25, 0), (-0.27, 0.25), (-0.14, 0.58), (0.14, 0.58), (0.3, 0.25), (0.3, 0)), color, smooth=True
    )
    pen.oval(0.2, 0.12, 0.15, 0.13, shade)
    pen.oval(0, 0.3, 0.12, 0.2, lighter(color, 0.45))
    for x in (-0.1, 0.09):
        pen.box(x - 0.055, 0.02, x + 0.055, 0.3, color)
        pen.oval(x, 0.03, 0.085, 0.045, lighter(color, 0.3))
    for side in (-1, 1):
        pen.poly(((side * 0.07, 0.83), (side * 0.24, 1.02), (side * 0.25, 0.7)), color)
        pen.poly(((side * 0.12, 0.84), (side * 0.21, 0.95), (side * 0.21, 0.76)), (232, 160, 160))
    pen.oval(0, 0.7, 0.255, 0.205, color)
    for side in (-1, 1):
        pen.oval(side * 0.105, 0.73, 0.05, 0.06, (214, 226, 120))
        pen.oval(side * 0.105, 0.73, 0.02, 0.052, INK)
        pen.oval(side * 0.105 + 0.014, 0.755, 0.012, 0.014, CREAM)
        for lift in (-0.02, 0.025):
            pen.line(((side * 0.07, 0.63), (side * 0.33, 0.62 + lift * 2)), 0.008, CREAM, 190)
    pen.oval(0, 0.625, 0.075, 0.05, lighter(color, 0.5))
    pen.poly(((-0.028, 0.66), (0.028, 0.66), (0, 0.63)), (214, 108, 116))


def _dog(pen: Pen, color: Color, rng: Random) -> None:
    shade = darker(color, 0.3)
    pen.line(((0.42, 0.48), (0.56, 0.62), (0.58, 0.76)), 0.08, color)
    for x in (-0.3, -0.16, 0.24, 0.38):
        pen.box(x - 0.05, 0, x + 0.05, 0.3, shade if x in {-0.16, 0.24} else color)
        pen.oval(x - 0.02, 0.025, 0.075, 0.035, lighter(color, 0.25))
    pen.poly(((-0.4, 0.3), (-0.36, 0.56), (0, 0.58), (0.4, 0.55), (0.46, 0.3), (0, 0.24)), color, smooth=True)
    pen.poly(((-0.42, 0.5), (-0.3, 0.86), (-0.12, 0.7), (-0.16, 0.46)), color, smooth=True)
    pen.oval(-0.36, 0.82, 0.2, 0.17, color)
    pen.oval(-0.53, 0.77, 0.12, 0.09, lighter(color, 0.35))
    pen.oval(-0.62, 0.8, 0.045, 0.036, INK)
    pen.oval(-0.41, 0.87, 0.028, 0.032, INK)
    pen.poly(((-0.3, 0.98), (-0.16, 0.92), (-0.14, 0.66), (-0.24, 0.64)), shade, smooth=True)
    pen.line(((-0.4, 0.62), (-0.16, 0.56)), 0.05, (204, 62, 58))


def _bird(pen: Pen, color: Color, rng: Random) -> None:
    pen.poly(((-0.3, 0.4), (-0.8, 0.3), (-0.84, 0.5), (-0.4, 0.55)), darker(color, 0.2))
    pen.poly(((-0.5, 0.42), (0, 0.24), (0.42, 0.42), (0.3, 0.66), (-0.1, 0.62)), color, smooth=True)
    pen.poly(((-0.15, 0.48), (-0.5, 1.05), (-0.1, 0.95), (0.18, 0.5)), lighter(color, 0.25), smooth=True)
    pen.oval(0.4, 0.62, 0.18, 0.17, color)
    pen.poly(((0.54, 0.66), (0.78, 0.6), (0.54, 0.55)), (240, 168, 60))
    pen.oval(0.46, 0.66, 0.03, 0.03, INK)


def _fish(pen: Pen, color: Color, rng: Random) -> None:
    shade = darker(color, 0.2)
    pen.poly(((0.32, 0.5), (0.72, 0.82), (0.62, 0.5), (0.72, 0.18)), shade)
    pen.poly(((-0.1, 0.74), (0.1, 1.0), (0.24, 0.7)), shade)
    pen.poly(
        ((-0.58, 0.5), (-0.2, 0.8), (0.2, 0.74), (0.42, 0.5), (0.2, 0.26), (-0.2, 0.2)), color, smooth=True
    )
    pen.poly(((-0.06, 0.5), (0.16, 0.6), (0.18, 0.36)), lighter(color, 0.35), smooth=True)
    pen.line(((-0.24, 0.7), (-0.19, 0.5), (-0.24, 0.3)), 0.03, lighter(color, 0.5))
    pen.oval(-0.38, 0.57, 0.055, 0.055, CREAM)
    pen.oval(-0.39, 0.57, 0.028, 0.028, INK)


def _house(pen: Pen, color: Color, rng: Random) -> None:
    roof, shade = (158, 66, 56), darker(color, 0.2)
    pen.box(0.2, 0.78, 0.33, 1.05, darker(roof, 0.3))
    pen.box(-0.45, 0, 0.45, 0.55, color)
    pen.box(0.2, 0, 0.45, 0.55, shade)
    pen.poly(((-0.56, 0.53), (-0.06, 0.98), (0.06, 0.98), (0.56, 0.53)), roof)
    pen.poly(((0.06, 0.98), (0.56, 0.53), (0.26, 0.53)), darker(roof, 0.22))
    pen.box(-0.08, 0, 0.1, 0.34, WOOD)
    pen.oval(0.06, 0.17, 0.014, 0.014, GLASS)
    for x in (-0.28, 0.31):
        pen.glow(x, 0.34, 0.26, GLASS, 90)
        pen.box(x - 0.095, 0.22, x + 0.095, 0.44, CREAM)
        pen.box(x - 0.078, 0.237, x + 0.078, 0.423, GLASS)
        pen.box(x - 0.008, 0.22, x + 0.008, 0.44, CREAM)
        pen.box(x - 0.095, 0.322, x + 0.095, 0.338, CREAM)
    pen.oval(0, 0.68, 0.07, 0.07, CREAM)
    pen.oval(0, 0.68, 0.05, 0.05, GLASS)


def _tree(pen: Pen, color: Color, rng: Random) -> None:
    pen.poly(((-0.06, 0), (-0.03, 0.5), (0.04, 0.5), (0.07, 0)), WOOD)
    pen.line(((0.01, 0.36), (0.14, 0.5)), 0.03, WOOD)
    blobs = ((0, 0.72, 0.27), (-0.2, 0.6, 0.19), (0.21, 0.62, 0.2), (-0.1, 0.84, 0.17), (0.12, 0.86, 0.16))
    for x, y, radius in blobs:
        pen.oval(x + 0.015, y - 0.03, radius, radius * 0.94, darker(color, 0.28))
    for x, y, radius in blobs:
        pen.oval(x, y, radius * 0.94, radius * 0.9, color)
    for x, y, radius in blobs:
        pen.oval(x - radius * 0.24, y + radius * 0.26, radius * 0.5, radius * 0.46, lighter(color, 0.2))


def fir(pen: Pen, color: Color, rng: Random) -> None:
    """Draw a fir: forests are made of them too."""
    pen.box(-0.03, 0, 0.03, 0.2, WOOD)
    for level in range(4):
        low, half = 0.1 + level * 0.2, 0.3 - level * 0.06
        tip = (0, low + 0.36)
        pen.poly(((-half, low), tip, (half, low), (0, low + 0.05)), mix(color, (255, 255, 255), level * 0.04))
        pen.poly((tip, (half, low), (0, low + 0.05)), darker(color, 0.22))


def _flower(pen: Pen, color: Color, rng: Random) -> None:
    green: Color = (74, 130, 78)
    pen.line(((0, 0), (0.025, 0.3), (0, 0.68)), 0.04, green)
    for side, low in ((-1, 0.12), (1, 0.24)):
        leaf = ((0.01, low), (side * 0.14, low + 0.18), (side * 0.27, low + 0.2), (side * 0.17, low + 0.04))
        pen.poly(leaf, lighter(green, 0.12), smooth=True)
    for ring, (count, reach, shade) in enumerate(((9, 0.25, darker(color, 0.16)), (9, 0.2, color))):
        for petal in range(count):
            turn = math.tau * (petal + ring / 2) / count
            pen.at(0, 0.72, tilt=turn).oval(0, reach * 0.62, 0.068, reach * 0.52, shade)
    pen.oval(0, 0.72, 0.088, 0.088, (236, 178, 62))
    pen.oval(-0.02, 0.74, 0.05, 0.05, (248, 208, 108))


def _boat(pen: Pen, color: Color, rng: Random) -> None:
    pen.poly(((-0.44, 0.02), (0.44, 0.02), (0.4, -0.06), (-0.4, -0.06)), CREAM, 60)
    pen.line(((0.02, 0.12), (0.02, 1.0)), 0.025, WOOD)
    pen.poly(((0.06, 0.26), (0.06, 0.97), (0.28, 0.6), (0.42, 0.26)), CREAM)
    pen.poly(((0.06, 0.26), (0.06, 0.5), (0.36, 0.4), (0.42, 0.26)), darker(CREAM, 0.1))
    pen.poly(((-0.02, 0.28), (-0.02, 0.9), (-0.34, 0.28)), color)
    pen.poly(((-0.5, 0.2), (0.52, 0.2), (0.38, 0), (-0.36, 0)), darker(color, 0.2))
    pen.poly(((-0.5, 0.2), (0.52, 0.2), (0.49, 0.155), (-0.47, 0.155)), CREAM)
    pen.poly(((0.02, 1.0), (0.02, 1.07), (0.14, 1.03)), (214, 70, 62))


def _balloon(pen: Pen, color: Color, rng: Random) -> None:
    second = lighter(color, 0.6)
    for x in (-0.08, 0.08):
        pen.line(((x, 0.14), (x * 2.6, 0.42)), 0.01, WOOD)
    pen.box(-0.09, 0.0, 0.09, 0.14, (150, 104, 66))
    pen.box(-0.1, 0.12, 0.1, 0.16, WOOD)
    for index, half in enumerate((0.36, 0.27, 0.17, 0.065)):
        outline = ((-half * 0.34, 0.32), (-half, 0.66), (-half * 0.62, 0.92), (0, 1.0))
        right = tuple([(-x, y) for x, y in reversed(outline[:-1])])
        pen.poly((*outline, *right), color if index % 2 == 0 else second, smooth=True)
    pen.poly(((-0.26, 0.72), (-0.2, 0.86), (-0.12, 0.9), (-0.2, 0.72)), (255, 255, 255), 70, smooth=True)


def _robot(pen: Pen, color: Color, rng: Random) -> None:
    shade, light = darker(color, 0.3), (126, 240, 224)
    for side in (-1, 1):
        pen.box(side * 0.12 - 0.05, 0.02, side * 0.12 + 0.05, 0.24, shade)
        pen.oval(side * 0.13, 0.03, 0.1, 0.05, color)
        pen.line(((side * 0.25, 0.5), (side * 0.4, 0.4), (side * 0.38, 0.25)), 0.06, shade)
        pen.oval(side * 0.38, 0.22, 0.055, 0.055, color)
        pen.box(side * 0.29 - 0.04, 0.7, side * 0.29 + 0.04, 0.84, shade)
    pen.box(-0.26, 0.2, 0.26, 0.58, color)
    pen.box(0.12, 0.2, 0.26, 0.58, darker(color, 0.14))
    pen.box(-0.16, 0.3, 0.1, 0.5, shade)
    for index, dot in enumerate(((230, 90, 80), (240, 190, 80), (110, 200, 120))):
        pen.oval(-0.1 + index * 0.07, 0.44, 0.022, 0.022, dot)
    pen.box(-0.12, 0.34, 0.06, 0.36, light)
    pen.line(((0, 0.92), (0, 1.0)), 0.02, shade)
    pen.oval(0, 1.02, 0.035, 0.035, (230, 90, 80))
    pen.box(-0.28, 0.62, 0.28, 0.92, lighter(color, 0.2))
    pen.box(-0.21, 0.68, 0.21, 0.86, INK)
    for x in (-0.1, 0.1):
        pen.glow(x, 0.78, 0.11, light, 130)
        pen.oval(x, 0.78, 0.04, 0.045, light)


def _rocket(pen: Pen, color: Color, rng: Random) -> None:
    pen.glow(0, 0.05, 0.34, (255, 170, 70), 170)
    pen.poly(((-0.09, 0.18), (0, -0.12), (0.09, 0.18)), (255, 150, 60))
    pen.poly(((-0.05, 0.18), (0, 0.0), (0.05, 0.18)), (255, 228, 140))
    for side in (-1, 1):
        pen.poly(((side * 0.12, 0.42), (side * 0.28, 0.12), (side * 0.1, 0.2)), darker(color, 0.2))
    body = ((-0.12, 0.2), (-0.16, 0.5), (-0.1, 0.8), (0, 1.0), (0.1, 0.8), (0.16, 0.5), (0.12, 0.2))
    pen.poly(body, CREAM, smooth=True)
    pen.poly(
        ((0.04, 0.2), (0.08, 0.5), (0.05, 0.8), (0, 1.0), (0.1, 0.8), (0.16, 0.5), (0.12, 0.2)),
        (206, 204, 210),
    )
    pen.poly(((-0.1, 0.8), (0, 1.02), (0.1, 0.8), (0, 0.77)), color, smooth=True)
    pen.oval(0, 0.6, 0.075, 0.075, color)
    pen.oval(0, 0.6, 0.052, 0.052, (120, 190, 222))


def _car(pen: Pen, color: Color, rng: Random) -> None:
    pen.poly(((-0.5, 0.5), (-0.28, 0.86), (0.3, 0.86), (0.56, 0.5)), darker(color, 0.12))
    pen.poly(((-0.38, 0.52), (-0.23, 0.78), (-0.02, 0.78), (-0.02, 0.52)), (188, 222, 234))
    pen.poly(((0.04, 0.52), (0.04, 0.78), (0.26, 0.78), (0.44, 0.52)), (166, 204, 220))
    pen.poly(((-0.86, 0.2), (-0.84, 0.5), (-0.5, 0.56), (0.56, 0.56), (0.88, 0.48), (0.9, 0.2)), color)
    pen.box(-0.86, 0.2, 0.9, 0.28, darker(color, 0.25))
    pen.oval(-0.8, 0.42, 0.05, 0.06, (255, 236, 170))
    for x in (-0.48, 0.5):
        pen.oval(x, 0.18, 0.19, 0.19, INK)
        pen.oval(x, 0.18, 0.1, 0.1, (200, 202, 208))


def _person(pen: Pen, color: Color, rng: Random) -> None:
    skin = rng.choice(((241, 201, 170), (198, 142, 102), (130, 88, 64)))
    for side in (-1, 1):
        pen.line(((side * 0.06, 0.4), (side * 0.08, 0.03)), 0.09, (58, 62, 92))
        pen.line(((side * 0.12, 0.66), (side * 0.2, 0.42)), 0.065, darker(color, 0.12))
        pen.oval(side * 0.205, 0.4, 0.035, 0.035, skin)
        pen.oval(side * 0.1, 0.02, 0.07, 0.03, INK)
    pen.poly(((-0.15, 0.36), (-0.13, 0.7), (0.13, 0.7), (0.15, 0.36)), color)
    pen.oval(0, 0.7, 0.13, 0.05, color)
    pen.box(-0.04, 0.7, 0.04, 0.78, skin)
    pen.oval(0, 0.88, 0.135, 0.13, INK)
    pen.oval(0, 0.855, 0.115, 0.115, skin)


def _lighthouse(pen: Pen, color: Color, rng: Random) -> None:
    pen.poly(((-0.36, 0), (-0.22, 0.09), (0.24, 0.1), (0.38, 0)), (86, 84, 92))
    pen.poly(((-0.16, 0.06), (-0.1, 0.76), (0.1, 0.76), (0.16, 0.06)), CREAM)
    for low in (0.14, 0.36, 0.58):
        wide, narrow = 0.16 - (low - 0.06) * 0.086, 0.16 - (low + 0.05) * 0.086
        pen.poly(((-wide, low), (-narrow, low + 0.11), (narrow, low + 0.11), (wide, low)), color)
    pen.poly(((0.05, 0.06), (0.05, 0.76), (0.1, 0.76), (0.16, 0.06)), INK, 46)
    pen.box(-0.14, 0.75, 0.14, 0.785, INK)
    pen.glow(0, 0.85, 0.6, (255, 226, 140), 170)
    pen.box(-0.075, 0.785, 0.075, 0.9, (255, 232, 160))
    pen.poly(((-0.11, 0.9), (0, 1.02), (0.11, 0.9)), color)


def _castle(pen: Pen, color: Color, rng: Random) -> None:
    shade = darker(color, 0.25)
    for x, top in ((-0.42, 0.7), (0.42, 0.7), (0, 0.86)):
        pen.box(x - 0.13, 0, x + 0.13, top - 0.18, color if x <= 0 else shade)
        pen.poly(((x - 0.17, top - 0.19), (x, top + 0.14), (x + 0.17, top - 0.19)), (150, 66, 74))
        pen.line(((x, top + 0.13), (x, top + 0.24)), 0.012, INK)
        pen.poly(((x, top + 0.24), (x + 0.1, top + 0.2), (x, top + 0.16)), (236, 178, 62))
        pen.box(x - 0.03, top - 0.36, x + 0.03, top - 0.25, GLASS)
    pen.box(-0.34, 0, 0.34, 0.36, mix(color, shade, 0.4))
    for step in range(6):
        pen.box(-0.33 + step * 0.117, 0.36, -0.26 + step * 0.117, 0.42, mix(color, shade, 0.4))
    pen.box(-0.09, 0, 0.09, 0.16, WOOD)
    pen.oval(0, 0.16, 0.09, 0.09, WOOD)


def _mushroom(pen: Pen, color: Color, rng: Random) -> None:
    pen.poly(((-0.13, 0), (-0.09, 0.5), (0.09, 0.5), (0.15, 0), (0, -0.03)), CREAM, smooth=True)
    cap = ((-0.46, 0.46), (-0.36, 0.74), (0, 0.98), (0.36, 0.74), (0.46, 0.46), (0, 0.38))
    pen.poly(cap, color, smooth=True)
    for x, y, radius in ((-0.2, 0.64, 0.07), (0.04, 0.82, 0.06), (0.24, 0.62, 0.075), (0.02, 0.56, 0.05)):
        pen.oval(x, y, radius, radius * 0.8, CREAM)


def _cup(pen: Pen, color: Color, rng: Random) -> None:
    pen.oval(0, 0.03, 0.5, 0.05, darker(color, 0.35))
    pen.oval(0, 0.05, 0.5, 0.045, lighter(color, 0.25))
    pen.oval(0.33, 0.34, 0.16, 0.15, color)
    pen.oval(0.33, 0.34, 0.09, 0.085, darker(color, 0.3))
    pen.poly(((-0.34, 0.56), (-0.3, 0.22), (-0.16, 0.06), (0.16, 0.06), (0.3, 0.22), (0.34, 0.56)), color)
    pen.oval(0, 0.56, 0.34, 0.06, lighter(color, 0.35))
    pen.oval(0, 0.555, 0.29, 0.043, (86, 54, 40))
    for x in (-0.12, 0.02, 0.15):
        pen.line(((x, 0.66), (x + 0.04, 0.76), (x - 0.02, 0.86), (x + 0.03, 0.97)), 0.025, CREAM, 150)


def _heart(pen: Pen, color: Color, rng: Random) -> None:
    ring = [math.tau * step / 60 for step in range(60)]
    points = [
        (
            16 * math.sin(t) ** 3 / 34,
            0.52 + (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 34,
        )
        for t in ring
    ]
    pen.poly(tuple(points), color)
    pen.oval(-0.22, 0.74, 0.1, 0.07, (255, 255, 255), 80)


def _gem(pen: Pen, color: Color, rng: Random) -> None:
    top, middle, low = 0.92, 0.64, 0.04
    xs = (-0.46, -0.18, 0.18, 0.46)
    tops = (-0.3, 0.0, 0.3)
    shades = (lighter(color, 0.35), lighter(color, 0.1), darker(color, 0.12))
    for index, shade in enumerate(shades):
        pen.poly(((xs[index], middle), (xs[index + 1], middle), (0, low)), shade)
    pen.poly(((xs[0], middle), (tops[0], top), (xs[1], middle)), color)
    pen.poly(((tops[0], top), (tops[2], top), (xs[2], middle), (xs[1], middle)), lighter(color, 0.55))
    pen.poly(((xs[2], middle), (tops[2], top), (xs[3], middle)), darker(color, 0.22))


_GREENS: tuple[Color, ...] = ((92, 148, 84), (122, 164, 78), (62, 124, 92))

SUBJECTS: dict[str, Subject] = {
    "cat": Subject(_cat, ((226, 146, 76), (122, 122, 134), (60, 58, 70), (236, 214, 186)), 0.42),
    "dog": Subject(_dog, ((192, 138, 88), (120, 84, 62), (228, 198, 152)), 0.36),
    "bird": Subject(_bird, ((86, 138, 196), (214, 96, 78), (240, 236, 228)), 0.15, "sky"),
    "fish": Subject(_fish, ((240, 140, 66), (80, 166, 196), (232, 196, 84)), 0.2, "water"),
    "house": Subject(_house, ((238, 220, 190), (210, 226, 228), (232, 190, 160)), 0.4),
    "tree": Subject(_tree, _GREENS, 0.5),
    "fir": Subject(fir, ((46, 100, 84), (54, 112, 78)), 0.5),
    "flower": Subject(_flower, ((226, 92, 112), (242, 178, 196), (164, 118, 206), (244, 160, 72)), 0.42),
    "boat": Subject(_boat, ((206, 84, 70), (70, 112, 158), (236, 170, 84)), 0.36, "water"),
    "balloon": Subject(_balloon, ((214, 78, 72), (84, 130, 190), (240, 172, 70)), 0.4, "sky"),
    "robot": Subject(_robot, ((150, 166, 184), (112, 160, 170), (206, 170, 110)), 0.46),
    "rocket": Subject(_rocket, ((214, 78, 72), (84, 130, 190)), 0.46, "sky"),
    "car": Subject(_car, ((206, 70, 62), (74, 128, 176), (236, 182, 78)), 0.22),
    "person": Subject(_person, ((206, 84, 70), (70, 128, 136), (222, 170, 80)), 0.4),
    "lighthouse": Subject(_lighthouse, ((206, 64, 58), (52, 92, 140)), 0.56),
    "castle": Subject(_castle, ((196, 188, 184), (214, 196, 170)), 0.48),
    "mushroom": Subject(_mushroom, ((206, 60, 54), (190, 120, 80)), 0.34),
    "cup": Subject(_cup, ((240, 236, 228), (96, 150, 160), (214, 110, 90)), 0.34),
    "heart": Subject(_heart, ((220, 64, 86),), 0.32, "sky"),
    "gem": Subject(_gem, ((92, 168, 206), (186, 110, 196), (94, 190, 150)), 0.4),
}

WORDS: dict[str, str] = {
    word: name
    for name, words in {
        "cat": "cat kitten kitty katze gato chat feline",
        "dog": "dog puppy hound hund perro chien",
        "bird": "bird seagull gull parrot eagle robin vogel oiseau crow owl",
        "fish": "fish goldfish koi whale shark fisch",
        "house": "house home cottage cabin hut haus casa maison barn bakery",
        "tree": "tree oak apple orchard baum arbre",
        "fir": "fir pine spruce christmas",
        "flower": "flower rose tulip daisy sunflower blossom blume fleur lily poppy",
        "boat": "boat ship sailboat yacht sail sailing boot bateau",
        "balloon": "balloon airship zeppelin ballon",
        "robot": "robot android machine cyborg roboter",
        "rocket": "rocket spaceship spacecraft shuttle rakete",
        "car": "car truck van taxi automobile auto",
        "person": "person man woman girl boy child people wizard astronaut knight farmer portrait dancer",
        "lighthouse": "lighthouse leuchtturm phare",
        "castle": "castle palace fortress schloss burg",
        "mushroom": "mushroom toadstool pilz",
        "cup": "cup coffee tea mug espresso latte kaffee",
        "heart": "heart love valentine herz",
        "gem": "gem diamond jewel crystal emerald ruby logo icon",
    }.items()
    for word in words.split()
}
