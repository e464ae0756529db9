"""Metrics: plain numbers that the rooms add to, written out for Prometheus when it asks.

Everything is added on the event loop, so nothing is locked; a scrape reads in a thread and copies each series at once,
which is exact but for a number that is being added to. prometheus_client writes the text and is imported by the first
scrape: it takes 27 ms, which no start should wait for, and its counters cost ten times what these do.
"""

from __future__ import annotations

import asyncio
import platform
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from pixie_proxy import __version__
from pixie_proxy.errors import ClientError, InternalError, LimitError, ProxyError, Unavailable, UpstreamError
from pixie_proxy.records import CallRecord, Settlement, State, StoredImage

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.core import HistogramMetricFamily

Outcome = Literal["ok", "refused", "failed", "unknown", "client_gone"]
"""How a request ended for its client. refused: nothing was sent upstream, or nothing had to be. failed: a fault of the
upstream's or ours. unknown: it may have been charged. client_gone: nobody waited for the end."""

REFUSALS = (ClientError, LimitError, Unavailable)
FAILURES = (UpstreamError, InternalError)
UPSTREAM_REFUSED, BROKEN_ANSWER = "upstream_refused", "broken_answer"
"""Failures that have no error code of ours: the upstream's own error, and an answer that had begun."""

OTHER = "other"
"""The label of what we do not know: its values are the client's, and there is no end of them."""

_ENDS = [state for state in get_args(State) if state not in {"admitted", "sent"}]

_LAG_EVERY_S = 0.5
_LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_REQUEST_BOUNDS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    120,
    300,
    900,
)
_CALL_BOUNDS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900)


class Counter:
    """Numbers that only grow, one for each combination of its labels' values. One without labels begins at 0."""

    def __init__(self, name: str, help: str, *labels: str) -> None:
        """Name it as Prometheus does, unit and `_total` included."""
        self.name, self.help, self.labels = name, help, labels
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def add(self, *labels: str, by: float = 1) -> None:
        """Add to the number under these values of the labels."""
        self._values[labels] = self.value(*labels) + by

    def value(self, *labels: str) -> float:
        """Give the number under these values of the labels."""
        return self._values.get(labels, 0)

    def sum(self) -> float:
        """Add all of them up."""
        return sum(self._values.values())

    def by_label(self) -> dict[str, float]:
        """Give the numbers by the value of the first label."""
        return {labels[0]: value for labels, value in self._values.items()}

    def family(self) -> Metric:
        """Give what Prometheus is told."""
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, value)
        return family


class Gauge:
    """A number that goes up and down. One that is shared is the same for all processes of this host."""

    def __init__(self, name: str, help: str, *, is_shared: bool = False) -> None:
        """Name it, unit included."""
        self.name, self.help, self.is_shared = name, help, is_shared
        self.value: float = 0

    def family(self) -> Metric:
        """Give what Prometheus is told."""
        from prometheus_client.core import GaugeMetricFamily

        return GaugeMetricFamily(self.name, self.help, value=self.value)


class Histogram:
    """How often a value fell below each of its bounds, for each combination of its labels' values."""

    def __init__(self, name: str, help: str, bounds: Sequence[float], *labels: str) -> None:
        """Name it, unit included; `bounds` grow, and one more without an end is there by itself."""
        self.name, self.help, self.labels = name, help, labels
        self._bounds = bounds
        # Of each series the counts between the bounds, the count above the last, and the sum.
        self._series: dict[tuple[str, ...], list[float]] = {} if labels else {(): self._zeros()}

    def observe(self, value: float, *labels: str) -> None:
        """Add a value."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self._zeros()
        series[bisect_left(self._bounds, value)] += 1
        series[-1] += value

    def _zeros(self) -> list[float]:
        return [0] * (len(self._bounds) + 2)

    def family(self) -> HistogramMetricFamily:
        """Give what Prometheus is told."""
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels, series in list(self._series.items()):
            *counts, total = series
            below = 0.0
            buckets = []
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
                below += count
                buckets.append((_bound_text(bound), below))
            family.add_metric(labels, buckets, total)
        return family


class Metrics:
    """All that is counted. `models` are those that have a name of their own in the labels."""

    def __init__(self, models: Iterable[str] = ()) -> None:
        """Begin at zero: numbers start again with each process, and Prometheus knows."""
        self._models = frozenset(models)
        self.requests = Counter(
            "pixie_requests_total",
            "Requests answered, by route, outcome and the model that was asked for",
            "route",
            "outcome",
            "model",
        )
        self.requests_in_flight = Gauge("pixie_requests_in_flight", "Requests that are being answered")
        self.request_duration = Histogram(
            "pixie_request_duration_seconds",
            "From a request's head to the end of its answer",
            _REQUEST_BOUNDS_S,
            "route",
        )
        self.first_byte = Histogram(
            "pixie_first_byte_seconds",
            "From a paid call's head to the first byte of its answer",
            _CALL_BOUNDS_S,
            "model",
        )
        self.request_bytes = Counter("pixie_request_bytes_total", "Bytes of bodies that came in", "route")
        self.response_bytes = Counter("pixie_response_bytes_total", "Bytes of answers that went out", "route")
        self.refusals = Counter("pixie_refusals_total", "Requests that were refused, by error code", "reason")
        self.failures = Counter(
            "pixie_failures_total", "Requests that failed or broke off, by error code", "reason"
        )
        self.joins = Counter("pixie_joins_total", "Requests that were answered by an earlier call, for free")
        self.calls = Counter("pixie_calls_total", "Paid calls settled, by model and state", "model", "state")
        self.unpriced_calls = Counter(
            "pixie_unpriced_calls_total", "Paid calls that have no price, or not for all they take", "model"
        )
        self.images_kept = Counter("pixie_images_kept_total", "Images stored and in the index", "model")
        self.image_bytes = Counter("pixie_image_bytes_total", "Bytes of images stored", "model")
        self.upstream_in_flight = Gauge("pixie_upstream_in_flight", "Calls that the upstream works on")
        self.upstream_duration = Histogram(
            "pixie_upstream_duration_seconds",
            "From sending a call upstream to the end of its answer",
            _CALL_BOUNDS_S,
            "model",
            "outcome",
        )
        self.upstream_first_byte = Histogram(
            "pixie_upstream_first_byte_seconds",
            "From sending a call upstream to the head of its answer",
            _CALL_BOUNDS_S,
            "model",
        )
        self.upstream_bytes = Counter(
            "pixie_upstream_bytes_total", "Bytes of answers that came from the upstream", "model"
        )
        self.loop_lag = Histogram(
            "pixie_event_loop_lag_seconds", "How late a timer of the event loop was", _LAG_BOUNDS_S
        )
        shared = partial(Gauge, is_shared=True)
        self.spool_calls = shared("pixie_spool_calls", "Calls in the spool: running, or waiting for storage")
        self.spool_oldest = shared("pixie_spool_oldest_seconds", "Age of the oldest call in the spool")
        self.spool_size = shared("pixie_spool_bytes", "Bytes of the calls in the spool")
        self.spool_max = shared(
            "pixie_spool_max_bytes", "server.spool_max_gb in bytes; 0 where it is not set"
        )
        self.spool_free = shared("pixie_spool_free_bytes", "Free room on the spool's disk")
        self.index_log = shared("pixie_index_log_bytes", "Size of the index's write-ahead log")
        self.retention_held = Gauge(
            "pixie_retention_held_images",
            "Images due for the trash or out of it, held back as too many at once",
        )
        self.log_lines_lost = Counter(
            "pixie_log_lines_lost_total", "Lines that stderr did not take, because its reader is stuck"
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Show the zeros: of a number that is first seen at 1, Prometheus does not know that it grew."""
        for reason in _codes(REFUSALS):
            self.refusals.add(reason, by=0)
        for reason in (*_codes(FAILURES), UPSTREAM_REFUSED, BROKEN_ANSWER):
            self.failures.add(reason, by=0)
        for model in (*sorted(self._models), OTHER):
            self.images_kept.add(model, by=0)
            self.image_bytes.add(model, by=0)
            self.unpriced_calls.add(model, by=0)
            for state in _ENDS:
                self.calls.add(model, state, by=0)

    def model(self, name: str) -> str:
        """Give a model's label."""
        return name if name in self._models else OTHER

    def call_ended(
        self, call: CallRecord, settlement: Settlement, images: Sequence[StoredImage] = ()
    ) -> None:
        """Count a call that has been settled, and its images, which are at home by then."""
        model = self.model(call.model)
        self.calls.add(model, settlement.state)
        self.images_kept.add(model, by=len(images))
        self.image_bytes.add(model, by=sum([image.size_bytes for image in images]))

    @property
    def shared(self) -> frozenset[str]:
        """The names of the numbers that every process of this host tells alike."""
        return frozenset(
            each.name for each in vars(self).values() if isinstance(each, Gauge) and each.is_shared
        )

    async def watch_loop(self) -> None:
        """Measure for ever how late the event loop is."""
        while True:
            due = time.perf_counter() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self.loop_lag.observe(max(0.0, time.perf_counter() - due))

    def collect(self) -> Iterator[Metric]:
        """Give all families, as prometheus_client's registry asks for them."""
        from prometheus_client.core import InfoMetricFamily

        for metric in vars(self).values():
            if isinstance(metric, Counter | Gauge | Histogram):
                yield metric.family()
        about = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("pixie_build", "What runs here", value=about)


def _codes(errors: Iterable[type[ProxyError]]) -> Iterator[str]:
    """Give the codes of these errors and of all that are special cases of them."""
    for error in errors:
        if "code" in vars(error) or error is InternalError:
            yield str(error.code)
        yield from _codes(error.__subclasses__())


def _bound_text(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(float(bound))
