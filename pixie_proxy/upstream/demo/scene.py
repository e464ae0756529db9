"""Composes a demo picture: a brief becomes a list of shapes, back to front."""

from __future__ import annotations

import math
from random import Random

from pixie_proxy.upstream.demo.abstract import draw_abstract
from pixie_proxy.upstream.demo.brief import Brief, Thing
from pixie_proxy.upstream.demo.grounds import GROUNDS
from pixie_proxy.upstream.demo.shapes import Oval, Pen, Shape, Sky, darker, mix
from pixie_proxy.upstream.demo.sky import SKIES, draw_clouds, draw_rain, draw_snow, draw_stars, draw_sun
from pixie_proxy.upstream.demo.stage import CAPTION_SHARE, Stage
from pixie_proxy.upstream.demo.subjects import SUBJECTS


def compose(brief: Brief, rng: Random, width: float, height: float, *, phase: float = 0.0) -> list[Shape]:
    """Compose a full scene on a canvas of `width` × `height` short edges."""
    skies = SKIES[brief.light]
    sky = skies[rng.randrange(len(skies))]
    if brief.tint:
        sky = (mix(sky[0], darker(brief.tint, 0.25), 0.62), mix(sky[1], brief.tint, 0.55), sky[2])
    stage = Stage(brief, rng, width, height, phase, sky, [])
    if brief.ground == "abstract":
        draw_abstract(stage)
    else:
        stage.shapes.append(Sky(((0, sky[0]), (0.4, sky[1]), (0.66, sky[2]), (1, sky[2]))))
        if brief.light == "night":
            draw_stars(stage)
        draw_sun(stage)
        draw_clouds(stage)
        GROUNDS[brief.ground](stage)
    _things(stage)
    if brief.has_rain:
        draw_rain(stage)
    if brief.has_snow:
        draw_snow(stage)
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
    stage = Stage(brief, rng, width, height, 0, SKIES[brief.light][0], [])
    _things(stage, is_alone=True)
    return stage.shapes


def _things(stage: Stage, *, is_alone: bool = False) -> None:
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
