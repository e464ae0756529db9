"""Write the numbers out for Prometheus: those of one process, or what `siblings` gathers.

prometheus_client is imported by the first scrape: it takes 27 ms, which no start should wait for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from pixie_proxy.metrics import Metrics

if TYPE_CHECKING:
    from prometheus_client import Metric


class Collector(Protocol):
    """What gives families of numbers, as prometheus_client's registry asks for them."""

    def collect(self) -> Iterator[Metric]:
        """Give them."""
        ...


class OneProcess:
    """The numbers of a process that has its address for itself."""

    def __init__(self, metrics: Metrics) -> None:
        """Tell these numbers, and the process's own."""
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Give all families."""
        yield from self._metrics.collect()
        yield from process_numbers()


def process_numbers() -> Iterable[Metric]:
    """Give what the system knows of this process: memory, processor time, open files."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    return ProcessCollector(registry=CollectorRegistry(auto_describe=False)).collect()


def render(collector: Collector, accept: str) -> tuple[bytes, str]:
    """Write everything in the format that `accept` prefers; return it with its content type. Takes milliseconds."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
