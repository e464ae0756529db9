"""The models that people use, or are offered: which of them end soon, and which have no price."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

from pixie_proxy.doctor import Finding, ok, warning
from pixie_proxy.doctor.patient import Patient
from pixie_proxy.errors import ConfigError, IndexUnavailable
from pixie_proxy.pricing import Prices, load_prices


async def models(patient: Patient) -> list[Finding]:
    """Look at what the settings name, and at what was asked for in the last 30 days."""
    named = patient.settings.models
    try:
        found = await patient.index()
    except (ConfigError, IndexUnavailable):  # which the index's own check tells
        found = None
    used = set(found.models_used) if found else set()
    wanted = sorted({named.default, *named.allow, *named.aliases.values(), *used})
    prices = load_prices(named.own_prices)
    return list(_faults(wanted, prices, datetime.now(UTC).date())) or [ok(", ".join(wanted))]


def _faults(wanted: list[str], prices: Prices, today: date) -> Iterator[Finding]:
    for model in wanted:
        last = prices.ending(model, today)
        if last is not None:
            when = f"was shut down on {last}" if today > last else f"is shut down on {last}"
            yield warning(f"{model} {when}", "give its name an alias to a newer one (models.aliases)")
        if prices.rates(model, today) is None:
            yield warning(
                f"{model} has no price", "set one (models.prices): who has a budget is refused until then"
            )
