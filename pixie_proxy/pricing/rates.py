"""What a token or an image costs, and the bill that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from pixie_proxy.pricing.usage import Usage

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices of one model in micros per million tokens; or `image_micros` an image, whatever its tokens.

    `ceiling_micros` is what one picture holds where nobody knows how many tokens it takes.
    """

    text_in: int = 0
    image_in: int = 0
    image_out: int = 0
    text_out: int | None = None
    cached_text_in: int | None = None
    cached_image_in: int | None = None
    image_micros: int | None = None
    ceiling_micros: int | None = None


def cost_micros(usage: Usage, rates: Rates, images: int) -> int:
    """Price one answer in micros, rounded up. `images` counts what came, for models priced by the image."""
    return micros_up(weight(usage, rates, images))


def weight(usage: Usage, rates: Rates, images: int) -> int:
    """Price one answer in millionths of a micro, which need no rounding: what belongs together is added up first."""
    if rates.image_micros is not None:
        return rates.image_micros * images * MILLION
    text_out = rates.image_out if rates.text_out is None else rates.text_out
    return (
        usage.text_in * rates.text_in
        + usage.image_in * rates.image_in
        + usage.image_out * rates.image_out
        + usage.text_out * text_out
        - usage.cached_text_in * _discount(rates.text_in, rates.cached_text_in)
        - usage.cached_image_in * _discount(rates.image_in, rates.cached_image_in)
    )


def micros_up(weight: int) -> int:
    """Round millionths of a micro up to micros."""
    return -(-weight // MILLION)


def _discount(rate: int, cached_rate: int | None) -> int:
    return 0 if cached_rate is None else rate - cached_rate
