"""The numbers of several workers behind one socket: each leaves its own beside its spool, whoever is scraped tells all.

A scrape reaches one worker, any of them. Sums would fall whenever a worker is replaced, which Prometheus would take for
a new count from zero; so every number keeps its worker's, as the label `worker`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pixie_proxy.metrics import Metrics
from pixie_proxy.spool.area import LOCK, Spool, is_alive, processes_in
from pixie_proxy.web.exposition import process_numbers

if TYPE_CHECKING:
    from prometheus_client import Metric

EVERY_S = 2.0
"""How old another worker's numbers may be in a scrape."""

_FILE = "numbers.json"


class Siblings:
    """This worker among those that share its socket."""

    def __init__(self, spool: Spool, metrics: Metrics, worker: int) -> None:
        """Tell the numbers `metrics` as those of the worker `worker`."""
        self._spool, self._metrics, self._worker = spool, metrics, worker

    async def run(self) -> None:
        """Leave our numbers for the others, for ever."""
        while True:
            with suppress(OSError):  # a disk that is full or away: its watch tells
                await asyncio.to_thread(self._leave)
            await asyncio.sleep(EVERY_S)

    def _leave(self) -> None:
        families = [
            [family.name, family.documentation, family.type, [each[:3] for each in family.samples]]
            for family in self._own()
        ]
        path = self._spool.folder / _FILE
        new = path.with_suffix(".new")
        new.write_bytes(orjson.dumps({"worker": self._worker, "families": families}))
        new.replace(path)

    def _own(self) -> Iterator[Metric]:
        yield from self._metrics.collect()
        yield from process_numbers()

    def collect(self) -> Iterator[Metric]:
        """Give the families of all workers, each number with its worker's, as prometheus_client asks for them."""
        from prometheus_client import Metric

        found = {family.name: family for family in self._own()}
        for family in found.values():
            if family.name not in self._metrics.shared:
                family.samples = [_of_worker(each, self._worker) for each in family.samples]
        for told in self._others():
            for name, about, kind, samples in told["families"]:
                if name not in self._metrics.shared:
                    family = found.setdefault(name, Metric(name, about, kind))
                    for sample, labels, value in samples:
                        family.add_sample(sample, {**labels, "worker": str(told["worker"])}, value)
        yield from found.values()

    def _others(self) -> Iterator[dict[str, Any]]:
        """Give what the other workers left; of two with one number, one of which is leaving, the newer."""
        newest: dict[int, tuple[int, dict[str, Any]]] = {}
        for folder in processes_in(self._spool.root):
            if folder != self._spool.folder and is_alive(self._spool.root, folder.name):
                with suppress(OSError, ValueError):
                    told = orjson.loads((folder / _FILE).read_bytes())
                    began = _began(folder)
                    if told["worker"] not in newest or began > newest[told["worker"]][0]:
                        newest[told["worker"]] = (began, told)
        newest.pop(self._worker, None)  # whom we replace, or who replaces us
        yield from [told for _, (_, told) in sorted(newest.items())]


def _of_worker(sample: Any, worker: int) -> Any:
    return sample._replace(labels={**sample.labels, "worker": str(worker)})


def _began(folder: Path) -> int:
    """Tell when a process made its folder: the lock in it is never written again."""
    return (folder / LOCK).stat().st_mtime_ns
