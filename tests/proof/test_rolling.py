"""Rolling restarts under load fail nobody: the socket stays, and who goes serves its connections to their end (R94)."""

from __future__ import annotations

import asyncio
import signal
from itertools import count
from pathlib import Path

import psutil
import pytest

from tests.support.callers import Receipt, orders, place
from tests.support.figures import RecordFigure
from tests.support.ledgers import compare
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.studio import Studio
from tests.support.waiting import eventually

SEED = 94
WORKERS = 2
CALLERS = 6
"""Half of them keep their connection, half make one for each call."""


class Load:
    """Callers who go on until they are told to stop. Nobody asks twice: a failure is a failure."""

    def __init__(self, proxy: RunningProxy) -> None:
        self.receipts: list[Receipt] = []
        self._proxy = proxy
        self._numbers = count()
        self._is_over = False
        self._callers = [asyncio.ensure_future(self._call(keeps=bool(n % 2))) for n in range(CALLERS)]

    async def end(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._callers)

    async def _call(self, *, keeps: bool) -> None:
        sdk = self._proxy.sdk(max_retries=0)
        while not self._is_over:
            (order,) = orders(1, SEED * 10_000 + next(self._numbers), label="rolling")
            self.receipts.append(await place(sdk, order))
            if not keeps:
                await sdk.close()
                sdk = self._proxy.sdk(max_retries=0)


def workers_of(proxy: RunningProxy) -> set[int]:
    assert proxy.process is not None
    return {child.pid for child in psutil.Process(proxy.process.pid).children()}


@pytest.mark.parametrize(("restarts", "least"), [(1, 20), pytest.param(20, 3000, marks=pytest.mark.torture)])
async def test_rolling_restarts_fail_no_call(
    tmp_path: Path, record_figure: RecordFigure, restarts: int, least: int
) -> None:
    """All workers are replaced, again and again, each time when the last ones are whole."""
    data = tmp_path / "data"
    async with Studio(SEED) as studio, spawn_proxy(data, studio.base_url, workers=WORKERS) as proxy:
        assert proxy.process is not None
        load = Load(proxy)
        for number in range(restarts):
            before = workers_of(proxy)
            proxy.process.send_signal(signal.SIGHUP)
            wanted = least * (number + 1) // restarts
            await eventually(
                lambda before=before, wanted=wanted: (  # type: ignore[misc]
                    len(workers_of(proxy) - before) == WORKERS and len(load.receipts) >= wanted
                ),
                120,
            )
            await eventually(lambda before=before: not workers_of(proxy) & before, 120)  # type: ignore[misc]
        await load.end()
        proxy.process.terminate()
        assert await asyncio.wait_for(proxy.process.wait(), 60) == 0
        report = compare(data, sales=studio.sales, receipts=load.receipts, once=True)
    failed = [receipt.error for receipt in load.receipts if receipt.error is not None]
    record_figure(
        "R94",
        seed=SEED,
        restarts=restarts,
        workers=WORKERS,
        calls=len(load.receipts),
        calls_failed_without_any_retry=len(failed),
        violations=len(report.violations),
    )
    assert failed == []
    assert len(load.receipts) >= least
    report.assert_clean(SEED)
