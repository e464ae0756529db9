"""Tasks that somebody owns."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from pixie_proxy.tasks import TaskKeeper


async def test_a_task_that_nobody_waits_for_runs_to_its_end() -> None:
    """The garbage collector can't take what the keeper holds."""
    keeper, seen = TaskKeeper(), []

    async def work() -> None:
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        seen.append("done")

    keeper.spawn(work(), "work")
    assert len(keeper) == 1
    assert await keeper.drain(5) == 0
    assert (seen, len(keeper)) == (["done"], 0)


async def test_the_result_of_a_task_can_be_waited_for() -> None:
    """`run` gives the task itself."""

    async def work() -> int:
        return 7

    assert await TaskKeeper().run(work(), "work") == 7


async def test_an_error_is_logged_under_its_name(caplog: pytest.LogCaptureFixture) -> None:
    """And the others are not harmed by it."""
    keeper = TaskKeeper()

    async def fail() -> None:
        raise ValueError("boom")

    keeper.spawn(fail(), "call req_1")
    assert await keeper.drain(5) == 0
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert (record.__dict__["task"], str(record.exc_info[1])) == ("call req_1", "boom")


async def test_a_drain_waits_for_what_its_tasks_start() -> None:
    """The last grandchild counts."""
    keeper, seen = TaskKeeper(), []

    async def work(depth: int) -> None:
        await asyncio.sleep(0.001)
        seen.append(depth)
        if depth:
            keeper.spawn(work(depth - 1), "child")

    keeper.spawn(work(3), "first")
    assert await keeper.drain(None) == 0
    assert seen == [3, 2, 1, 0]


async def test_a_drain_ends_in_time_and_tells_what_is_left() -> None:
    """Nothing is cancelled by it; `close` does that, and waits."""
    keeper, seen = TaskKeeper(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    keeper.spawn(work(), "one")
    keeper.spawn(work(), "two")
    assert await keeper.drain(0.01) == 2
    assert seen == []
    await keeper.close()
    assert (seen, len(keeper)) == (["cleaned up"] * 2, 0)
