"""From the command line to the first answer."""

from __future__ import annotations

import time

from benchmarks import servers
from benchmarks.bench import Bench, check
from benchmarks.result import Figure, median


def start(bench: Bench) -> list[Figure]:
    """Start on an empty data folder, several times; the first one compiles and fills caches, and isn't counted."""
    health_s: list[float] = []
    image_s: list[float] = []
    for number in range(bench.plan.starts + 1):
        bench.step(f"start: {number} of {bench.plan.starts}")
        server = servers.proxy(bench.folder, bench.upstream_url("27kb"))
        started = time.perf_counter()
        server.spawn()
        try:
            server.wait_up(every_s=0.002)
            up = time.perf_counter()
            check(server, bench.answers["27kb"])
            answered = time.perf_counter()
        finally:
            server.stop()
        if number:
            health_s.append(up - started)
            image_s.append(answered - started)
    figure = Figure(
        name="start",
        title="start to first answer",
        bar=1.0,
        at_most=True,
        unit="s",
        value=median(image_s),
        spread=(min(image_s), max(image_s)),
        context=f"`/healthz` after {median(health_s):.2f} s, the first image after {median(image_s):.2f} s",
        details={
            "healthz_s": [round(value, 4) for value in health_s],
            "image_s": [round(value, 4) for value in image_s],
        },
    )
    return [figure]
