"""Threads for work that blocks, at half the price of `run_in_executor`: one future a job, and none to chain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class WorkerThreads:
    """At most `most` threads, started as they are needed. Jobs begin in the order in which they came."""

    def __init__(self, most: int, name: str, *, daemon: bool = False) -> None:
        """Start none yet. `daemon`: what they do may hang, and must not keep the process from ending."""
        self._most = most
        self._name = name
        self._daemon = daemon
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def run(self, work: Callable[..., T], *args: object) -> Awaitable[T]:
        """Run `work(*args)` in a thread. A caller that is cancelled leaves it running to its end."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((future, work, args))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=name, daemon=self._daemon)
            self._threads.append(thread)
            thread.start()
        return future

    def close(self) -> None:
        """Finish what was handed in, and end the threads; daemons do so by themselves, if ever."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            if not self._daemon:
                thread.join()
        self._threads.clear()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work, args = job
            try:
                result, error = work(*args), None
            except BaseException as exc:  # noqa: BLE001 - it is the caller's
                result, error = None, exc
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(_resolve, future, result, error)
            del job, future, work, args, result, error
            self._idle.release()


def _resolve(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
