"""What a call costs: the hold before it, the settlement after it. Pure but for the clock."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from pixie_proxy.generation.job import Job
from pixie_proxy.pricing import Prices, cost_micros, usage_from_json
from pixie_proxy.records import Settlement, Usage
from pixie_proxy.relay.request import ImageRequest


class Billing:
    """Prices calls and writes how they end."""

    def __init__(self, prices: Prices) -> None:
        """Price by `prices`."""
        self._prices = prices

    def hold(self, asked: ImageRequest, model: str) -> int:
        """Give the most that a call can cost, in micros; a model without a price holds nothing."""
        size, quality = asked.fields.get("size"), asked.fields.get("quality")
        refs = asked.fields.get("images")
        ceiling = self._prices.ceiling_micros(
            model,
            size=size if isinstance(size, str) else None,
            quality=quality if isinstance(quality, str) else None,
            n=asked.n,
            inputs=len(asked.files) + (len(refs) if isinstance(refs, list) else 0),
            partial_images=asked.partial_images,
            prompt_characters=len(asked.prompt or ""),
        )
        return ceiling or 0

    def done(self, job: Job, images: int, usage: Any, skeleton: bytes) -> Settlement:
        """Settle a call that ended well: at its reported tokens, or at the hold where none were reported."""
        tokens = usage_from_json(usage)
        return Settlement(
            request_id=job.call.id,
            state="done",
            settled_us=time.time_ns() // 1000,
            cost_micros=self._cost(job, tokens, images),
            usage=usage if isinstance(usage, dict) else None,
            skeleton=skeleton,
            upstream_request_id=job.upstream_request_id,
            flags=job.flags if tokens is not None else (*job.flags, "no_usage"),
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

    def _cost(self, job: Job, tokens: Usage | None, images: int) -> int:
        rates = self._prices.rates(job.call.model)
        if rates is None or (tokens is None and rates.image_micros is None):
            return job.call.hold_micros
        return cost_micros(tokens or Usage(), rates, images)


def sum_usage(usages: list[Any]) -> dict[str, Any] | None:
    """Add up the usage of several `completed` events; None unless each of them told one."""
    told = [usage for usage in usages if isinstance(usage, dict)]
    return _add(told) if told and len(told) == len(usages) else None


def _add(parts: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for name in parts[0]:
        values: list[Any] = [part.get(name) for part in parts]
        if all(isinstance(value, dict) for value in values):
            total[name] = _add(values)
        elif all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            total[name] = sum(values)
        else:
            total[name] = values[-1]
    return total
