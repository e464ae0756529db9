"""The grounds of a demo picture: hills, mountains, sea, desert, city and forest, each drawn up to the horizon."""

from __future__ import annotations

import math
from itertools import pairwise

from pixie_proxy.upstream.demo.shapes import Color, Oval, Pen, Poly, Stroke, darker, lighter, mix
from pixie_proxy.upstream.demo.stage import Outline, Stage
from pixie_proxy.upstream.demo.subjects import fir


def _ridge(stage: Stage, base: float, height: float, rough: float) -> Outline:
    """Draw a skyline by midpoint displacement, closed along the foot of the picture."""
    rng = stage.rng
    heights = [rng.random(), rng.random()]
    swing = 0.5
    while len(heights) < 129:
        grown = []
        for one, two in pairwise(heights):
            grown += [one, (one + two) / 2 + (rng.random() - 0.5) * swing]
        heights = [*grown, heights[-1]]
        swing *= rough
    low, high = min(heights), max(heights)
    line = [
        (stage.width * index / (len(heights) - 1), base - height * (value - low) / (high - low))
        for index, value in enumerate(heights)
    ]
    return (*line, (stage.width, stage.height), (0, stage.height))


def _rolling(stage: Stage, base: float, height: float) -> Outline:
    """Draw a soft hill line out of two waves."""
    rng = stage.rng
    one, two = rng.random() * math.tau, rng.random() * math.tau
    pace = 1.4 + rng.random() * 1.4
    line = []
    for step in range(65):
        x = stage.width * step / 64
        wave = 0.65 * math.sin(pace * x + one) + 0.35 * math.sin(2.3 * pace * x + two)
        line.append((x, base - height * (0.5 + 0.5 * wave)))
    return (*line, (stage.width, stage.height), (0, stage.height))


def _soil(stage: Stage) -> Color:
    if stage.brief.has_snow:
        return stage.lit((236, 240, 248), 0.12)
    return stage.lit(stage.rng.choice(((84, 130, 78), (104, 142, 76), (70, 120, 90), (150, 148, 84))))


def _hills(stage: Stage, *, start: float = 0.0) -> None:
    soil = _soil(stage)
    haze = stage.sky[2]
    span = stage.height - stage.horizon
    for index in range(4):
        share = start + (1 - start) * index / 3
        color = mix(mix(soil, haze, 0.6), darker(soil, 0.18), share)
        ridge = _rolling(stage, stage.horizon + span * (0.02 + 0.62 * share), 0.1 - 0.04 * share)
        stage.shapes.append(Poly(ridge, color))
        if index in {1, 2} and not stage.brief.has_snow:
            _bushes(stage, ridge, mix(color, stage.lit((38, 92, 60)), 0.55), 0.012 + 0.016 * share)


def _bushes(stage: Stage, ridge: Outline, color: Color, size: float) -> None:
    rng = stage.rng
    for _ in range(rng.randint(5, 11)):
        x, y = ridge[rng.randrange(2, 62)]
        for _ in range(3):
            dx = (rng.random() - 0.5) * size * 1.6
            stage.shapes.append(
                Oval((x + dx, y - size * 0.3), size * 0.7, size * (0.6 + 0.4 * rng.random()), color)
            )


def _mountains(stage: Stage) -> None:
    _peaks(stage, ((0.02, 0.4), (0.05, 0.27), (0.1, 0.16)))
    _hills(stage, start=0.45)


def _peaks(stage: Stage, ridges: Outline) -> None:
    """Draw ridges of (foot below the horizon, height), the farthest first and in the most haze."""
    rng = stage.rng
    rock = stage.lit(rng.choice(((86, 96, 128), (98, 92, 116), (78, 106, 122))), 0.1)
    for index, (lift, height) in enumerate(ridges):
        color = mix(mix(rock, stage.sky[2], 0.62), rock, index / 2)
        ridge = _ridge(stage, stage.horizon + lift, height, 0.52)
        stage.shapes.append(Poly(ridge, color))
        if index == 0 or stage.brief.has_snow:
            _caps(stage, ridge, stage.horizon + lift - height, height, lighter(color, 0.62))


def _caps(stage: Stage, ridge: Outline, top: float, height: float, color: Color) -> None:
    """Lay snow on a ridge: above the snow line, with a ragged lower edge."""
    line = top + height * 0.42
    run: list[tuple[float, float]] = []
    for x, y in (*ridge[:-2], (stage.width, stage.height)):
        if y < line:
            run.append((x, y))
        elif run:
            foot = [(px, py + (line - py) * (0.35 + 0.6 * stage.rng.random())) for px, py in reversed(run)]
            stage.shapes.append(Poly((*run, *foot), color, 225))
            run = []


def _sea(stage: Stage) -> None:
    rng, horizon, height = stage.rng, stage.horizon, stage.height
    deep = mix(stage.lit((26, 92, 128)), stage.sky[0], 0.35)
    near = mix(deep, stage.sky[2], 0.42)
    if stage.brief.has_peaks:
        _peaks(stage, ((0.002, 0.34), (0.004, 0.2)))
    elif rng.random() < 0.6:
        isle = _ridge(stage, horizon, 0.12, 0.5)
        side = rng.choice((0.0, 0.5)) * stage.width
        part = tuple([(x * 0.5 + side, y + abs(x / stage.width - 0.5) ** 2 * 0.5) for x, y in isle[:-2]])
        stage.shapes.append(
            Poly(
                (*part, (part[-1][0], horizon + 0.01), (part[0][0], horizon + 0.01)),
                mix(deep, stage.sky[2], 0.45),
            )
        )
    bands = 26
    for band in range(bands):
        top = horizon + (height - horizon) * (band / bands) ** 1.3
        color = mix(near, deep, band / (bands - 1))
        stage.shapes.append(Poly(((0, top), (stage.width, top), (stage.width, height), (0, height)), color))
    glint = lighter(stage.sky[2], 0.5)
    for _ in range(110):
        depth = rng.random() ** 1.5
        y = horizon + (height - horizon) * depth
        length, x = 0.01 + 0.07 * depth, rng.random() * stage.width
        x += 0.02 * math.sin(math.tau * (stage.phase + rng.random()))
        stage.shapes.append(
            Oval((x, y + 0.004), length, 0.0012 + 0.0026 * depth, glint, 36 + round(60 * rng.random()))
        )
    sun = next((shape for shape in stage.shapes if isinstance(shape, Oval) and shape.rx > 0.05), None)
    for step in range(26 if sun else 0):
        assert sun is not None  # noqa: S101 - for the type checker
        depth = step / 26
        x = sun.at[0] + (rng.random() - 0.5) * 0.1 * (0.4 + depth)
        y = horizon + 0.006 + (height - horizon) * 0.8 * depth
        stage.shapes.append(Oval((x, y), 0.03 + 0.05 * rng.random(), 0.0016 + 0.004 * depth, sun.color, 110))


def _desert(stage: Stage) -> None:
    sand = stage.lit((222, 176, 116), 0.1)
    span = stage.height - stage.horizon
    for index in range(4):
        share = index / 3
        color = mix(mix(sand, stage.sky[2], 0.5), darker(sand, 0.16), share)
        ridge = _rolling(stage, stage.horizon + span * (0.04 + 0.66 * share), 0.13 - 0.05 * share)
        stage.shapes.append(Poly(ridge, color))
        shadow = tuple(
            [(x, y + 0.012 + 0.035 * (0.5 + 0.5 * math.sin(5 * x + index))) for x, y in ridge[:-2]]
        )
        stage.shapes.append(Poly((*ridge[:-2], *reversed(shadow)), lighter(color, 0.3), 130))


def _city(stage: Stage) -> None:
    rng = stage.rng
    dark = stage.lit((66, 74, 104), 0.2)
    is_lit = stage.brief.light in {"night", "sunset", "storm"}
    foot = stage.horizon + 0.14
    for row in range(3):
        color = mix(mix(dark, stage.sky[2], 0.55), darker(dark, 0.15), row / 2)
        x = -0.03
        while x < stage.width:
            wide = 0.05 + 0.06 * rng.random()
            tall = (0.5 - row * 0.1) * (0.35 + 0.65 * rng.random())
            top, floor = foot - tall + row * 0.02, stage.height
            shade = mix(color, (0, 0, 0), 0.08 * rng.random())
            stage.shapes.append(Poly(((x, floor), (x, top), (x + wide, top), (x + wide, floor)), shade))
            style = rng.random()
            if style < 0.25:
                stage.shapes.append(
                    Poly(((x, top), (x + wide / 2, top - wide * 0.7), (x + wide, top)), shade)
                )
            elif style < 0.45:
                stage.shapes.append(Stroke(((x + wide / 2, top), (x + wide / 2, top - 0.06)), 0.004, shade))
            if row:
                _windows(stage, x, top, wide, foot, (255, 218, 134) if is_lit else lighter(shade, 0.3))
            x += wide + 0.006 * rng.random()
    street = darker(dark, 0.45)
    stage.shapes.append(
        Poly(((0, foot), (stage.width, foot), (stage.width, stage.height), (0, stage.height)), street)
    )
    for _ in range(60):
        depth = rng.random()
        at = (rng.random() * stage.width, foot + (stage.height - foot) * depth)
        light = rng.choice(((255, 206, 120), (240, 120, 110), (130, 190, 230)))
        stage.shapes.append(
            Oval(at, 0.012 + 0.05 * depth, 0.002 + 0.002 * depth, light, 60 if is_lit else 24)
        )


def _windows(stage: Stage, x: float, top: float, wide: float, foot: float, color: Color) -> None:
    columns = max(2, round(wide / 0.02))
    gap = wide / columns
    y = top + 0.014
    while y < foot - 0.02:
        for column in range(columns):
            if stage.rng.random() < 0.42:
                left = x + gap * (column + 0.28)
                pane = ((left, y), (left + gap * 0.44, y), (left + gap * 0.44, y + 0.011), (left, y + 0.011))
                stage.shapes.append(Poly(pane, color, 190))
        y += 0.024


def _forest(stage: Stage) -> None:
    rng = stage.rng
    _hills(stage)
    green = stage.lit((44, 96, 80), 0.14)
    if stage.brief.has_snow:
        green = lighter(green, 0.35)
    for row in range(3):
        color = mix(mix(green, stage.sky[2], 0.5), darker(green, 0.3), row / 2)
        base = stage.horizon + 0.07 + 0.1 * row
        for index in range(15 - row * 3):
            x = stage.width * (index + rng.random()) / (15 - row * 3)
            if row == 2 and abs(x - stage.width / 2) < stage.width * 0.24:
                continue
            fir(
                Pen(stage.shapes, x, base + 0.02 * rng.random(), 0.2 + row * 0.09 + 0.1 * rng.random()),
                color,
                rng,
            )


GROUNDS = {
    "hills": _hills,
    "mountains": _mountains,
    "sea": _sea,
    "desert": _desert,
    "city": _city,
    "forest": _forest,
}
