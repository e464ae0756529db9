"""Tells the operator of models that need a hand: those without a price, and those that are about to be shut down."""

from __future__ import annotations

import logging
from datetime import date

from pixie_proxy.generation.quoting import Quote
from pixie_proxy.metrics import Metrics
from pixie_proxy.pricing import Prices
from pixie_proxy.records import CallRecord, to_datetime

log = logging.getLogger(__name__)

_MAX_TOLD = 1000
"""Names that are remembered: they are the clients' words, so there is no end of them."""


class Notices:
    """Counts calls without a price, and warns once a day and model."""

    def __init__(self, prices: Prices, metrics: Metrics) -> None:
        """Know the price list, and where to count."""
        self._prices = prices
        self._metrics = metrics
        self._day = date.min
        self._told: set[str] = set()

    def admitted(self, call: CallRecord, quote: Quote) -> None:
        """Look at a call that was admitted."""
        today = to_datetime(call.created_us).date()
        if not quote.ceiling.is_priced:
            self._metrics.unpriced_calls.add(self._metrics.model(call.model))
        last = self._prices.ending(call.model, today)
        if (quote.ceiling.is_priced and last is None) or self._was_told(call.model, today):
            return
        if not quote.ceiling.is_priced:
            log.warning("a model in use has no price", extra={"model": call.model, "request_id": call.id})
        if last is not None:
            log.warning(
                "a model in use is about to be shut down, or was",
                extra={"model": call.model, "shutdown_date": last.isoformat(), "request_id": call.id},
            )

    def _was_told(self, model: str, today: date) -> bool:
        if today != self._day:
            self._day = today
            self._told.clear()
        if model in self._told or len(self._told) >= _MAX_TOLD:
            return True
        self._told.add(model)
        return False
