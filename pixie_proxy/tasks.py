"""Background tasks that somebody owns: none is lost, none fails unseen, all end with their owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class TaskKeeper:
    """Holds tasks until they end. A bare `create_task` may be collected half way, and its error with it."""

    def __init__(self) -> None:
        """Own no task yet."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Count the tasks that run."""
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> None:
        """Start a task that nobody waits for."""
        self.run(work, name)  # type: ignore[unused-awaitable]

    def run(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task and own it; its exception is logged under its name."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def drain(self, timeout_s: float | None) -> int:
        """Wait for the tasks to end by themselves, also those that they start; return how many still run."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while self._tasks:
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                break
            await asyncio.wait(set(self._tasks), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        return len(self._tasks)

    async def close(self) -> None:
        """Cancel what still runs and wait until it is gone."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task failed", exc_info=error, extra={"task": task.get_name()})
