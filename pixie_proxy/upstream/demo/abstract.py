"""The abstract demo picture, for a brief without a place: rings, waves and dots in one family of colours."""

from __future__ import annotations

import math

from pixie_proxy.upstream.demo.shapes import Color, Oval, Poly, Sky, Stroke, lighter, mix
from pixie_proxy.upstream.demo.stage import Stage


def draw_abstract(stage: Stage) -> None:
    """Draw the whole picture."""
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
