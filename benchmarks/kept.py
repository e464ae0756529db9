"""Images kept: how fast they come to rest, in a bucket of Ceph's gateway and, beside it, on the local disk.

An answer waits two seconds for its image to come there, and not longer. So two rates count: answers a second while
there is load, and images a second from the first request until the spool is empty.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.bench import Bench, check
from benchmarks.processes import BenchError, Server
from benchmarks.result import Figure, median
from tests.support.s3_servers import CEPH_PROGRAMS, running_ceph

CLIENTS = (1, 16)
ANSWERS = {"27kb": "27 kB", "2mb": "2 MB"}
EMPTY_WITHIN_S = 60.0
"""How long the spool may take to empty after a load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One load: `kept_per_s` counts from its begin to the empty spool, `emptied_s` from its end."""

    answers_per_s: float
    p50_ms: float
    images: int
    kept_per_s: float
    emptied_s: float


def kept(bench: Bench) -> list[Figure]:
    """Load a proxy in front of each storage with answers of two sizes, from one client and from sixteen."""
    for program in CEPH_PROGRAMS:
        if shutil.which(program) is None:
            raise BenchError(f"{program} is not on PATH: apt-get install ceph-mon ceph-osd radosgw")
    figures = []
    for answer, size in ANSWERS.items():
        for clients in CLIENTS:
            rounds = {
                where: _rounds(bench, where, storage, answer, clients) for where, storage in _storages(bench)
            }
            figures.append(_figure(f"kept-{answer}-{clients}", size, clients, rounds))
    return figures


def _storages(bench: Bench) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Give each storage's settings; the bucket, and all of Ceph, are new each time: it keeps all in memory."""
    yield "local", None
    folder = bench.folder / "ceph"
    folder.mkdir()
    try:
        with running_ceph(folder) as ceph:
            yield "s3", {"kind": "s3", "s3": ceph.bucket()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rounds(
    bench: Bench, where: str, storage: dict[str, Any] | None, answer: str, clients: int
) -> list[Kept]:
    found = []
    with bench.proxy(bench.upstream_url(answer), storage) as proxy:
        check(proxy, bench.answers[answer])
        for number in range(1, bench.plan.kept_rounds + 1):
            bench.step(
                f"kept: {answer}, {clients} clients, {where}, round {number} of {bench.plan.kept_rounds}"
            )
            found.append(_load(bench, proxy, answer, clients))
    return found


def _load(bench: Bench, proxy: Server, answer: str, clients: int) -> Kept:
    data_dir = bench.folder / proxy.name
    wait_empty(data_dir)
    before = images_in(data_dir)
    begun = time.monotonic()
    seen = load.run(
        proxy.port, clients=clients, body_bytes=len(bench.answers[answer]), seconds=bench.plan.kept_s
    )
    ended = time.monotonic()
    emptied = wait_empty(data_dir)
    images = images_in(data_dir) - before
    return Kept(
        answers_per_s=seen.per_s,
        p50_ms=seen.p50_ms,
        images=images,
        kept_per_s=round(images / (emptied - begun), 2),
        emptied_s=round(emptied - ended, 2),
    )


def wait_empty(data_dir: Path) -> float:
    """Wait until no call is in the spool; tell when that was."""
    deadline = time.monotonic() + EMPTY_WITHIN_S
    while any((data_dir / "spool").glob("*/req_*")):
        if time.monotonic() > deadline:
            raise BenchError(f"the spool is not empty {EMPTY_WITHIN_S:.0f} s after the load")
        time.sleep(0.02)
    return time.monotonic()


def images_in(data_dir: Path) -> int:
    """Count the images in an index of SQLite's."""
    with closing(sqlite3.connect(f"{(data_dir / 'pixie.db').as_uri()}?mode=ro", uri=True)) as index:
        count: int = index.execute("SELECT count(*) FROM images").fetchone()[0]
        return count


def _figure(name: str, size: str, clients: int, rounds: dict[str, list[Kept]]) -> Figure:
    on_s3, on_disk = rounds["s3"], rounds["local"]
    rates = [each.kept_per_s for each in on_s3]
    return Figure(
        name=name,
        title=f"{size} answer, {clients} client{'s' if clients > 1 else ''}: images kept on S3",
        bar=0,
        at_most=False,
        unit="a second",
        value=median(rates),
        spread=(min(rates), max(rates)),
        context=f"{median([each.answers_per_s for each in on_s3]):,.0f} answers/s, "
        f"all in the bucket {median([each.emptied_s for each in on_s3]):.1f} s after the load; on the disk "
        f"{median([each.kept_per_s for each in on_disk]):,.0f} kept a second, "
        f"{median([each.answers_per_s for each in on_disk]):,.0f} answers/s",
        details={where: [asdict(each) for each in found] for where, found in rounds.items()},
    )
