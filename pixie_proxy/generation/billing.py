"""What a call cost: how its ledger row ends. Pure but for the clock."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date
from typing import Any, NamedTuple

import orjson

from pixie_proxy.generation.job import Job
from pixie_proxy.pricing import MILLION, Prices, Usage, author_usage, micros_up, usage_from_json, weight
from pixie_proxy.records import Settlement, to_datetime

_MAX_USAGE_BYTES = 4096
"""A longer report is not written down: it is no report."""


class _Bill(NamedTuple):
    """What a call cost, as a weight, and what is odd about it."""

    weight: int
    flags: tuple[str, ...] = ()


class Billing:
    """Prices calls and writes how they end."""

    def __init__(self, prices: Prices) -> None:
        """Price by `prices`, at the rates of the day on which a call was admitted."""
        self._prices = prices

    def done(
        self, job: Job, images: int, usage: Any, skeleton: bytes, *, svg_usage: Any = None
    ) -> Settlement:
        """Settle a call that ended well: at its reported tokens, or at the hold where none can be believed.

        `images` counts what came. A cost above the hold is booked whole.
        """
        hold = job.call.hold_micros
        bill = self._bill(job, images, usage, svg_usage)
        cost = micros_up(bill.weight)
        over = ("over_hold",) if cost > hold and "unpriced" not in job.flags else ()
        return Settlement(
            request_id=job.call.id,
            state="done",
            settled_us=time.time_ns() // 1000,
            cost_micros=cost,
            usage=_to_keep(usage, svg_usage),
            skeleton=skeleton,
            upstream_request_id=job.upstream_request_id,
            flags=tuple(dict.fromkeys((*job.flags, *bill.flags, *over))),
        )

    @staticmethod
    def unknown(job: Job, error: str) -> Settlement:
        """Settle a call that may have been charged: at its hold."""
        return Settlement(
            request_id=job.call.id,
            state="unknown",
            settled_us=time.time_ns() // 1000,
            cost_micros=job.call.hold_micros,
            error=error,
            upstream_request_id=job.upstream_request_id,
            flags=job.flags,
        )

    @staticmethod
    def failed(job: Job, error: str) -> Settlement:
        """Settle a call that the upstream surely did not charge: free."""
        return replace(Billing.unknown(job, error), state="failed", cost_micros=0)

    def _bill(self, job: Job, images: int, usage: Any, svg_usage: Any) -> _Bill:
        """Price what came; the hold is the bill where a report that is needed can't be believed."""
        on = to_datetime(job.call.created_us).date()
        rates = self._prices.rates(job.call.model, on)
        tokens = usage_from_json(usage, images)
        hold = job.call.hold_micros * MILLION
        if rates is None:
            return _Bill(hold)
        if tokens is None and rates.image_micros is None:
            return _Bill(hold, ("no_usage",))
        svg = self._svg(job, svg_usage, on)
        return _Bill(weight(tokens or Usage(), rates, images) + svg.weight, svg.flags)

    def _svg(self, job: Job, usage: Any, on: date) -> _Bill:
        """Price the text model that wrote an SVG: the dearer one, where another is reported than was asked for."""
        asked = job.asked.svg_author
        if asked is None and usage is None:
            return _Bill(0)
        names = {asked, usage.get("model") if isinstance(usage, dict) else None}
        priced = [self._prices.author_rates(name, on) for name in names if isinstance(name, str)]
        rates = [one for one in priced if one is not None]
        if not rates:
            return _Bill(0, ("unpriced",))
        tokens = author_usage(usage)
        if tokens is None:
            return _Bill(max(one.ceiling_micros or 0 for one in rates) * MILLION, ("no_usage",))
        return _Bill(max(weight(tokens, one, 0) for one in rates))


def sum_usage(usages: list[Any]) -> dict[str, Any] | None:
    """Add up the usage of several `completed` events; None unless each of them told one that can be true."""
    told: list[dict[str, Any]] = [usage for usage in usages if usage_from_json(usage, 1) is not None]
    return _add(told) if told and len(told) == len(usages) else None


def _add(parts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Add up objects of one shape, member by member; None if they are not, for then a sum would leave something out."""
    total: dict[str, Any] = {}
    for name, first in parts[0].items():
        values: list[Any] = [part.get(name) for part in parts]
        if any(type(value) is not type(first) for value in values):
            return None
        if isinstance(first, dict):
            total[name] = _add(values)
            if total[name] is None:
                return None
        else:
            total[name] = sum(values) if type(first) is int else values[-1]
    return total if all(part.keys() == parts[0].keys() for part in parts) else None


def _to_keep(usage: Any, svg_usage: Any) -> dict[str, Any] | None:
    """Give what the ledger keeps of the reports: as they came, unless they are too long or too deep to be any."""
    told = usage if isinstance(usage, dict) else {}
    if isinstance(svg_usage, dict):
        told = {**told, "svg_usage": svg_usage}
    try:
        return told if told and len(orjson.dumps(told)) <= _MAX_USAGE_BYTES else None
    except orjson.JSONEncodeError:
        return None
