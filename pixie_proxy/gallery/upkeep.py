"""Keep the folders in storage in line with the index: `state.json` follows each change, purged images' files go.

The index is changed first and notes in the same transaction that the folder has to follow. So a change survives the
death of the process, an absent storage, and a call that is still on its way there; it is tried until it is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from weakref import WeakValueDictionary

from pixie_proxy.errors import ProxyError
from pixie_proxy.gallery.state import FolderState
from pixie_proxy.index import Index, images, states
from pixie_proxy.index.states import StateToWrite
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import MANIFEST, STATE, ObjectMissing, Storage, folder_ref
from pixie_proxy.tasks import TaskKeeper

log = logging.getLogger(__name__)

ANSWER_WAIT_S = 2.0
"""How long the answer to a change waits for storage; what is slower goes on without its client."""

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 15.0
_WORTH_TELLING_S = 2.0
"""A call that is on its way to storage takes less than this; a longer wait is logged."""

_IDLE_S = 300.0
_PAGE = 200


class Upkeep:
    """Brings folders into line."""

    def __init__(
        self,
        index: Index,
        storage: Storage,
        tasks: TaskKeeper,
        forget: Callable[[str], Awaitable[None]] | None = None,
        is_spooled: Callable[[str], bool] = lambda _: False,
        is_elsewhere: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """Write to `storage` what `index` says; `forget` is told the id of each image that is gone for good.

        `is_spooled` tells whether a call is still on its way to storage: a folder must not come after it was deleted.
        `is_elsewhere` tells whether it may be on its way from another host, which may be dead: it may come.
        """
        self._is_spooled = is_spooled
        self._is_elsewhere = is_elsewhere
        self.elsewhere = 0
        """How many folders the last sweep has deleted, or parts of them, that may come again from another host."""
        self._index = index
        self._storage = storage
        self._tasks = tasks
        self._forget = forget
        self._wake = asyncio.Event()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def follow(self, request_id: str) -> None:
        """Bring a folder into line after a change. Returns when that is done, or will be done later."""
        task = self._tasks.run(self._try_or_wake(request_id), "state")
        await asyncio.wait({task}, timeout=ANSWER_WAIT_S)

    async def run(self) -> None:
        """Try what is left, and what a dead process left, for as long as we live."""
        wait_s = _FIRST_WAIT_S
        while True:
            self._wake.clear()
            left, reason = await self.sweep()
            if left and wait_s >= _WORTH_TELLING_S:
                log.warning("changes wait for storage", extra={"folders": left, "reason": reason})
            try:
                await asyncio.wait_for(self._wake.wait(), wait_s if left else _IDLE_S)
            except TimeoutError:
                wait_s = min(_LONGEST_WAIT_S, wait_s * 2) if left else _FIRST_WAIT_S
            else:
                wait_s = _FIRST_WAIT_S

    def nudge(self) -> None:
        """Try what is left at once: storage or index may be back."""
        self._wake.set()

    async def _try_or_wake(self, request_id: str) -> None:
        if await self._try(request_id) is not None:
            self._wake.set()

    async def _try(self, request_id: str) -> str | None:
        """Bring a folder into line, or say why that can't be now."""
        try:
            await self._bring_into_line(request_id)
        except ProxyError as exc:
            return exc.message
        except (ObjectMissing, ValueError) as exc:
            return f"{type(exc).__name__}: {exc}"
        return None

    async def sweep(self) -> tuple[int, str | None]:
        """Try every folder once; tell how many are left, and why one of them is."""
        left, reason, after = 0, None, ""
        self.elsewhere = 0
        while True:
            try:
                page = await self._index.read(partial(states.waiting, after=after, limit=_PAGE))
            except ProxyError as exc:
                return left + 1, exc.message
            for request_id in page:
                why = await self._try(request_id)
                left, reason = left + (why is not None), why or reason
            if len(page) < _PAGE:
                return left, reason
            after = page[-1]

    async def _bring_into_line(self, request_id: str) -> None:
        """Do what is noted. Raises ProxyError while storage or index is away, ObjectMissing until it has the call."""
        lock = self._locks.setdefault(request_id, asyncio.Lock())
        async with lock:
            found = await self._index.read(lambda tx: states.get(tx, request_id))
            while found is not None:
                may_come = bool(found.purged) and await self._may_come(request_id)
                await self._write(found)
                if may_come:  # then it stays noted: a later sweep deletes it again, and no recovery lists it
                    self.elsewhere += 1
                    return
                found = await self._index.write(partial(states.settle, state=found))

    async def _may_come(self, request_id: str) -> bool:
        return self._is_elsewhere is not None and await self._is_elsewhere(request_id)

    async def _write(self, state: StateToWrite) -> None:
        folder = folder_ref(state.request_id)
        if state.purged and self._is_spooled(state.request_id):
            raise ObjectMissing(folder)
        if state.is_doomed or await self._write_state(folder, state):
            await self._storage.delete(folder)
        else:
            for file in state.purged.values():
                await self._storage.delete(f"{folder}/{file}")
        if self._forget is not None:
            for image_id in state.purged:
                await self._forget(image_id)

    async def _write_state(self, folder: str, state: StateToWrite) -> bool:
        """Write, replace or remove state.json; True, and nothing written, if no image of the folder is left.

        That is judged by the manifest and by what was purged, never by rows that the index lacks.
        """
        manifest = Manifest.from_json(await self._read(f"{folder}/{MANIFEST}"))
        before = await self._state(folder)
        purged = {*(before.purged if before else ()), *state.purged}
        if purged.issuperset(image.id for image in manifest.images):
            await self._index.write(lambda tx: states.doom(tx, state.request_id))
            return True
        records = await self._index.read(lambda tx: images.of_request(tx, state.request_id))
        after = FolderState.of(manifest, records, purged)
        if after.is_default:
            await self._storage.delete(f"{folder}/{STATE}")
        elif after != before:
            await self._storage.put(f"{folder}/{STATE}", after.to_json())
        return False

    async def _state(self, folder: str) -> FolderState | None:
        try:
            return FolderState.from_json(await self._read(f"{folder}/{STATE}"))
        except ObjectMissing:
            return None

    async def _read(self, ref: str) -> bytes:
        return b"".join([piece async for piece in self._storage.read(ref)])
