"""Bring a durable call to where it stays: rows to the index, folder to storage, each tried until it is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from pixie_proxy.errors import ProxyError
from pixie_proxy.index import Index, Tx, accounts, images, ledger
from pixie_proxy.records import CallRecord, Settlement, StoredImage, to_datetime
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import Storage, folder_ref

log = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 15.0


CallEnded = Callable[[CallRecord, Settlement, Sequence[StoredImage]], None]


def _unheard(call: CallRecord, settlement: Settlement, images: Sequence[StoredImage]) -> None:
    pass


class Finisher:
    """Ends calls: the one way by which a ledger row, its images, its hold and its slot are settled."""

    def __init__(self, index: Index, storage: Storage, ended: CallEnded = _unheard) -> None:
        """Write to these two; `ended` hears of each call once all of it is there."""
        self._index = index
        self._storage = storage
        self._ended = ended

    async def keep(self, manifest: Manifest, folder: str) -> None:
        """Settle a call that brought images, and move them to storage. Returns when both are done."""
        adopted = asyncio.ensure_future(
            self._until_done("storage", lambda: self._storage.adopt(folder, folder_ref(manifest.call.id)))
        )
        try:
            await self.record(manifest)
        finally:
            await adopted
        self._ended(manifest.call, manifest.settlement, manifest.images)

    async def record(self, manifest: Manifest) -> None:
        """Settle a call whose images storage has already."""
        await self._until_done("index", lambda: self._index.write(lambda tx: _settle_kept(tx, manifest)))

    async def settle(self, call: CallRecord, settlement: Settlement) -> None:
        """Settle a call that brought nothing to keep."""
        await self._until_done("index", lambda: self._index.write(lambda tx: _settle(tx, call, settlement)))
        self._ended(call, settlement, ())

    @staticmethod
    async def _until_done(what: str, attempt: Callable[[], Awaitable[object]]) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                await attempt()
            except ProxyError as exc:
                log.warning("a call waits in the spool", extra={"waits_for": what, "reason": exc.message})
            else:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)


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
