"""Bring a durable call to where it stays: rows to the index, folder to storage, each tried until it is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pixie_proxy.errors import ProxyError
from pixie_proxy.index import Index, Tx, accounts, images, ledger
from pixie_proxy.records import CallRecord, Settlement, to_datetime
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import Storage, folder_ref

log = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 15.0
_TRIES_A_SECOND = 10
"""How often all waiting calls together try: the first that succeeds wakes the others."""


class Finisher:
    """Ends calls: the one way by which a ledger row, its images, its hold and its slot are settled."""

    def __init__(self, index: Index, storage: Storage) -> None:
        """Write to these two."""
        self._index = index
        self._storage = storage
        self._waiting = 0
        self._back = asyncio.Event()

    def nudge(self) -> None:
        """Let all calls that wait try at once: storage or index may be back."""
        self._back.set()
        self._back = asyncio.Event()

    async def keep(self, manifest: Manifest, folder: str) -> None:
        """Settle a call that brought images, and move them to storage. Returns when both are done."""
        adopted = asyncio.ensure_future(
            self._until_done("storage", lambda: self._storage.adopt(folder, folder_ref(manifest.call.id)))
        )
        try:
            await self.record(manifest)
        finally:
            await adopted

    async def record(self, manifest: Manifest) -> None:
        """Settle a call whose images storage has already."""
        await self._until_done("index", lambda: self._index.write(lambda tx: _settle_kept(tx, manifest)))

    async def settle(self, call: CallRecord, settlement: Settlement) -> None:
        """Settle a call that brought nothing to keep."""
        await self._until_done("index", lambda: self._index.write(lambda tx: _settle(tx, call, settlement)))

    async def _until_done(self, what: str, attempt: Callable[[], Awaitable[object]]) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                await attempt()
            except ProxyError as exc:
                if wait_s == _FIRST_WAIT_S:
                    log.warning("a call waits in the spool", extra={"waits_for": what, "reason": exc.message})
            else:
                if wait_s > _FIRST_WAIT_S:
                    self.nudge()
                return
            await self._wait(wait_s)
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)

    async def _wait(self, longest_s: float) -> None:
        """Wait before the next try: the more calls wait the longer, or until one of them got through."""
        self._waiting += 1
        try:
            back = self._back
            await asyncio.wait_for(back.wait(), min(longest_s, max(1.0, self._waiting / _TRIES_A_SECOND)))
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1


def _settle_kept(tx: Tx, manifest: Manifest) -> None:
    call = manifest.call
    if not _settle(tx, call, manifest.settlement) and ledger.get(tx, call.id) is None:
        # The index is younger than the spool: the manifest knows all that the row said.
        ledger.insert(tx, call, "sent")
        _settle(tx, call, manifest.settlement)
    images.insert(
        tx,
        manifest.images,
        request_id=call.id,
        owner_id=call.user_id,
        folder=folder_ref(call.id),
        kind=call.kind,
        model=call.model,
        visibility=manifest.visibility,
        created_us=manifest.settlement.settled_us,
    )


def _settle(tx: Tx, call: CallRecord, settlement: Settlement) -> bool:
    """Close the ledger row and give slot and hold back; False if the row was closed before, or is not there."""
    if not ledger.settle(tx, settlement):
        return False
    day = f"{to_datetime(call.created_us):%Y-%m-%d}"
    return accounts.release(
        tx,
        call.user_id,
        hold_micros=call.hold_micros,
        cost_micros=settlement.cost_micros,
        day=day,
        month=day[:7],
    )
