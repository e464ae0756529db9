"""What a run found, as data classes that turn into JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How late a server answered the probe, in milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, delays_ms: Sequence[float]) -> Self:
        """Sum up single delays."""
        ordered = sorted(delays_ms)
        return cls(
            count=len(ordered),
            p50_ms=round(percentile(ordered, 50), 3),
            p99_ms=round(percentile(ordered, 99), 3),
            max_ms=round(ordered[-1], 3) if ordered else 0.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure and its bar. With an `error` it does not count, or there is no value at all."""

    name: str
    title: str
    bar: float
    at_most: bool
    unit: str
    value: float | None = None
    spread: tuple[float, float] | None = None
    context: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def met(self) -> bool | None:
        """Compare with the bar; None where there is none, or nothing was measured."""
        if self.value is None or self.error is not None or not self.bar:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    @property
    def bar_text(self) -> str:
        """Write the bar, where there is one."""
        if not self.bar:
            return "–"
        return f"{'≤' if self.at_most else '≥'} {number(self.bar)} {self.unit}"

    @property
    def value_text(self) -> str:
        """Write what was measured, with the spread over the rounds."""
        if self.value is None:
            return "–"
        text = f"{number(self.value)} {self.unit}"
        if self.spread is not None:
            text += f" ({number(self.spread[0])}–{number(self.spread[1])})"
        return text

    @property
    def verdict(self) -> str:
        """Say whether the bar is met, or by how much it is missed; nothing where there is none."""
        if self.value is None:
            return f"not measured: {self.error}"
        if self.error is not None:
            return f"does not count: {self.error}"
        if not self.bar:
            return "–"
        if self.met:
            return "met"
        return f"missed by {number(abs(self.value - self.bar))} {self.unit} ({abs(self.value / self.bar - 1):.0%})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the benchmarks. `unrest` tells what else the machine did during each measurement."""

    date: str
    commit: str
    dirty: bool
    quick: bool
    seed: int
    seconds: float
    plan: dict[str, Any]
    machine: dict[str, Any]
    unrest: dict[str, dict[str, float]]
    figures: list[Figure]
    notes: list[str]

    @property
    def fsync_text(self) -> str:
        """Write how long an fsync took in the course of the run."""
        ordered = sorted(seen["fsync_p50_ms"] for seen in self.unrest.values())
        if not ordered:
            return "–"
        text = f"{number(ordered[0])} ms"
        return text if ordered[-1] < 1.5 * ordered[0] else f"{text} to {number(ordered[-1])} ms"

    def to_json(self) -> dict[str, Any]:
        """Turn into what json.dumps takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` gave."""
        figures = []
        for figure in data["figures"]:
            spread = figure["spread"]
            figures.append(Figure(**{**figure, "spread": tuple(spread) if spread else None}))
        return cls(**{**data, "figures": figures})


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Pick from sorted values, without interpolation; 0 where there are none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: Sequence[float]) -> float:
    """Take the middle."""
    return float(statistics.median(values))


def number(value: float) -> str:
    """Write three figures that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
