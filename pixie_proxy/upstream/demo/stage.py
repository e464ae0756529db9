"""The stage of a demo picture: what all parts of a scene share, its light above all."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from pixie_proxy.upstream.demo.brief import Brief
from pixie_proxy.upstream.demo.shapes import Color, Shape, mix

Outline = tuple[tuple[float, float], ...]

CAPTION_SHARE = 0.085
"""The strip at the foot of a picture that carries the prompt, in short edges: nothing stands below it."""


@dataclass(slots=True)
class Stage:
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
        """Where the sky ends, in short edges from the top."""
        return self.height * (0.58 if self.brief.ground == "sea" else 0.62)

    def lit(self, color: Color, share: float = 0.22) -> Color:
        """Set a colour into this scene's light."""
        mood = self.sky[1] if self.brief.light in {"day", "dawn"} else self.sky[0]
        strength = {"night": 0.56, "storm": 0.34, "sunset": 0.28}.get(self.brief.light, share)
        return mix(color, mood, strength)
