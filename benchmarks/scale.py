"""One process and two, on SQLite and on PostgreSQL: what they do a second, and what is used up first.

Who is waited for is read from outside: processor time and disk from /proc, PostgreSQL from its own statistics.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg
from psycopg.rows import dict_row

from benchmarks import load
from benchmarks.bench import Bench, check
from benchmarks.kept import images_in, wait_empty
from benchmarks.processes import BenchError, Server, cpu_s
from benchmarks.result import Figure, median
from tests.support import postgres

ANSWER, CLIENTS = "27kb", 16
WORKERS = (1, 2)
_LOOK_EVERY_S = 0.1
_AN_IMAGE_S = 3.0
"""A worker looks at a dozen meanwhile."""

_COUNTED = """
SELECT (SELECT count(*) FROM images) AS images, pg_current_xact_id()::text::bigint AS writes,
    (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS transactions,
    (SELECT wal_sync FROM pg_stat_wal) AS syncs
"""
_DOING = """
SELECT CASE WHEN state <> 'active' THEN 'idle' ELSE coalesce(wait_event_type || ' ' || wait_event, 'processor') END
    AS what, count(*) AS backends
FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One load. Shares of a core are of one; `waits` are of all looks at the connections that were not idle."""

    requests_per_s: float
    p50_ms: float
    kept_per_s: float
    proxy_cores: float
    database_cores: float
    all_cores: float
    disk_busy: float
    generator_cores: float
    connections: int | None = None
    waits: dict[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What PostgreSQL says of a request, and of the processes together while nobody asks."""

    transactions: float
    writes: float
    syncs: float
    idle_per_s: float


def scale(bench: Bench) -> list[Figure]:
    """Load one worker and two, in front of each database."""
    for program in postgres.PROGRAMS:
        if shutil.which(program) is None:
            raise BenchError(f"{program} is not there: apt-get install postgresql")
    figures = []
    # Beside our own folder, which no other user may enter, and so on the same disk.
    with postgres.running_postgres(bench.folder.parent, fsync="on") as server:
        for workers in WORKERS:
            for database in ("SQLite", "PostgreSQL"):
                rounds, told = _measure(bench, workers, server if database == "PostgreSQL" else None)
                figures.append(_figure(database, workers, rounds, told))
    return figures


def _measure(
    bench: Bench, workers: int, server: postgres.Server | None
) -> tuple[list[Round], Statistics | None]:
    url = server.database(is_empty=True) if server else None
    name = f"scale: {workers} × {'PostgreSQL' if url else 'SQLite'}"
    rounds = []
    try:
        with bench.proxy(
            bench.upstream_url(ANSWER), index={"url": url} if url else None, workers=workers
        ) as proxy:
            check(proxy, bench.answers[ANSWER])
            counted = [_counted(bench, url)] if url else []
            for number in range(1, bench.plan.scale_rounds + 1):
                bench.step(f"{name}, round {number} of {bench.plan.scale_rounds}")
                rounds.append(_round(bench, proxy, url, server))
            if url is None:
                return rounds, None
            bench.step(f"{name}, idle")
            proxy.settle()
            _wait_seen(url)
            counted += [_counted(bench, url), _counted(bench, url)]
            return rounds, _statistics(counted)
    finally:
        if server is not None and url is not None:
            server.drop(url)


def _round(bench: Bench, proxy: Server, url: str | None, server: postgres.Server | None) -> Round:
    data_dir = bench.folder / proxy.name
    wait_empty(data_dir)
    count = _counter(data_dir, url)
    before, begun = count(), time.monotonic()
    with _Watch(proxy.pid, server.pid if server else None, url) as watch:
        seen = load.run(
            proxy.port,
            clients=CLIENTS,
            body_bytes=len(bench.answers[ANSWER]),
            seconds=bench.plan.scale_s,
        )
    emptied = wait_empty(data_dir)
    images = count() - before
    return Round(
        requests_per_s=seen.per_s,
        p50_ms=seen.p50_ms,
        kept_per_s=round(images / (emptied - begun), 1),
        generator_cores=seen.generator_cpu,
        **watch.seen,
    )


def _wait_seen(url: str) -> None:
    """Wait until the thumbnail workers have looked at all new images: that, too, is what requests cost."""
    unseen = "SELECT count(*) AS n FROM images WHERE is_animated IS NULL"
    before, now = -1, int(postgres.rows(url, unseen)[0]["n"])
    while now != before:
        time.sleep(_AN_IMAGE_S)
        before, now = now, int(postgres.rows(url, unseen)[0]["n"])


def _counter(data_dir: Path, url: str | None) -> Callable[[], int]:
    if url is None:
        return lambda: images_in(data_dir)
    return lambda: int(postgres.rows(url, "SELECT count(*) AS n FROM images")[0]["n"])


def _counted(bench: Bench, url: str) -> dict[str, float]:
    """Read what was counted so far, with the time; a connection that rests tells its own only after ten seconds."""
    time.sleep(bench.plan.statistics_s)
    (row,) = postgres.rows(url, _COUNTED)
    return {"at_s": time.monotonic(), **{name: float(count) for name, count in row.items()}}


def _statistics(counted: list[dict[str, float]]) -> Statistics:
    """Take the counts before the load, after it, and after a rest; what goes on at rest is no request's."""
    loaded, idle = ({name: now[name] - then[name] for name in now} for then, now in pairwise(counted))

    def per_request(name: str) -> float:
        of_rest = idle[name] / idle["at_s"] * loaded["at_s"]
        return round((loaded[name] - of_rest) / loaded["images"], 2)

    return Statistics(
        transactions=per_request("transactions"),
        writes=per_request("writes"),
        syncs=per_request("syncs"),
        idle_per_s=round(idle["transactions"] / idle["at_s"], 2),
    )


class _Watch:
    """What proxy, database and disk do while a block runs; `seen` tells."""

    def __init__(self, proxy_pid: int, server_pid: int | None, url: str | None) -> None:
        self._pids = [proxy_pid, server_pid]
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._doing: Counter[str] = Counter()
        self._connections = 0
        self.seen: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._before = self._used()
        if self._url:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = self._used()
        self._stop.set()
        if self._url:
            self._thread.join()
        wall = now[0] - self._before[0]
        proxy, database, everything, disk = (
            round((n - b) / wall, 2) for n, b in zip(now[1:], self._before[1:], strict=True)
        )
        self.seen = {
            "proxy_cores": proxy,
            "database_cores": database,
            "all_cores": everything,
            "disk_busy": disk,
        }
        if self._url:
            busy = sum(count for what, count in self._doing.items() if what != "idle") or 1
            self.seen["connections"] = self._connections
            self.seen["waits"] = {
                what: round(count / busy, 2) for what, count in self._doing.most_common() if what != "idle"
            }

    def _used(self) -> list[float]:
        """Give the time now, and the seconds that proxy, database, all cores and the busiest disk worked so far."""
        ours = [cpu_s(psutil.Process(pid)) if pid else 0.0 for pid in self._pids]
        times = psutil.cpu_times()
        everything = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        disks = psutil.disk_io_counters(perdisk=True) or {}
        busy = max((getattr(each, "busy_time", 0) / 1000 for each in disks.values()), default=0.0)
        return [time.monotonic(), *ours, everything, busy]

    def _look(self) -> None:
        with psycopg.connect(self._url or "", autocommit=True, row_factory=dict_row) as link:
            while not self._stop.wait(_LOOK_EVERY_S):
                found = {row["what"]: row["backends"] for row in link.execute(_DOING)}
                self._doing.update(found)
                self._connections = max(self._connections, sum(found.values()))


def most_used(one: Round, workers: int, cores: int) -> str:
    """Name what has the least left, and what connections that were not idle waited for most of the time."""
    shares = {
        "processor": one.all_cores / cores,
        "interpreter's lock of each process": one.proxy_cores / workers,
        "disk": one.disk_busy,
    }
    worst = max(shares, key=lambda name: shares[name])
    told = f"{worst} {shares[worst]:.0%}"
    for wait, share in (one.waits or {}).items():
        return f"{told}; connections: {_WAITS.get(wait, wait)} {share:.0%}"
    return told


_WAITS = {
    "Lock transactionid": "wait for the row of the team's account",
    "Lock tuple": "wait for the row of the team's account",
    "LWLock WALWrite": "wait for the fsync of a commit",
    "IO WALSync": "fsync of a commit",
    "Client ClientRead": "wait for the proxy amid a transaction",
}
"""What waits are, here: of all rows only the team's account is written by every call."""


def _figure(database: str, workers: int, rounds: list[Round], told: Statistics | None) -> Figure:
    middle = sorted(rounds, key=lambda each: each.requests_per_s)[len(rounds) // 2]
    rates = [each.requests_per_s for each in rounds]
    cores = psutil.cpu_count() or 1
    most = most_used(middle, workers, cores)
    return Figure(
        name=f"scale-{database.lower()}-{workers}",
        title=f"{database}, {workers} process{'es' if workers > 1 else ''}",
        bar=0,
        at_most=False,
        unit="req/s",
        value=median(rates),
        spread=(min(rates), max(rates)),
        context=f"{median([each.kept_per_s for each in rounds]):,.0f} images kept a second; most used: {most}",
        details={
            "most_used": most,
            "middle": asdict(middle),
            "statistics": asdict(told) if told else None,
            "rounds": [asdict(each) for each in rounds],
        },
    )
