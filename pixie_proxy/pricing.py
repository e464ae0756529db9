"""What a call costs: rates, the tokens of a picture, the bill of an answer and the ceiling of a request.

Everything is an integer: rates are micros (USD × 10⁶) per million tokens, costs are micros, and every
division rounds up. The figures, their source and the day they were read are in `pricing.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from pixie_proxy.errors import ConfigError
from pixie_proxy.records import Usage

MILLION = 1_000_000
MAX_TOKENS = 10**9
"""More tokens than this in one answer are a broken report, not a bill."""
PARTIAL_IMAGE_TOKENS = 100
"""Output tokens that each partial image of a stream adds."""
MAX_PIXELS = 8_294_400
MIN_PIXELS = 655_360
MAX_EDGE = 3840
MAX_RATIO = 3
EDGE_STEP = 16
DEAREST_SIZE = "2880x2880"
"""The formula grows with the pixels and with squareness, and this is the most of both that is legal."""

_TOKEN_KINDS = ("text_in", "image_in", "image_out")
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices of one model in micros per million tokens; or `image_micros` an image, whatever its tokens."""

    text_in: int = 0
    image_in: int = 0
    image_out: int = 0
    text_out: int | None = None
    cached_text_in: int | None = None
    cached_image_in: int | None = None
    image_micros: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How many tokens the pictures of a family of models take: by formula (`factors`) or by `table`."""

    input_image_tokens: int
    factors: Mapping[str, int] = field(default_factory=dict)
    table: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def output_tokens(self, size: str, quality: str) -> int | None:
        """Count one picture's tokens; None for a size or quality that the family does not know, as `auto`."""
        if self.table:
            return self.table.get(size, {}).get(quality)
        factor, edges = self.factors.get(quality), parse_size(size)
        return formula_tokens(factor, *edges) if factor and edges and size_fault(*edges) is None else None

    def dearest_tokens(self, size: str | None, quality: str | None) -> int:
        """Count one picture's tokens at most: what is not named, or not known, is taken at its dearest."""
        qualities = set(self.factors) or {name for row in self.table.values() for name in row}
        sizes = set(self.table) or {DEAREST_SIZE}
        if size and any(self.output_tokens(size, name) is not None for name in qualities):
            sizes = {size}
        if quality and quality in qualities:
            qualities = {quality}
        return max(self.output_tokens(one, name) or 0 for one in sizes for name in qualities)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    rates: Rates
    family: Family | None = None
    shutdown_date: date | None = None


class Prices:
    """The price list: `pricing.yaml` with the operator's own prices over it."""

    def __init__(self, models: Mapping[str, _Model], families: Iterable[Family]) -> None:
        """Take what `load_prices` read."""
        self._models = dict(models)
        self._families = tuple(families)
        self._dearest_tokens = lru_cache(maxsize=1024)(self._find_dearest_tokens)

    def models(self) -> list[str]:
        """Name every model that has a price, dated snapshots included, in the order of the list."""
        return list(self._models)

    def rates(self, model: str) -> Rates | None:
        """Give a model's rates; None means unpriced, which must never count as free."""
        found = self._models.get(model)
        return found.rates if found else None

    def shutdown_date(self, model: str) -> date | None:
        """Give the last day on which a model answers, where that is known."""
        found = self._models.get(model)
        return found.shutdown_date if found else None

    def output_tokens(self, model: str, size: str, quality: str) -> int | None:
        """Count the output tokens of one picture; None where model, size or quality leave it open."""
        found = self._models.get(model)
        return found.family.output_tokens(size, quality) if found and found.family else None

    def ceiling_micros(
        self,
        model: str,
        size: str | None,
        quality: str | None,
        n: int = 1,
        inputs: int = 0,
        partial_images: int = 0,
        *,
        prompt_characters: int = 0,
    ) -> int | None:
        """Give the most that a request can cost, for its hold; None for an unpriced model.

        `inputs` counts the images sent along, mask and markup too. Auto, absent and unknown sizes and
        qualities are taken at the dearest legal ones, and a model without a family at the dearest family.
        """
        found = self._models.get(model)
        if found is None:
            return None
        out = self._dearest_tokens(model, size, quality)
        usage = Usage(
            text_in=n * prompt_characters,
            image_in=n * inputs * max(family.input_image_tokens for family in self._families_of(model)),
            image_out=n * (out + PARTIAL_IMAGE_TOKENS * partial_images),
        )
        return cost_micros(usage, found.rates, n)

    def _families_of(self, model: str) -> tuple[Family, ...]:
        """Give the families that a model may belong to: its own, or all where nobody said."""
        family = self._models[model].family
        return (family,) if family else self._families

    def _find_dearest_tokens(self, model: str, size: str | None, quality: str | None) -> int:
        return max(family.dearest_tokens(size, quality) for family in self._families_of(model))


def cost_micros(usage: Usage, rates: Rates, images: int) -> int:
    """Price one answer in micros, rounded up. `images` counts what came, for models priced by the image."""
    if rates.image_micros is not None:
        return rates.image_micros * images
    text_out = rates.image_out if rates.text_out is None else rates.text_out
    micros_by_million = (
        usage.text_in * rates.text_in
        + usage.image_in * rates.image_in
        + usage.image_out * rates.image_out
        + usage.text_out * text_out
    )
    return -(-micros_by_million // MILLION)


def usage_from_json(obj: object) -> Usage | None:
    """Read an upstream's `usage`; None when it is absent or can't be true (then the ceiling is the bill).

    Tokens that the details do not split count as image tokens: pricing them as text would under-bill.
    """
    if not isinstance(obj, dict):
        return None
    taken = _split(obj.get("input_tokens"), obj.get("input_tokens_details"))
    given = _split(obj.get("output_tokens"), obj.get("output_tokens_details"))
    if taken is None or given is None:
        return None
    return Usage(text_in=taken[0], image_in=taken[1], text_out=given[0], image_out=given[1])


def _split(total: object, details: object) -> tuple[int, int] | None:
    """Give (text, image) tokens of one side of a usage; None when it is not there or not sane."""
    parts = details if isinstance(details, dict) else {}
    if details is not None and not isinstance(details, dict):
        return None
    text, image = parts.get("text_tokens", 0), parts.get("image_tokens", 0)
    if total is None and parts:
        total = 0
    if not (_is_count(total) and _is_count(text) and _is_count(image)):
        return None
    return text, max(image, total - text)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_TOKENS


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
    return -(-factor * across * (2 * MILLION + width * height) // (4 * MILLION))


def load_prices(overrides: Mapping[str, Mapping[str, float]]) -> Prices:
    """Read the built-in list and put the operator's prices over it. Raises ConfigError with every problem.

    An override is `{usd_per_image}`, or some of `{text_in, image_in, image_out}` in USD per million tokens;
    a model that the list does not know needs all three. A model's override also counts for its snapshots.
    """
    # PyYAML's C loader is not everywhere; this file is small and read once.
    listed = yaml.safe_load(files(__package__).joinpath("pricing.yaml").read_text("utf-8"))
    families = {name: Family(**family) for name, family in listed["families"].items()}
    models: dict[str, _Model] = {}
    problems: list[str] = []
    for name, entry in listed["models"].items():
        model = _Model(
            rates=Rates(
                **{kind: _micros(entry[kind]) for kind in Rates.__dataclass_fields__ if kind in entry}
            ),
            family=families[entry["family"]],
            shutdown_date=entry.get("shutdown_date"),
        )
        if name in overrides:
            model = replace(model, rates=_overridden(name, model.rates, overrides[name], problems))
        models.update(dict.fromkeys((name, *entry.get("snapshots", ())), model))
    for name, override in overrides.items():
        if name not in listed["models"]:
            known = models.get(name, _Model(rates=Rates()))
            rates = _overridden(name, known.rates if name in models else None, override, problems)
            models[name] = replace(known, rates=rates)
    if problems:
        raise ConfigError(*problems)
    return Prices(models, families.values())


def _overridden(name: str, rates: Rates | None, override: Mapping[str, float], problems: list[str]) -> Rates:
    """Put one override over a model's rates, noting what is wrong with it."""
    path = f"models.prices.{name}"
    micros: dict[str, int] = {}
    for kind, usd in override.items():
        if kind not in (*_TOKEN_KINDS, "usd_per_image"):
            problems.append(f"{path}.{kind}: unknown price (usd_per_image, or {', '.join(_TOKEN_KINDS)})")
            continue
        try:
            micros[kind] = _micros(usd)
        except ValueError:
            problems.append(f"{path}.{kind}: must be US dollars from 0 to a million, not {usd!r}")
    if "usd_per_image" in override:
        if len(override) > 1:
            problems.append(f"{path}: usd_per_image stands alone, without prices of tokens")
        return Rates(image_micros=micros.get("usd_per_image", 0))
    missing = [kind for kind in _TOKEN_KINDS if kind not in override]
    if not override or (rates is None and missing):
        problems.append(f"{path}: needs usd_per_image, or {', '.join(missing)}")
    return replace(rates or Rates(), **micros)


def _micros(usd: object) -> int:
    """Turn dollars into micros, rounded up, without passing through binary fractions."""
    try:
        whole = int((Decimal(str(usd)) * MILLION).to_integral_value(rounding="ROUND_CEILING"))
    except (ArithmeticError, ValueError):
        raise ValueError(usd) from None
    if not 0 <= whole <= MILLION * MILLION:
        raise ValueError(usd)
    return whole
