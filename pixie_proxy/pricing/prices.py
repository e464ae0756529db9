"""The price list as it stands on a day: what a request may cost, and what it will most likely cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from pixie_proxy.pricing.rates import MILLION, Rates, micros_up, weight
from pixie_proxy.pricing.tokens import PARTIAL_IMAGE_TOKENS, Family
from pixie_proxy.pricing.usage import Usage

_COUNTED_FORMATS = frozenset({None, "png", "jpeg", "webp"})
"""Formats whose output tokens are known; of GIF and SVG nothing is published."""

_BYTES_A_TOKEN = 4
"""Of an ordinary prompt. At most a token is one byte, which is what a ceiling counts with."""

SHUTDOWN_NOTICE = timedelta(days=30)
"""How long before its last day a model in use is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What of a request its price depends on. `inputs` counts the images sent along, mask and markup too.

    `svg_author` is the text model that writes an SVG: None where none is written, empty where it is not named.
    """

    model: str
    size: str | None = None
    quality: str | None = None
    output_format: str | None = None
    n: int = 1
    inputs: int = 0
    partial_images: int = 0
    prompt_bytes: int = 0
    svg_author: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The most that a request can cost, for its hold. `open_fields` are those that would lower it if they were named.

    Where something in it has no price, `unpriced` is its name, and `micros` is the rest.
    """

    micros: int
    open_fields: tuple[str, ...] = ()
    unpriced: str | None = None

    @property
    def is_priced(self) -> bool:
        """Whether all of it has a price."""
        return self.unpriced is None

    @property
    def hint(self) -> str:
        """Say how the same request would hold less; empty if naming things would not help."""
        if not self.open_fields:
            return ""
        what = " and ".join(self.open_fields)
        return f"Naming {what} lowers what it must set aside: without, it counts as the dearest there is."


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is known of one model. Of `periods`, each with its first day (UTC), the last one that has begun counts."""

    periods: tuple[tuple[date, Rates], ...]
    family: Family | None = None
    shutdown_date: date | None = None

    def rates(self, on: date) -> Rates | None:
        """Give the rates of a day; None before the first period."""
        return next((rates for since, rates in reversed(self.periods) if since <= on), None)


class Prices:
    """The price list: `pricing.yaml` with the operator's own prices over it."""

    def __init__(
        self,
        models: Mapping[str, Model],
        authors: Mapping[str, Model],
        retired: Mapping[str, date],
        families: Iterable[Family],
    ) -> None:
        """Take what `load_prices` read. `authors` are the text models that write SVGs."""
        self._models = dict(models)
        self._authors = dict(authors)
        self._retired = dict(retired)
        self._families = tuple(families)

    def models(self) -> list[str]:
        """Name every image model that has a price, dated snapshots included, in the order of the list."""
        return list(self._models)

    def rates(self, model: str, on: date = date.max) -> Rates | None:
        """Give an image model's rates on a day, or the last that are known; None means unpriced, never free."""
        found = self._models.get(model)
        return found.rates(on) if found else None

    def author_rates(self, author: str, on: date) -> Rates | None:
        """Give the rates of a text model that writes SVGs, whose `ceiling_micros` is for one of them."""
        found = self._authors.get(author)
        return found.rates(on) if found else None

    def family(self, model: str) -> Family | None:
        """Give the family of a model that the list knows."""
        found = self._models.get(model)
        return found.family if found else None

    def shutdown_date(self, model: str) -> date | None:
        """Give the last day on which a model answers, or answered, where that is known."""
        found = self._models.get(model)
        return found.shutdown_date if found else self._retired.get(model)

    def ending(self, model: str, today: date) -> date | None:
        """Give the last day of a model that is shut down within SHUTDOWN_NOTICE, or was already."""
        last = self.shutdown_date(model)
        return last if last is not None and today >= last - SHUTDOWN_NOTICE else None

    def output_tokens(self, model: str, size: str, quality: str) -> int | None:
        """Count the output tokens of one picture; None where model, size or quality leave it open."""
        family = self.family(model)
        return family.output_tokens(size, quality) if family else None

    def ceiling(self, wanted: Wanted, on: date) -> Ceiling:
        """Give the most that a request can cost at the rates of a day.

        Auto, absent and unknown sizes and qualities are taken at the dearest legal ones. Where no count of tokens is
        published, a picture takes the model's `ceiling_micros`, else the dearest picture that the list knows.
        """
        rates = self.rates(wanted.model, on)
        if rates is None:
            return Ceiling(micros=0, unpriced=wanted.model)
        open_fields: tuple[str, ...] = ()
        if rates.image_micros is not None:
            total = rates.image_micros * MILLION
        else:
            families = self._families_of(wanted.model)
            beside = Usage(
                text_in=wanted.prompt_bytes,
                image_in=wanted.inputs * max(family.input_image_tokens for family in families),
                image_out=PARTIAL_IMAGE_TOKENS * wanted.partial_images,
            )
            picture, open_fields = self._picture(wanted, rates)
            total = weight(beside, rates, 1) + picture
        unpriced = None
        if wanted.svg_author is not None:
            author = self.author_rates(wanted.svg_author, on)
            unpriced = wanted.svg_author if author is None else None
            total += (author.ceiling_micros or 0) * MILLION if author else 0
        return Ceiling(micros=micros_up(wanted.n * total), open_fields=open_fields, unpriced=unpriced)

    def estimate_micros(self, wanted: Wanted, on: date) -> int | None:
        """Give what a request will most likely cost; None where its size or quality is open, or no count is known."""
        rates, family = self.rates(wanted.model, on), self.family(wanted.model)
        if rates is None or wanted.svg_author is not None:
            return None
        if rates.image_micros is not None:
            return rates.image_micros * wanted.n
        if family is None or wanted.output_format not in _COUNTED_FORMATS:
            return None
        tokens = family.output_tokens(wanted.size or "", wanted.quality or "")
        if tokens is None:
            return None
        each = Usage(
            text_in=-(-wanted.prompt_bytes // _BYTES_A_TOKEN),
            image_in=wanted.inputs * family.usual_input_tokens,
            image_out=tokens + PARTIAL_IMAGE_TOKENS * wanted.partial_images,
        )
        return micros_up(wanted.n * weight(each, rates, 1))

    def _picture(self, wanted: Wanted, rates: Rates) -> tuple[int, tuple[str, ...]]:
        """Give the most that the output of one picture can cost, as a weight, and the fields that make it so dear."""
        family = self.family(wanted.model)
        if family and family.is_published and wanted.output_format in _COUNTED_FORMATS:
            known = {"size": family.has_size(wanted.size), "quality": wanted.quality in family.qualities}
            tokens = family.dearest_tokens(wanted.size, wanted.quality)
            open_fields = tuple(name for name, is_known in known.items() if not is_known)
            return tokens * rates.image_out, open_fields
        if rates.ceiling_micros is not None:
            return rates.ceiling_micros * MILLION, ()
        return max(one.dearest_tokens() for one in self._families_of(wanted.model)) * rates.image_out, ()

    def _families_of(self, model: str) -> tuple[Family, ...]:
        """Give the families that a model may belong to: its own, or all where nobody said."""
        family = self.family(model)
        return (family,) if family else self._families
