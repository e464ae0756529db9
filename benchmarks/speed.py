"""Speed beside the bare pass-through: in one run, by turns, so that a slow moment of the machine hits both."""

from __future__ import annotations

from typing import Any

from benchmarks import disk, load
from benchmarks.bench import Bench, as_json
from benchmarks.load import Load
from benchmarks.result import Figure, median
from benchmarks.servers import PATH

CLIENTS = 16


def latency(bench: Bench) -> list[Figure]:
    """27 kB, one client: what the proxy adds to the median."""
    details, rounds = _rounds(bench, "alone", "27kb", 1, bench.plan.alone_s)
    added = [ours.p50_ms - bare.p50_ms for bare, ours in rounds]
    figure = Figure(
        name="latency",
        title="27 kB answer, 1 client: added p50",
        bar=1.5,
        at_most=True,
        unit="ms",
        value=median(added),
        spread=(min(added), max(added)),
        context=f"{median([o.p50_ms for _, o in rounds]):.2f} ms against "
        f"{median([b.p50_ms for b, _ in rounds]):.2f} ms bare; "
        f"disk alone {1000 / median(details['disk_alone_per_s']):.2f} ms",
        details=details,
    )
    return [figure]


def small(bench: Bench) -> list[Figure]:
    """27 kB, 16 clients."""
    return _throughput(bench, "small", "27kb", bench.plan.small_s, "27 kB answer, 16 clients: req/s", 0.25)


def large(bench: Bench) -> list[Figure]:
    """2 MB, 16 clients."""
    return _throughput(bench, "large", "2mb", bench.plan.large_s, "2 MB answer, 16 clients: req/s", 0.5)


def _throughput(bench: Bench, name: str, answer: str, seconds: float, title: str, bar: float) -> list[Figure]:
    details, rounds = _rounds(bench, name, answer, CLIENTS, seconds)
    ratios = [ours.per_s / bare.per_s for bare, ours in rounds]
    ours_per_s = median([ours.per_s for _, ours in rounds])
    bare_per_s = median([bare.per_s for bare, _ in rounds])
    figure = Figure(
        name=name,
        title=title,
        bar=bar,
        at_most=False,
        unit="× bare",
        value=median(ratios),
        spread=(min(ratios), max(ratios)),
        context=f"{ours_per_s:,.0f} req/s against {bare_per_s:,.0f} bare; "
        f"disk alone {median(details['disk_alone_per_s']):,.0f}",
        details=details,
    )
    return [figure]


def _rounds(
    bench: Bench, name: str, answer: str, clients: int, seconds: float
) -> tuple[dict[str, Any], list[tuple[Load, Load]]]:
    """Load both by turns, then probe each under the same load; nginx alone shows what the generator could do."""
    body_bytes = len(bench.answers[answer])
    plan = bench.plan

    def one(port: int, seconds: float, path: str = PATH) -> Load:
        return load.run(
            port, clients=clients, body_bytes=body_bytes, seconds=seconds, warm_s=plan.warm_s, path=path
        )

    with bench.pair(answer) as (bare, proxy):
        bench.step(f"{name}: nginx alone")
        alone = one(bench.nginx.port, min(seconds, 1.0), f"/{answer}{PATH}")
        rounds: list[tuple[Load, Load]] = []
        backlogs: list[float] = []
        disks: list[float] = []
        for number in range(1, plan.rounds + 1):
            bench.step(f"{name}: round {number} of {plan.rounds}, bare")
            of_bare = one(bare.port, seconds)
            bench.step(f"{name}: round {number} of {plan.rounds}, proxy")
            of_proxy = one(proxy.port, seconds)
            rounds.append((of_bare, of_proxy))
            backlogs.append(round(proxy.settle(), 2))
            bench.step(f"{name}: round {number} of {plan.rounds}, disk alone")
            disks.append(
                disk.calls_per_s(
                    bench.folder, threads=clients, image_bytes=body_bytes * 3 // 4, seconds=plan.disk_s
                )
            )
        for role, server in (("bare", bare), ("proxy", proxy)):
            bench.step(f"{name}: lag of {role}")
            with bench.probed(name, role, server):
                one(server.port, plan.lag_s)
        proxy.settle()
    busiest = max(found.generator_cpu for pair in rounds for found in pair)
    if busiest > 0.85:
        bench.notes.append(
            f"{name}: the load generator took {busiest:.0%} of a core and may be what was measured."
        )
    details = {
        "answer_bytes": body_bytes,
        "nginx_alone": as_json(alone),
        "rounds": [{"bare": as_json(b), "proxy": as_json(o)} for b, o in rounds],
        "proxy_busy_after_load_s": backlogs,
        "disk_alone_per_s": disks,
    }
    return details, rounds
