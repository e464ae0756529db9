"""Composes a demo picture: a brief becomes a list of shapes, back to front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from pixie_proxy.upstream.demo.brief import Brief, Light, Thing
from pixie_proxy.upstream.demo.shapes import (
    Color,
    Glow,
    Oval,
    Pen,
    Poly,
    Shape,
    Sky,
    Stroke,
    darker,
    lighter,
    mix,
)
from pixie_proxy.upstream.demo.subjects import SUBJECTS, fir

CAPTION_SHARE = 0.085
"""The strip at the foot of a picture that carries the prompt, in short edges: nothing stands below it."""

_SKIES: dict[Light, tuple[tuple[Color, Color, Color], ...]] = {
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


@dataclass(slots=True)
class _Stage:
    """What the parts of a scene share while it is composed. `phase` runs from 0 to 1 through an animation."""

    brief: Brief
    rng: Random
    width: float
    height: float
    phase: float
    sky: tuple[Color, Color, Color]
    shapes: list[Shape]

    @property
    def horizon(self) -> float:
        return self.height * (0.58 if self.brief.ground == "sea" else 0.62)

    def lit(self, color: Color, share: float = 0.22) -> Color:
        """Set a colour into this scene's light."""
        mood = self.sky[1] if self.brief.light in {"day", "dawn"} else self.sky[0]
        strength = {"night": 0.56, "storm": 0.34, "sunset": 0.28}.get(self.brief.light, share)
        return mix(color, mood, strength)


def compose(brief: Brief, rng: Random, width: float, height: float, *, phase: float = 0.0) -> list[Shape]:
    """Compose a full scene on a canvas of `width` × `height` short edges."""
    skies = _SKIES[brief.light]
    sky = skies[rng.randrange(len(skies))]
    if brief.tint:
        sky = (mix(sky[0], darker(brief.tint, 0.25), 0.62), mix(sky[1], brief.tint, 0.55), sky[2])
    stage = _Stage(brief, rng, width, height, phase, sky, [])
    if brief.ground == "abstract":
        _abstract(stage)
    else:
        stage.shapes.append(Sky(((0, sky[0]), (0.4, sky[1]), (0.66, sky[2]), (1, sky[2]))))
        if brief.light == "night":
            _stars(stage)
        _sun(stage)
        _clouds(stage)
        _GROUNDS[brief.ground](stage)
    _things(stage)
    if brief.has_rain:
        _rain(stage)
    if brief.has_snow:
        _snow(stage)
    return stage.shapes


def compose_cutout(
    brief: Brief, rng: Random, width: float, height: float, *, phase: float = 0.0
) -> list[Shape]:
    """Compose only the things of a brief, large, for a transparent background."""
    shapes: list[Shape] = []
    things = brief.things or (Thing("gem", brief.tint or rng.choice(SUBJECTS["gem"].colors)),)
    room = height - CAPTION_SHARE
    unit = min(0.8 * room, 0.95 * width / len(things))
    for index, thing in enumerate(things):
        x = width * (index + 0.5) / len(things)
        y = room - (room - unit) * 0.5 + 0.02 * math.sin(math.tau * (phase + index / 3))
        SUBJECTS[thing.name].draw(Pen(shapes, x, y, unit * 0.86), thing.color, rng)
    return shapes


def compose_addition(brief: Brief, rng: Random, width: float, height: float) -> list[Shape]:
    """Compose what an edit adds over somebody's image: its things, at their usual places, and no ground."""
    stage = _Stage(brief, rng, width, height, 0, _SKIES[brief.light][0], [])
    _things(stage, is_alone=True)
    return stage.shapes


def _sun(stage: _Stage) -> None:
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


def _stars(stage: _Stage) -> None:
    rng = stage.rng
    for index in range(90):
        x, y = rng.random() * stage.width, rng.random() ** 1.4 * stage.horizon
        size = rng.choice((0.0012, 0.0016, 0.0022))
        twinkle = 0.5 + 0.5 * math.sin(math.tau * (stage.phase + index / 7))
        stage.shapes.append(Oval((x, y), size, size, (255, 252, 236), round(110 + 130 * twinkle)))


def _clouds(stage: _Stage) -> None:
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


def _ridge(stage: _Stage, base: float, height: float, rough: float) -> tuple[tuple[float, float], ...]:
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


def _rolling(stage: _Stage, base: float, height: float) -> tuple[tuple[float, float], ...]:
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


def _soil(stage: _Stage) -> Color:
    if stage.brief.has_snow:
        return stage.lit((236, 240, 248), 0.12)
    return stage.lit(stage.rng.choice(((84, 130, 78), (104, 142, 76), (70, 120, 90), (150, 148, 84))))


def _hills(stage: _Stage, *, start: float = 0.0) -> None:
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


def _bushes(stage: _Stage, ridge: tuple[tuple[float, float], ...], color: Color, size: float) -> None:
    rng = stage.rng
    for _ in range(rng.randint(5, 11)):
        x, y = ridge[rng.randrange(2, 62)]
        for _ in range(3):
            dx = (rng.random() - 0.5) * size * 1.6
            stage.shapes.append(
                Oval((x + dx, y - size * 0.3), size * 0.7, size * (0.6 + 0.4 * rng.random()), color)
            )


def _mountains(stage: _Stage) -> None:
    _peaks(stage, ((0.02, 0.4), (0.05, 0.27), (0.1, 0.16)))
    _hills(stage, start=0.45)


def _peaks(stage: _Stage, ridges: tuple[tuple[float, float], ...]) -> None:
    """Draw ridges of (foot below the horizon, height), the farthest first and in the most haze."""
    rng = stage.rng
    rock = stage.lit(rng.choice(((86, 96, 128), (98, 92, 116), (78, 106, 122))), 0.1)
    for index, (lift, height) in enumerate(ridges):
        color = mix(mix(rock, stage.sky[2], 0.62), rock, index / 2)
        ridge = _ridge(stage, stage.horizon + lift, height, 0.52)
        stage.shapes.append(Poly(ridge, color))
        if index == 0 or stage.brief.has_snow:
            _caps(stage, ridge, stage.horizon + lift - height, height, lighter(color, 0.62))


def _caps(
    stage: _Stage, ridge: tuple[tuple[float, float], ...], top: float, height: float, color: Color
) -> None:
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


def _sea(stage: _Stage) -> None:
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


def _desert(stage: _Stage) -> None:
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


def _city(stage: _Stage) -> None:
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


def _windows(stage: _Stage, x: float, top: float, wide: float, foot: float, color: Color) -> None:
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


def _forest(stage: _Stage) -> None:
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


def _abstract(stage: _Stage) -> None:
    rng, brief = stage.rng, stage.brief
    families: tuple[tuple[Color, ...], ...] = (
        ((236, 226, 206), (214, 92, 70), (240, 172, 84), (38, 84, 98), (116, 164, 156)),
        ((30, 34, 60), (232, 102, 94), (246, 190, 120), (88, 116, 190), (206, 214, 226)),
        ((240, 232, 224), (92, 70, 130), (222, 128, 150), (246, 196, 120), (70, 140, 150)),
        ((22, 52, 58), (240, 206, 140), (212, 110, 76), (92, 158, 140), (238, 232, 214)),
    )
    colors = families[rng.randrange(len(families))]
    if brief.tint:
        colors = (
            lighter(brief.tint, 0.78),
            brief.tint,
            *[mix(color, brief.tint, 0.4) for color in colors[2:]],
        )
    width, height = stage.width, stage.height
    stage.shapes.append(Sky(((0, colors[0]), (1, mix(colors[0], colors[1], 0.28)))))
    cx, cy = width * (0.4 + 0.2 * rng.random()), height * (0.36 + 0.12 * rng.random())
    for ring in range(7, 0, -1):
        radius = ring * 0.072
        stage.shapes.append(Oval((cx, cy), radius, radius, colors[1 + ring % 4], 235))
    stage.shapes.append(Oval((cx, cy), 0.03, 0.03, colors[0]))
    for band in range(5):
        base = height * (0.56 + 0.1 * band)
        start = rng.random() * math.tau + math.tau * stage.phase
        line = [
            (
                width * step / 60,
                base + 0.05 * math.sin(start + step / (7 + band)) + 0.03 * math.sin(step / 4 + band),
            )
            for step in range(61)
        ]
        stage.shapes.append(Poly((*line, (width, height), (0, height)), colors[1 + band % 4], 225))
        stage.shapes.append(Stroke(tuple(line), 0.004, colors[0], 150))
    for _ in range(14):
        at = (rng.random() * width, rng.random() * height * 0.8)
        radius = rng.choice((0.006, 0.012, 0.02))
        stage.shapes.append(Oval(at, radius, radius, rng.choice(colors[1:]), 220))


def _things(stage: _Stage, *, is_alone: bool = False) -> None:
    rng, things = stage.rng, stage.brief.things
    standing = [thing for thing in things if SUBJECTS[thing.name].place != "sky"]
    flying = [thing for thing in things if SUBJECTS[thing.name].place == "sky"]
    for group in (flying, standing):
        for index, thing in sorted(enumerate(group), key=lambda item: -SUBJECTS[item[1].name].height):
            subject = SUBJECTS[thing.name]
            unit = subject.height * min(1.0, 1.5 * stage.width / (0.6 + len(group)))
            unit *= 0.9 + 0.2 * rng.random()
            x = stage.width * (index + 0.5) / len(group) + (rng.random() - 0.5) * 0.12
            if group is flying and standing:
                x = stage.width * (0.2 + 0.6 * (index + 0.3) / len(flying)) - 0.06
            bob = math.sin(math.tau * (stage.phase + index / 3))
            if subject.place == "sky":
                y = stage.height * (0.3 + 0.14 * rng.random()) + unit / 2 + 0.015 * bob
            elif subject.place == "water":
                y = stage.height * (0.7 + 0.08 * rng.random()) + 0.006 * bob
            else:
                y = stage.height - CAPTION_SHARE - 0.035 - 0.06 * rng.random()
            pen = Pen(
                stage.shapes, x, y, unit, rng.random() < 0.4, 0.03 * bob if subject.place != "ground" else 0
            )
            if subject.place != "sky":
                stage.shapes.append(Oval((x, y + 0.004), unit * 0.5, unit * 0.055, (16, 20, 34), 70))
            color = thing.color if is_alone else mix(thing.color, stage.lit(thing.color), 0.5)
            subject.draw(pen, color, rng)


def _rain(stage: _Stage) -> None:
    for _ in range(120):
        x = stage.rng.random() * stage.width
        y = (stage.rng.random() + stage.phase) % 1 * stage.height
        stage.shapes.append(Stroke(((x, y), (x - 0.012, y + 0.045)), 0.0022, (226, 234, 242), 90))


def _snow(stage: _Stage) -> None:
    for _ in range(130):
        x = stage.rng.random() * stage.width
        y = (stage.rng.random() + stage.phase) % 1 * stage.height
        radius = stage.rng.choice((0.002, 0.003, 0.005))
        stage.shapes.append(Oval((x, y), radius, radius, (255, 255, 255), 200))


_GROUNDS = {
    "hills": _hills,
    "mountains": _mountains,
    "sea": _sea,
    "desert": _desert,
    "city": _city,
    "forest": _forest,
}
