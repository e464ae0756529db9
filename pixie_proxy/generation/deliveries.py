"""Tell the index what became of answers: a loss at once, for a retry looks for it; the rest many in one commit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from pixie_proxy.errors import ProxyError
from pixie_proxy.index import Index, Tx, deliveries, refusals
from pixie_proxy.records import CallRecord, new_id
from pixie_proxy.relay import join
from pixie_proxy.relay.join import Attempt
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.presence import Presence
from pixie_proxy.spool.recovery import release_dead, release_silent
from pixie_proxy.tasks import TaskKeeper

log = logging.getLogger(__name__)

FLUSH_S = 0.1
"""How long a note waits for others; an SDK comes back after 0.4 s at the earliest."""

_AGAIN_S = 1.0
_SWEEP_S = 10.0
_MOST_WAITING = 10_000

Note = Callable[[Tx], object]


class Deliveries:
    """Notes of this process on their way to the index."""

    def __init__(self, index: Index, tasks: TaskKeeper, spool: Spool, presence: Presence) -> None:
        """Write in `tasks` for the process of `spool`; `presence` tells which of the others are alive."""
        self._index = index
        self._tasks = tasks
        self._spool = spool
        self._presence = presence
        self._waiting: list[Note] = []
        self._leaving: set[asyncio.Future[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def of(self, call: CallRecord, attempt: Attempt) -> Delivery:
        """Follow the answer of a call to the client that waits for it now."""
        return Delivery(self, call, attempt, self._spool.process)

    def leaving(self, entered: asyncio.Future[Any]) -> None:
        """Know of a client that left while its call was on its way in: what became of it is noted when it is in."""
        self._leaving.add(entered)
        entered.add_done_callback(self._leaving.discard)

    def refused_early(self, attempt: Attempt) -> None:
        """Note a refusal of a call whose body was not read."""
        if attempt.retry_count is not None:
            refused_id, now_us = new_id("req"), _now_us()
            self.note(lambda tx: join.remember_early_refusal(tx, refused_id, attempt, now_us))

    def note(self, note: Note, *, at_once: bool = False) -> None:
        """Take a note. More than an index that is away for long should find are dropped."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(note)
        if at_once:
            self._tasks.spawn(self.flush(), "deliveries")
        elif self._timer is None:
            self._wait(FLUSH_S)

    async def flush(self) -> None:
        """Write what waits. What comes to the index behind this call finds it there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        notes, self._waiting = self._waiting, []
        if not notes:
            return
        try:
            await self._index.write(lambda tx: [note(tx) for note in notes])
        except ProxyError as exc:
            log.warning(
                "what became of answers can't be noted now",
                extra={"calls": len(notes), "reason": exc.message},
            )
            self._waiting = notes + self._waiting
            if self._timer is None:
                self._wait(_AGAIN_S)

    async def close(self) -> None:
        """Write what waits, or give it up: a process that has ended is as good as clients that left."""
        await self.flush()
        if self._timer is not None:
            self._timer.cancel()

    async def settle_before(self, call: CallRecord, retry_count: int) -> None:
        """Bring the index up to date before a retry looks for its call: our own notes, and the deaths of others."""
        if self._leaving:
            await asyncio.wait(set(self._leaving))
        await self.flush()
        await release_dead(self._index, self._presence, call.fingerprint)
        await release_silent(self._index, self._presence, call.fingerprint, retry_count)

    async def run(self) -> None:
        """Sweep what nobody can ask for any more, and release what died with its process, for as long as we live."""
        while True:
            try:
                await self.sweep()
            except ProxyError as exc:
                log.warning("old deliveries can't be swept now", extra={"reason": exc.message})
            await asyncio.sleep(_SWEEP_S)

    async def sweep(self) -> None:
        """Do that once. Raises ProxyError."""
        if not await self._index.read(lambda tx: deliveries.has_any(tx) or refusals.has_any(tx)):
            return
        await release_dead(self._index, self._presence)
        now_us = _now_us()

        def work(tx: Tx) -> None:
            deliveries.sweep(
                tx,
                left_before_us=now_us - join.LEFT_WINDOW_US,
                delivered_before_us=now_us - join.DELIVERED_WINDOW_US,
            )
            refusals.sweep(tx, now_us - join.REFUSED_WINDOW_US)

        await self._index.write(work)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        self._tasks.spawn(self.flush(), "deliveries")


class Delivery:
    """One answer on its way to one client. The first word about it counts; no word is as good as `left`."""

    __slots__ = ("_attempt", "_call", "_deliveries", "_is_told", "_process")

    def __init__(self, deliveries_: Deliveries, call: CallRecord, attempt: Attempt, process: str) -> None:
        """Follow the answer of `call`. One with an idempotency key is found by that, so there is nothing to note."""
        self._deliveries = deliveries_
        self._call = call
        self._attempt = attempt
        self._process = process
        self._is_told = call.idempotency_key is not None

    def delivered(self) -> None:
        """Note that the whole answer was handed over."""
        if self._may_tell():
            call, process, now_us = self._call, self._process, _now_us()
            self._deliveries.note(
                lambda tx: deliveries.deliver(tx, call.id, call.fingerprint, process, now_us)
            )

    def left(self) -> None:
        """Note that the client did not get the whole answer."""
        if self._may_tell():
            call, process, now_us = self._call, self._process, _now_us()
            self._deliveries.note(
                lambda tx: deliveries.leave(tx, call.id, call.fingerprint, process, now_us), at_once=True
            )

    def failed(self) -> None:
        """Note that the client heard of a failure that was free, so that a retry is a new call."""
        if self._may_tell():
            call, attempt, now_us = self._call, self._attempt, _now_us()
            self._deliveries.note(lambda tx: join.remember_failure(tx, call, attempt, now_us))

    def _may_tell(self) -> bool:
        is_first, self._is_told = not self._is_told, True
        return is_first


def _now_us() -> int:
    return time.time_ns() // 1000
