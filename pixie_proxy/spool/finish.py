"""Bring a durable call to where it stays: rows to the index, folder to storage, each tried until it is there."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from pixie_proxy.errors import ProxyError, StorageUnavailable
from pixie_proxy.index import Index, Tx, accounts, erasure, images, ledger, states
from pixie_proxy.records import CallRecord, Settlement, StoredImage, period
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import Storage, folder_ref

log = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 15.0
AT_ONCE = 16
"""How many of those that wait try at a time: a backlog that goes home must not stand in the way of new calls."""
_NUDGE_EVERY_S = 1.0
"""How often a success may wake those who wait: one call with a trouble of its own must not be tried at every answer."""

CallEnded = Callable[[CallRecord, Settlement, Sequence[StoredImage]], None]


class Finisher:
    """Ends calls: the one way by which a ledger row, its images, its hold and its slot are settled.

    What storage or index can't take now is tried again. Any other exception is a fault of ours and goes to the caller:
    the call then stays in the spool, and the next start tries it again.
    """

    def __init__(self, index: Index, storage: Storage, *ended: CallEnded) -> None:
        """Write to these two; each of `ended` hears of each call once all of it is there."""
        self._index = index
        self._storage = storage
        self._ended = ended
        self._for_index = _Line("index")
        self._for_storage = _Line("storage")
        self._for_any = _Line("either")

    @property
    def is_storage_away(self) -> bool:
        """Whether storage did not take what it was last given."""
        return self._for_storage.is_stuck

    def nudge(self) -> None:
        """Let all that waits try again now: storage or index may be back."""
        for line in (self._for_index, self._for_storage, self._for_any):
            line.nudge()

    def ended(self, call: CallRecord, settlement: Settlement, images: Sequence[StoredImage]) -> None:
        """Tell all who want to hear of it that a call is where it stays."""
        for hear in self._ended:
            hear(call, settlement, images)

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the next nudge."""
        await self._for_any.wait(seconds)

    async def keep(self, manifest: Manifest, folder: str) -> None:
        """Settle a call that brought images, and move them to storage. Returns when both are done."""
        adopting = asyncio.ensure_future(self._adopt(manifest.call.id, folder))
        try:
            await self._write(manifest.call.id, lambda tx: settle_kept(tx, manifest))
            await adopting
        finally:
            adopting.cancel()  # who ends us while storage is away must not wait for it
        self.ended(manifest.call, manifest.settlement, manifest.images)

    async def settle(self, call: CallRecord, settlement: Settlement) -> None:
        """Settle a call that brought nothing to keep."""
        await self._write(call.id, lambda tx: settle(tx, call, settlement))
        self.ended(call, settlement, ())

    async def _write(self, request_id: str, work: Callable[[Tx], object]) -> None:
        await self._for_index.until_done(request_id, lambda: self._index.write(work))

    async def _adopt(self, request_id: str, folder: str) -> None:
        async def attempt() -> None:
            try:
                await self._storage.adopt(folder, folder_ref(request_id))
            except StorageUnavailable:
                if await asyncio.to_thread(os.path.isdir, folder):
                    raise
                log.error("a call is gone from the spool before storage had it", extra={"folder": folder})  # noqa: TRY400

        await self._for_storage.until_done(request_id, attempt)


class _Line:
    """Those who wait for storage or index: each tries again after growing waits, and all of them at a nudge.

    Who gets through nudges the others, for it may be back. A first try takes no turn: a client waits for its end.
    """

    def __init__(self, what: str) -> None:
        """Wait for `what`, as the log calls it."""
        self.is_stuck = False
        """Whether the last try was in vain."""
        self._what = what
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._nudged = asyncio.Event()
        self._nudged_at = float("-inf")

    def nudge(self) -> None:
        """Wake all."""
        self._nudged_at = time.monotonic()
        self._nudged.set()
        self._nudged = asyncio.Event()

    async def wait(self, seconds: float, nudged: asyncio.Event | None = None) -> None:
        """Wait so long, or until a nudge; `nudged` is of an earlier moment, from which on a nudge counts."""
        self._waiting += 1
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for((nudged or self._nudged).wait(), seconds)
        finally:
            self._waiting -= 1

    async def until_done(self, request_id: str, attempt: Callable[[], Awaitable[object]]) -> None:
        """Try until it works; the log hears once of a call that has to wait."""
        wait_s = _FIRST_WAIT_S
        nudged = self._nudged
        refusal = await self._try(attempt)
        if refusal is not None:
            told = {"waits_for": self._what, "reason": refusal.message, "request_id": request_id}
            log.warning("a call waits in the spool", extra=told)
        while refusal is not None:
            await self.wait(wait_s * random.uniform(0.75, 1.25), nudged)  # noqa: S311 - jitter
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)
            async with self._turns:
                nudged = self._nudged
                refusal = await self._try(attempt)

    async def _try(self, attempt: Callable[[], Awaitable[object]]) -> ProxyError | None:
        """Try once; give what was in the way."""
        try:
            await attempt()
        except ProxyError as exc:
            self.is_stuck = True
            return exc
        self.is_stuck = False
        if self._waiting and time.monotonic() - self._nudged_at >= _NUDGE_EVERY_S:
            self.nudge()
        return None


def settle_kept(tx: Tx, manifest: Manifest) -> None:
    """Close the ledger row of a call that brought images, and list them. A second time changes nothing.

    Of a user who was deleted meanwhile nothing is listed, and the folder goes once it is in storage; nor is an image
    that was purged while its folder lay in the spool of a dead host.
    """
    call, end = manifest.call, manifest.settlement
    accounts.lock(tx, call.accounts)
    is_erased = erasure.is_deleted(tx, call.user_id)
    if is_erased:
        call, end = erasure.anonymous_call(call), erasure.anonymous_end(end)
    if not _settle(tx, call, end) and ledger.get(tx, call.id) is None:
        # The index is younger than the spool: the manifest knows all that the row said.
        ledger.insert(tx, call, "sent")
        taken = {"slots": 1, "held_micros": call.hold_micros, "images": call.images_asked}
        accounts.move(tx, call.accounts, period(call.created_us), **taken)
        _settle(tx, call, end)
    if is_erased:
        erasure.doom(tx, call.id, {image.id: image.file for image in manifest.images})
        return
    waiting = states.get(tx, call.id)
    purged = waiting.purged if waiting else {}
    images.insert(
        tx,
        [image for image in manifest.images if image.id not in purged],
        request_id=call.id,
        owner_id=call.user_id,
        folder=folder_ref(call.id),
        kind=call.kind,
        model=call.model,
        visibility=manifest.visibility,
        created_us=end.settled_us,
        siblings=len(manifest.images),
    )


def settle(tx: Tx, call: CallRecord, settlement: Settlement) -> bool:
    """Close a ledger row and its part in its accounts; False if the row was closed before, or is not there.

    An open row gives slot and hold back and is charged; one that was refused gives its images of the day back, too. One
    of unknown outcome did so before: when it turns out to be done after all, only the difference to what it was charged
    then is booked.
    """
    accounts.lock(tx, call.accounts)
    return _settle(tx, call, settlement)


def _settle(tx: Tx, call: CallRecord, settlement: Settlement) -> bool:
    """Do that. The accounts are locked, and before the row, as by an admission that takes its idempotency key over."""
    booked = period(call.created_us)
    if ledger.settle(tx, settlement):
        accounts.move(
            tx,
            call.accounts,
            booked,
            slots=-1,
            held_micros=-call.hold_micros,
            spent_micros=settlement.cost_micros,
            images=-call.images_asked if settlement.state == "failed" else 0,
        )
        return True
    charged_micros = ledger.charged_as_unknown(tx, call.id) if settlement.state == "done" else None
    if charged_micros is None:
        return False
    less_micros = charged_micros - settlement.cost_micros
    if any(accounts.spent(tx, subject, booked["day"])[0] < less_micros for subject in call.accounts):
        # An admin has given back what it was charged, or part of it: then that stands, and not less than nothing.
        settlement = replace(settlement, cost_micros=charged_micros, flags=(*settlement.flags, "corrected"))
    if not ledger.settle(tx, settlement, of="unknown"):
        return False
    accounts.move(tx, call.accounts, booked, spent_micros=settlement.cost_micros - charged_micros)
    return True
