"""How many tokens a picture takes: by formula or by table, and at most where something is left open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

PARTIAL_IMAGE_TOKENS = 100
"""Output tokens that each partial image of a stream adds."""
MAX_PIXELS = 8_294_400
MIN_PIXELS = 655_360
MAX_EDGE = 3840
MAX_RATIO = 3
EDGE_STEP = 16
DEAREST_SIZE = "2880x2880"
"""The formula grows with the pixels and with squareness, and this is the most of both that is legal."""

_MILLION = 1_000_000
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How many tokens the pictures of a family of models take: by formula (`factors`) or by `table`.

    `input_image_tokens` is what one input image takes at most, `usual_input_tokens` what it mostly does. What is not
    `is_published` is good enough for an estimate, and no ceiling. The rest is what else these models can do.
    """

    input_image_tokens: int
    usual_input_tokens: int
    factors: Mapping[str, int] = field(default_factory=dict)
    table: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    is_published: bool = True
    output_formats: tuple[str, ...] = ("png", "jpeg", "webp")
    input_fidelity: tuple[str, ...] = ()
    has_markup: bool = False

    @property
    def qualities(self) -> list[str]:
        """Name the qualities, cheapest first."""
        return list(self.factors) or list(next(iter(self.table.values())))

    @property
    def sizes(self) -> list[str]:
        """Name the only legal sizes; empty where any size within the rules of `size_fault` is legal."""
        return list(self.table)

    def has_size(self, size: str | None) -> bool:
        """Tell whether this is a size whose tokens are known."""
        return size is not None and self.output_tokens(size, self.qualities[0]) is not None

    def output_tokens(self, size: str, quality: str) -> int | None:
        """Count one picture's tokens; None for a size or quality that the family does not know, as `auto`."""
        if self.table:
            return self.table.get(size, {}).get(quality)
        factor, edges = self.factors.get(quality), parse_size(size)
        return formula_tokens(factor, *edges) if factor and edges and size_fault(*edges) is None else None

    def dearest_tokens(self, size: str | None = None, quality: str | None = None) -> int:
        """Count one picture's tokens at most: what is not named, or not known, is taken at its dearest."""
        sizes = [size] if size is not None and self.has_size(size) else self.sizes or [DEAREST_SIZE]
        qualities = [quality] if quality in self.qualities else self.qualities
        return max(self.output_tokens(one, name or "") or 0 for one in sizes for name in qualities)


def parse_size(size: str) -> tuple[int, int] | None:
    """Read `WIDTHxHEIGHT`; None for `auto` and for anything that is no size."""
    found = _SIZE.fullmatch(size)
    return (int(found[1]), int(found[2])) if found else None


def size_fault(width: int, height: int) -> str | None:
    """Name the rule of the 2.x models that a size breaks; None for a legal size."""
    if width % EDGE_STEP or height % EDGE_STEP:
        return f"both edges must be multiples of {EDGE_STEP}"
    if max(width, height) > MAX_EDGE:
        return f"the longest edge must be <= {MAX_EDGE}"
    if max(width, height) > MAX_RATIO * min(width, height):
        return f"the aspect ratio must be at most {MAX_RATIO}:1"
    if width * height < MIN_PIXELS:
        return f"the size is below the current minimum pixel budget of {MIN_PIXELS}"
    if width * height > MAX_PIXELS:
        return f"the size is above the current maximum pixel budget of {MAX_PIXELS}"
    return None


def formula_tokens(factor: int, width: int, height: int) -> int:
    """Count the output tokens of one picture of a 2.x model; the formula's source is in `pricing.yaml`."""
    long, short = max(width, height), min(width, height)
    across = (2 * factor * short + long) // (2 * long)
    return -(-factor * across * (2 * _MILLION + width * height) // (4 * _MILLION))
