"""What a prompt asks a demo picture to show: setting, light, weather and things, read from its words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Literal, TypeVar

from pixie_proxy.upstream.demo.shapes import Color
from pixie_proxy.upstream.demo.subjects import SUBJECTS, WORDS

K = TypeVar("K")
Light = Literal["day", "dawn", "sunset", "night", "storm"]
Ground = Literal["hills", "mountains", "sea", "desert", "city", "forest", "abstract"]

COLORS: dict[str, Color] = {
    "red": (206, 58, 54),
    "crimson": (172, 34, 60),
    "orange": (238, 138, 56),
    "yellow": (244, 200, 70),
    "golden": (226, 172, 66),
    "gold": (226, 172, 66),
    "green": (82, 150, 88),
    "emerald": (36, 148, 108),
    "teal": (38, 140, 140),
    "turquoise": (58, 178, 174),
    "cyan": (74, 186, 208),
    "blue": (62, 116, 190),
    "navy": (34, 52, 104),
    "indigo": (74, 66, 158),
    "purple": (132, 82, 170),
    "violet": (138, 94, 196),
    "lavender": (178, 160, 216),
    "magenta": (200, 62, 142),
    "pink": (240, 150, 178),
    "brown": (128, 86, 58),
    "beige": (222, 202, 168),
    "white": (246, 243, 238),
    "black": (44, 42, 52),
    "grey": (142, 146, 156),
    "gray": (142, 146, 156),
    "silver": (188, 194, 204),
}
_LIGHT_WORDS: dict[Light, str] = {
    "night": "night midnight moon moonlit moonlight stars starry nacht nuit space galaxy dark",
    "sunset": "sunset dusk evening twilight golden-hour sonnenuntergang autumn",
    "dawn": "dawn sunrise morning spring misty fog foggy",
    "storm": "storm stormy rain rainy thunder",
    "day": "day sunny noon sun summer sonne soleil",
}
_GROUND_WORDS: dict[Ground, str] = {
    "mountains": "mountain mountains alps peak peaks volcano berg berge montagne",
    "sea": "sea ocean beach lake river coast harbour harbor island wave waves bay meer mer underwater water",
    "desert": "desert dune dunes sahara canyon mars sand",
    "city": "city skyline town street skyscraper skyscrapers stadt ville metropolis tokyo york london paris berlin",
    "forest": "forest woods woodland jungle wald foret",
    "hills": "hill hills meadow field fields garden valley countryside park farm landscape grass",
    "abstract": "abstract pattern texture geometric wallpaper gradient minimal minimalist",
}
_COUNTS = {
    "two": 2,
    "pair": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "2": 2,
    "3": 3,
    "4": 4,
    "5": 5,
    "some": 3,
    "many": 5,
}
_LIGHTS: tuple[Light, ...] = ("day", "dawn", "sunset", "day")
_SNOW = frozenset(["snow", "snowy", "winter", "ice", "icy", "arctic", "schnee"])
_WORD = re.compile(r"[^\W_]+")
_MOST_THINGS = 6


@dataclass(frozen=True, slots=True)
class Thing:
    """One subject to draw, in its colour."""

    name: str
    color: Color


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """A picture in words of our own. `tint` is a colour that belongs to no thing, so it belongs to all."""

    light: Light
    ground: Ground
    things: tuple[Thing, ...]
    tint: Color | None
    has_peaks: bool
    has_snow: bool
    has_rain: bool
    has_sun: bool


def seeded(*parts: object) -> Random:
    """Make the random source that belongs to a request: the same parts always give the same picture."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return Random(int.from_bytes(digest, "big"))  # noqa: S311 - it draws hills, not secrets


def read_brief(prompt: str, rng: Random) -> Brief:
    """Read a prompt; where it is silent, `rng` decides."""
    words = [word.lower() for word in _WORD.findall(prompt[:4000])]
    things: list[Thing] = []
    owned: set[int] = set()
    for index, word in enumerate(words):
        name = _thing_of(word)
        if name is None or (index and _thing_of(words[index - 1]) == name):
            continue  # "coffee cup" is one thing
        near = range(max(0, index - 3), index)
        painted = next((at for at in reversed(near) if words[at] in COLORS and at not in owned), None)
        count = next((_COUNTS[words[at]] for at in reversed(near) if words[at] in _COUNTS), 0)
        is_plural = name != WORDS.get(word)
        colors = SUBJECTS[name].colors
        for _ in range(count or (3 if is_plural else 1)):
            color = rng.choice(colors) if painted is None else COLORS[words[painted]]
            things.append(Thing(name, color))
        if painted is not None:
            owned.add(painted)
    present = set(words) | {f"{one}-{two}" for one, two in pairwise(words)}
    light = _first(_LIGHT_WORDS, present)
    ground = _first(_GROUND_WORDS, present)
    has_peaks = ground == "mountains"
    if has_peaks and present & set(_GROUND_WORDS["sea"].split()):
        ground = "sea"
    free = [COLORS[word] for index, word in enumerate(words) if word in COLORS and index not in owned]
    return Brief(
        light=rng.choice(_LIGHTS) if light is None else light,
        ground=rng.choice(_usual_grounds(things, light)) if ground is None else ground,
        things=tuple(things[:_MOST_THINGS]),
        tint=free[0] if free else None,
        has_peaks=has_peaks,
        has_snow=bool(present & _SNOW),
        has_rain=light == "storm",
        has_sun=light != "storm",
    )


def _thing_of(word: str) -> str | None:
    """Name the subject that a word asks for, in the singular or the plural."""
    return WORDS.get(word) or WORDS.get(word.removesuffix("es")) or WORDS.get(word.removesuffix("s"))


def _usual_grounds(things: list[Thing], light: Light | None) -> tuple[Ground, ...]:
    """Name the settings that suit, where a prompt names none."""
    if {"boat", "fish", "lighthouse"} & {thing.name for thing in things}:
        return ("sea",)
    if things or light:
        return ("hills", "hills", "mountains")
    return ("abstract", "mountains", "hills", "sea")


def _first(table: Mapping[K, str], present: set[str]) -> K | None:
    return next((name for name, words in table.items() if present & set(words.split())), None)
