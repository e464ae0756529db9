"""Pictures that were changed at random, through the thumbnail workers by hundreds or by the million (R61)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from random import Random

import pytest

from pixie_proxy.gallery import workers
from pixie_proxy.gallery.workers import WORKERS, Unthumbable, WorkerDied, Workers
from tests.gallery.mutants import mutants, seeds
from tests.support.figures import RecordFigure


async def whole(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


@pytest.mark.parametrize(("seed", "count"), [(1, 500), pytest.param(2, 1_000_000, marks=pytest.mark.torture)])
async def test_mutated_images_break_nothing(
    monkeypatch: pytest.MonkeyPatch, seed: int, count: int, record_figure: RecordFigure
) -> None:
    """Each is made or refused; a crash costs a worker, never this process, and the next one is made all the same."""
    monkeypatch.setattr(workers, "_IMAGES_A_LIFE", 20_000)  # a start takes as long as two hundred of them
    pool, waiting, ends = Workers(), mutants(Random(seed), count), Counter[str]()

    async def feed() -> None:
        async with pool.one() as worker:
            for data in waiting:
                try:
                    await worker.make(whole(data), len(data), 64)
                except Unthumbable as exc:
                    ends["crashes" if str(exc).startswith("SIG") else "refused"] += 1
                except WorkerDied as exc:
                    ends["killed"] += 1
                    print(seed, ends.total(), exc)
                else:
                    ends["made"] += 1

    try:
        await asyncio.gather(*[feed() for _ in range(WORKERS)])
        for original in seeds():
            async with pool.one() as worker:
                assert (await worker.make(whole(original), len(original), 64)).placeholder
    finally:
        await pool.close()
    assert ends.total() == count
    assert ends["made"] > count / 10
    assert ends["refused"] > count / 10
    assert (
        ends["killed"] <= count / 10_000
    )  # by a machine that is too busy: nothing in them gets a worker killed
    record_figure(
        "R61",
        seed=seed,
        mutants=count,
        thumbnails=ends["made"],
        refused=ends["refused"],
        workers_crashed=ends["crashes"],
        workers_killed=ends["killed"],
        crashes_of_the_proxy=0,
    )
