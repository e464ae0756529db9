"""Read the price list: `pricing.yaml`, and the operator's own prices over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from importlib.resources import files
from typing import Any

import yaml

from pixie_proxy.errors import ConfigError
from pixie_proxy.pricing.prices import Model, Prices
from pixie_proxy.pricing.rates import MILLION, Rates
from pixie_proxy.pricing.tokens import Family

_FIELDS = {"usd_per_image": "image_micros", "ceiling_usd": "ceiling_micros"}
"""Prices that are called otherwise in `Rates`, where they are no dollars any more."""

Period = Mapping[str, Any]
"""Prices in USD by their names, from the day `since` on, or from ever."""


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C, where PyYAML was built with it: every start reads the list, in a seventh of the time."""


def load_prices(overrides: Mapping[str, Sequence[Period]], listed: str | None = None) -> Prices:
    """Read the list (the built-in one, unless its text is given) and put the operator's prices over it.

    An override's prices are whole ones, checked by the settings: flat (`usd_per_image`), of tokens (`text_in`,
    `image_in`, `image_out`), or of a text model that writes SVGs, which has no price of images. Those of a model also
    count for its snapshots. Until the first `since` of an override the list's own price stands. Raises ConfigError
    where an image model gets a price that says nothing of images: it would count as free.
    """
    text = listed if listed is not None else files(__package__).joinpath("pricing.yaml").read_text("utf-8")
    said = yaml.load(text, _LOADER)  # noqa: S506 - both loaders are the safe ones
    families = {name: _family(family) for name, family in said["families"].items()}
    models: dict[str, Model] = {}
    for name, entry in said["models"].items():
        model = Model(
            periods=_periods((*_sorted(entry["rates"]), *_sorted(overrides.get(name, ())))),
            family=families[entry["family"]],
            shutdown_date=entry.get("shutdown_date"),
        )
        models.update(dict.fromkeys((name, *entry.get("snapshots", ())), model))
    authors: dict[str, Model] = {}
    for name, periods in overrides.items():
        if name in said["models"]:
            continue
        own = _periods(_sorted(periods))
        if _is_of_images(periods[0]):
            known = models.get(name, Model(periods=()))
            models[name] = replace(known, periods=(*known.periods, *own))
        else:
            authors[name] = Model(periods=own)
    if problems := [
        f"models.prices.{name}: an image model needs usd_per_image, or text_in, image_in and image_out"
        for name, periods in overrides.items()
        if name in models and not all(map(_is_of_images, periods))
    ]:
        raise ConfigError(*problems)
    return Prices(models, authors, said["retired"], families.values())


def _is_of_images(period: Period) -> bool:
    return "usd_per_image" in period or "image_out" in period


def _family(said: Mapping[str, Any]) -> Family:
    tuples = {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
    return Family(**{**said, **tuples})


def _sorted(periods: Iterable[Period]) -> list[Period]:
    return sorted(periods, key=_since)


def _since(period: Period) -> date:
    since: date = period.get("since", date.min)
    return since


def _periods(periods: Iterable[Period]) -> tuple[tuple[date, Rates], ...]:
    return tuple(
        (
            _since(period),
            Rates(
                **{_FIELDS.get(name, name): _micros(usd) for name, usd in period.items() if name != "since"}
            ),
        )
        for period in periods
    )


def _micros(usd: object) -> int:
    """Turn dollars into micros, rounded up, without passing through binary fractions."""
    return int((Decimal(str(usd)) * MILLION).to_integral_value(rounding="ROUND_CEILING"))
