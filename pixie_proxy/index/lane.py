"""Works that wait for a connection, whatever the database: first come, first served, and nobody for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from pixie_proxy.errors import IndexUnavailable
from pixie_proxy.index import Tx
from pixie_proxy.index.trouble import unavailable

T = TypeVar("T")
Work = Callable[[Tx], Any]
Outcome = tuple[Any, BaseException | None]
_Waiting = tuple[Work, "asyncio.Future[Any]"]


class Connection(Protocol):
    """A connection that works on a thread."""

    async def hop(self, function: Callable[..., T], *args: object) -> T:
        """Run a function on that thread. Once asked it runs, whatever becomes of the asker."""

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        """Run works as transactions, on that thread, and return the outcome of each.

        Raises `IndexUnavailable` when nothing was begun, so nobody's work was tried.
        """


class Lane:
    """A queue of works before some connections; each hop takes up to `batch` of them."""

    def __init__(
        self, connections: Sequence[Connection], batch: int, *, patience_s: float | None = None
    ) -> None:
        """Serve with these connections, each one hop at a time; the one that was used last is the first to be again.

        A work that was not begun after `patience_s` never will be: then the database hangs.
        """
        self._idle = list(connections)
        self._connections = len(connections)
        self._batch = batch
        self._patience_s = patience_s
        self._waiting: deque[_Waiting] = deque()
        self._drains: set[asyncio.Task[None]] = set()
        self.is_closed = False
        """Whether nothing more is accepted."""
        self._is_paused = False

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """Accept a work; it runs even if nobody waits for its future any more."""
        if self.is_closed:
            raise unavailable("The index is closed because the proxy shuts down. Try again in a few seconds.")
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._idle and not self._is_paused:
            self._start_drain()
        else:
            self._bound((work, future))
        return future

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Let no work run meanwhile: those that do are waited for, those that come wait."""
        self._is_paused = True
        try:
            if self._drains:
                await asyncio.wait(self._drains)
            yield
        finally:
            self._is_paused = False
            for _ in range(min(len(self._idle), len(self._waiting))):
                self._start_drain()

    async def close(self) -> None:
        """Accept nothing more and wait for what was accepted."""
        self.is_closed = True
        if self._drains:
            await asyncio.wait(self._drains)

    def _bound(self, waiting: _Waiting) -> None:
        if self._patience_s is not None:
            asyncio.get_running_loop().call_later(self._patience_s, self._give_up, waiting)

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            _resolve(
                [waiting], [(None, unavailable("The index does not answer. Try again in a few seconds."))]
            )

    @property
    def _others_work(self) -> bool:
        return self._connections - len(self._idle) > 1

    def _start_drain(self) -> None:
        # The task starts in the next round of the loop: all that is asked for in this one is in its first batch.
        drain = asyncio.create_task(self._drain(self._idle.pop()), name="index lane")
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)

    async def _drain(self, connection: Connection) -> None:
        is_good = False
        try:
            while self._waiting and not self._is_paused:
                batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
                is_good = await self._serve(connection, batch)
                if not is_good and self._others_work:
                    return
        finally:
            self._idle.insert(len(self._idle) if is_good else 0, connection)

    async def _serve(self, connection: Connection, batch: list[_Waiting]) -> bool:
        """Run works and tell those who asked; False where the connection could not begin."""
        try:
            outcomes = await connection.hop(connection.run, [work for work, _ in batch])
        except IndexUnavailable as exc:
            if self._others_work:  # they may do better
                self._waiting.extendleft(reversed(batch))
                for each in batch:
                    self._bound(each)
                return False
            # Who came while we waited for a lock would meet it too: nobody waits longer than the busy timeout.
            batch += self._waiting
            self._waiting.clear()
            _resolve(batch, [(None, unavailable(exc.message, exc.__cause__)) for _ in batch])
            return False
        except asyncio.CancelledError:  # the loop is ending
            for _, future in batch:
                future.cancel()
            raise
        except Exception as exc:  # noqa: BLE001 - it goes to those who asked
            outcomes = [(None, exc) for _ in batch]
        _resolve(batch, outcomes)
        return True


def _resolve(batch: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
    for (_, future), (result, error) in zip(batch, outcomes, strict=True):
        if future.done():  # its caller has left
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
