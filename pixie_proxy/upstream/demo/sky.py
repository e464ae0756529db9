"""The sky of a demo picture and what is in it: sun or moon, stars, clouds, rain and snow."""

from __future__ import annotations

import math

from pixie_proxy.upstream.demo.brief import Light
from pixie_proxy.upstream.demo.shapes import Color, Glow, Oval, Poly, Stroke, darker, lighter
from pixie_proxy.upstream.demo.stage import Stage

SKIES: dict[Light, tuple[tuple[Color, Color, Color], ...]] = {
    "day": (
        ((62, 132, 198), (140, 194, 226), (244, 236, 214)),
        ((72, 150, 176), (152, 206, 206), (250, 234, 204)),
        ((88, 124, 190), (164, 186, 222), (246, 222, 212)),
    ),
    "dawn": (
        ((110, 128, 178), (226, 170, 176), (252, 222, 180)),
        ((86, 142, 160), (190, 206, 190), (252, 232, 196)),
        ((142, 122, 176), (234, 178, 172), (254, 226, 190)),
    ),
    "sunset": (
        ((54, 40, 92), (190, 76, 104), (255, 182, 96)),
        ((42, 58, 108), (206, 104, 96), (255, 200, 124)),
        ((88, 44, 94), (222, 94, 88), (255, 190, 110)),
    ),
    "night": (
        ((10, 14, 40), (28, 40, 88), (78, 84, 134)),
        ((12, 10, 34), (44, 34, 86), (104, 78, 130)),
        ((6, 20, 40), (20, 56, 88), (70, 110, 130)),
    ),
    "storm": (
        ((46, 54, 72), (92, 104, 122), (160, 166, 170)),
        ((52, 50, 70), (98, 98, 122), (172, 162, 166)),
        ((40, 58, 66), (86, 108, 112), (158, 172, 166)),
    ),
}

_SUNS: dict[Light, Color] = {
    "day": (255, 246, 214),
    "dawn": (255, 228, 190),
    "sunset": (255, 214, 130),
    "night": (240, 240, 226),
    "storm": (214, 216, 214),
}


def draw_sun(stage: Stage) -> None:
    """Draw the sun, or the moon, and its glow."""
    brief, rng = stage.brief, stage.rng
    color = _SUNS[brief.light]
    x = stage.width * rng.choice((0.24, 0.32, 0.68, 0.76))
    low = brief.light in {"sunset", "dawn"}
    y = stage.horizon - (0.08 if low else 0.36 * stage.height) + 0.012 * math.sin(math.tau * stage.phase)
    radius = 0.085 if low else 0.062
    if not brief.has_sun:
        return
    stage.shapes.append(Glow((x, y), radius * 7, color, 150 if brief.light != "night" else 90))
    stage.shapes.append(Glow((x, y), radius * 2.4, color, 160))
    stage.shapes.append(Oval((x, y), radius, radius, color))
    if brief.light == "night":
        for dx, dy, r in ((-0.02, -0.014, 0.014), (0.024, 0.01, 0.01), (-0.006, 0.03, 0.008)):
            stage.shapes.append(Oval((x + dx, y + dy), r, r, darker(color, 0.12)))


def draw_stars(stage: Stage) -> None:
    """Draw stars, which twinkle."""
    rng = stage.rng
    for index in range(90):
        x, y = rng.random() * stage.width, rng.random() ** 1.4 * stage.horizon
        size = rng.choice((0.0012, 0.0016, 0.0022))
        twinkle = 0.5 + 0.5 * math.sin(math.tau * (stage.phase + index / 7))
        stage.shapes.append(Oval((x, y), size, size, (255, 252, 236), round(110 + 130 * twinkle)))


def draw_clouds(stage: Stage) -> None:
    """Draw clouds in the light of the sky."""
    rng, brief = stage.rng, stage.brief
    base = lighter(stage.sky[1], 0.55) if brief.light != "storm" else darker(stage.sky[1], 0.25)
    alpha = {"night": 30, "storm": 190, "sunset": 90}.get(brief.light, 150)
    for _ in range(7 if brief.light == "storm" else rng.randint(2, 4)):
        x = (rng.random() * stage.width + 0.06 * math.sin(math.tau * stage.phase)) % stage.width
        y, scale = stage.horizon * (0.12 + 0.5 * rng.random()), 0.09 + 0.1 * rng.random()
        outline = [(x + scale * 1.5, y), (x - scale * 1.5, y)]
        # One outline for the whole cloud: overlapping translucent ovals would show their seams.
        for step in range(21):
            turn = math.pi - math.pi * step / 20
            bulge = 1 + 0.2 * abs(math.sin(2.5 * turn + x * 9))
            outline.append(
                (
                    x + scale * 1.5 * math.cos(turn),
                    y - scale * 0.42 * math.sin(turn) ** 0.8 * bulge - 0.004,
                )
            )
        stage.shapes.append(Poly(tuple(outline[1:]), base, alpha))


def draw_rain(stage: Stage) -> None:
    """Draw rain over all else."""
    for _ in range(120):
        x = stage.rng.random() * stage.width
        y = (stage.rng.random() + stage.phase) % 1 * stage.height
        stage.shapes.append(Stroke(((x, y), (x - 0.012, y + 0.045)), 0.0022, (226, 234, 242), 90))


def draw_snow(stage: Stage) -> None:
    """Draw snow over all else."""
    for _ in range(130):
        x = stage.rng.random() * stage.width
        y = (stage.rng.random() + stage.phase) % 1 * stage.height
        radius = stage.rng.choice((0.002, 0.003, 0.005))
        stage.shapes.append(Oval((x, y), radius, radius, (255, 255, 255), 200))
