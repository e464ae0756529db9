"""What Prometheus would see."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.support.proxy import ADMIN_KEY, RunningProxy


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples of one scrape by name and labels, as they were written."""

    text: str
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def __call__(self, name: str, **labels: str) -> float:
        """Give the value with exactly these labels; 0 where there is none."""
        return self.samples.get((name, frozenset(labels.items())), 0)

    def grown(self, name: str) -> dict[tuple[str, ...], float]:
        """Give all values of a name that are not 0, by the values of their labels in the order of the labels' names."""
        return {
            tuple(value for _, value in sorted(labels)): number
            for (found, labels), number in self.samples.items()
            if found == name and number
        }


def parse(text: str) -> Scrape:
    """Read Prometheus' text format."""
    return Scrape(
        text,
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        },
    )


async def scrape(proxy: RunningProxy) -> Scrape:
    """Ask a proxy for its numbers."""
    status, headers, body = await proxy.request("GET", "/metrics", key=ADMIN_KEY)
    assert status == 200, body
    assert headers["Content-Type"].startswith("text/plain; version=")
    return parse(body.decode())
