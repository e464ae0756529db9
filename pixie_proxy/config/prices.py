"""The operator's own prices."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pixie_proxy.config.section import Section

Rate = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Price(Section):
    """What a model costs: flat for an image, or USD per million tokens of each kind.

    A text model that writes SVGs has `text_in`, `text_out` and `ceiling_usd`, which is for one SVG.
    """

    usd_per_image: Rate | None = Field(None, description="Flat price of one image in USD")
    text_in: Rate | None = Field(None, description="USD per million text tokens in")
    image_in: Rate | None = Field(None, description="USD per million image tokens in")
    image_out: Rate | None = Field(None, description="USD per million image tokens out")
    text_out: Rate | None = Field(None, description="USD per million text tokens out; empty = as image_out")
    cached_text_in: Rate | None = Field(None, description="Of cached text tokens; empty = as text_in")
    cached_image_in: Rate | None = Field(None, description="Of cached image tokens; empty = as image_in")
    ceiling_usd: Rate | None = Field(
        None,
        description="The most that the output of one image can cost, where no count of its tokens is published",
    )
    since: date | None = Field(
        None, description="First day of this price, UTC; until then the earlier or built-in one"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        """Take a flat price, the three token prices or a text model's, not a mixture."""
        given = self.model_fields_set - {"since"} - {name for name, price in self if price is None}
        ways: tuple[tuple[set[str], set[str]], ...] = (
            ({"usd_per_image"}, set()),
            (
                {"text_in", "image_in", "image_out"},
                {"text_out", "cached_text_in", "cached_image_in", "ceiling_usd"},
            ),
            ({"text_in", "text_out", "ceiling_usd"}, {"cached_text_in"}),
        )
        if not any(needed <= given <= needed | optional for needed, optional in ways):
            message = (
                "give usd_per_image, or all of text_in, image_in and image_out"
                " (of a text model that writes SVGs: text_in, text_out and ceiling_usd)"
            )
            raise ValueError(message)
        return self


def _listed(prices: object) -> object:
    """Take one price for a list of one."""
    return [prices] if isinstance(prices, dict | Price) else prices


def _one_a_day(prices: list[Price]) -> list[Price]:
    """Refuse two prices from one day on: which of them counts would be chance."""
    days = [price.since for price in prices]
    if len(set(days)) < len(days):
        message = "two prices begin on the same day"
        raise ValueError(message)
    return prices


PriceList = Annotated[list[Price], BeforeValidator(_listed), Field(min_length=1), AfterValidator(_one_a_day)]
"""The prices of one model, of which the last that has begun counts."""
