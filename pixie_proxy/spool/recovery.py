"""Recover the calls of processes that died: whole images are kept, ledger rows settled, slots and holds freed."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pixie_proxy.errors import ProxyError
from pixie_proxy.index import Index, Tx, deliveries, ledger, lineage, users
from pixie_proxy.index.ledger import LedgerRow
from pixie_proxy.records import CallRecord, Settlement
from pixie_proxy.spool import salvage
from pixie_proxy.spool.area import Spool, calls_in
from pixie_proxy.spool.finish import Finisher, settle, settle_kept
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.spool.presence import Presence
from pixie_proxy.storage import MANIFEST, ObjectMissing, Storage, folder_ref
from pixie_proxy.threads import WorkerThreads

T = TypeVar("T")
log = logging.getLogger(__name__)

EVERY_S = 5.0
"""How often we look whether a process beside us has died, and try again what could not be recovered."""
AT_ONCE = 8
"""Calls that are recovered at a time: half of the durable writers stay free for calls that are answered meanwhile."""

_REASON = "the proxy stopped before the call had ended"


class Recovery:
    """Brings home what dead processes left, at the start and from then on; serving goes on meanwhile.

    Any number of processes may do this on one spool: each takes the folders whose lock it gets, and every step may be
    done twice.
    """

    def __init__(
        self,
        spool: Spool,
        index: Index,
        storage: Storage,
        finisher: Finisher,
        writers: WorkerThreads,
        presence: Presence | None = None,
    ) -> None:
        """Recover from `spool`; what touches the disk runs in `writers`."""
        self._spool = spool
        self._index = index
        self._storage = storage
        self._finisher = finisher
        self._writers = writers
        self._presence = presence or Presence(index, spool)
        self._recorded: dict[Path, Manifest] = {}
        """Calls that the index has and storage has not."""
        self._told: set[str] = set()
        """What is in the log already: what fails now may fail every few seconds."""

    async def run(self) -> None:
        """Recover for ever."""
        while True:
            await self._try("recovery", self.once())
            await self._finisher.pause(EVERY_S)

    async def once(self) -> int:
        """Bring home all that can be; return how many calls that were.

        First every ledger row, newest first, for slots and holds are waited for; then the images, which are served from
        the spool meanwhile. What can't be understood stays where it is: it may be somebody's paid image.
        """
        begun = time.monotonic()
        await release_dead(self._index, self._presence)  # while we hold a lock, its process looks alive
        # Asked before we look who lives: a process has its folder before its first row.
        processes = await self._index.read(ledger.open_processes)
        with self._spool.dead_processes() as folders:
            calls = {str(call): call for call in await self._writers.run(_newest_first, folders)}
            await self._each(calls, self._record)
            ours = {folder.name for folder in folders}  # they look alive: we have their locks
            dead = ours | await self._presence.dead(processes - ours)
            recovered = await self._each(await self._open_rows(dead), self._settle_row)
            recovered += await self._each(calls, self._adopt)
            for folder in folders:
                await self._writers.run(self._spool.forget, folder)
            if folders:
                await self._presence.forget_recovered()
        if recovered:
            took = {"calls": recovered, "seconds": round(time.monotonic() - begun, 3)}
            log.warning("recovered the calls of an earlier process", extra=took)
        return recovered

    async def _each(self, items: Mapping[str, T], work: Callable[[T], Awaitable[bool]]) -> int:
        """Do a work for every item, known by name, a few at a time; return for how many it was true."""
        left = iter(items.items())

        async def worker() -> int:
            return sum([bool(await self._try(name, work(item))) for name, item in left])

        return sum(await asyncio.gather(*[worker() for _ in range(AT_ONCE)]))

    async def _try(self, what: str, work: Awaitable[T]) -> T | None:
        """Do a work; what goes wrong is told once, and tried again with the next pass."""
        try:
            return await work
        except ProxyError as exc:
            if what not in self._told:
                log.warning("a call waits in the spool", extra={"waiting": what, "reason": exc.message})
        except Exception as exc:
            if what not in self._told:
                is_ours = not isinstance(exc, ValueError | OSError)
                told = {"folder": what, "reason": f"{type(exc).__name__}: {exc}"}
                log.error("a call in the spool can't be recovered", exc_info=is_ours, extra=told)  # noqa: TRY400
        self._told.add(what)
        return None

    async def _record(self, folder: Path) -> bool:
        """Tell the index of a call, and settle it; a folder without a whole image goes."""
        if folder in self._recorded:
            return True
        manifest = await self._understand(folder)
        if manifest is None:
            await self._writers.run(lambda: shutil.rmtree(folder, ignore_errors=True))
            return False
        await self._index.write(lambda tx: settle_kept(tx, manifest))
        self._recorded[folder] = manifest
        return True

    async def _adopt(self, folder: Path) -> bool:
        """Move a call that the index knows to storage."""
        if folder not in self._recorded:
            return False
        await self._storage.adopt(str(folder), folder_ref(folder.name))
        self._ended(self._recorded.pop(folder))
        return True

    async def _understand(self, folder: Path) -> Manifest | None:
        """Find out what a call came to, and seal its folder so; None if it brought nothing. Raises ValueError."""
        remains = await self._writers.run(salvage.inspect, folder)
        manifest = remains.manifest
        if not remains.is_sound:
            if (stored := await self._stored_manifest(folder.name)) is not None:
                return stored  # it was copied there, and its process died while it cleared up
            if manifest is None:
                if not remains.images:
                    return None
                manifest = await self._bare_manifest(folder.name)
            manifest = replace(manifest, images=remains.images)
            if remains.damaged:
                log.error(
                    "an image in the spool is damaged",
                    extra={"folder": str(folder), "files": list(remains.damaged)},
                )
                manifest = replace(manifest, settlement=_flagged(manifest.settlement, "damaged"))
                await self._writers.run(salvage.set_aside, folder, remains.damaged)
        await self._writers.run(salvage.seal, folder, manifest)
        return manifest

    async def _bare_manifest(self, request_id: str) -> Manifest:
        """Write down what the ledger knows of a call that had no manifest yet. Raises ValueError."""

        def look(tx: Tx) -> tuple[CallRecord, str] | None:
            row = ledger.get(tx, request_id)
            owner = None if row is None else users.get_user(tx, row.call.user_id)
            if row is None or owner is None:
                return None
            return replace(row.call, parents=lineage.recorded(tx, request_id)), owner.name

        found = await self._index.read(look)
        if found is None:
            message = "the ledger does not know the call"
            raise ValueError(message)
        call, owner = found
        settlement = _flagged(unknown(call), "salvaged")
        return Manifest(call=call, owner_name=owner, visibility="private", settlement=settlement, images=())

    async def _open_rows(self, processes: Iterable[str]) -> dict[str, LedgerRow]:
        def look(tx: Tx) -> dict[str, LedgerRow]:
            return {row.call.id: row for process in processes for row in ledger.open_calls(tx, process)}

        return await self._index.read(look)

    async def _settle_row(self, row: LedgerRow) -> bool:
        """Settle a row without a folder: as kept if storage has it after all, else of unknown outcome."""
        manifest = await self._stored_manifest(row.call.id)
        if manifest is not None:
            await self._index.write(lambda tx: settle_kept(tx, manifest))
            self._ended(manifest)
        else:
            end = unknown(row.call)
            await self._index.write(lambda tx: settle(tx, row.call, end))
            self._finisher.ended(row.call, end, ())
        return True

    def _ended(self, manifest: Manifest) -> None:
        self._finisher.ended(manifest.call, manifest.settlement, manifest.images)

    async def _stored_manifest(self, request_id: str) -> Manifest | None:
        ref = f"{folder_ref(request_id)}/{MANIFEST}"
        try:
            return Manifest.from_json(b"".join([piece async for piece in self._storage.read(ref)]))
        except (ObjectMissing, ValueError):
            return None


async def release_dead(index: Index, presence: Presence, fingerprint: str | None = None) -> None:
    """Let retries take over what clients of dead processes waited for: all, or the answers to one fingerprint."""
    named = await index.read(lambda tx: deliveries.attached_processes(tx, fingerprint))
    dead = await presence.dead(named)
    if dead:
        now_us = time.time_ns() // 1000
        await index.write(lambda tx: [deliveries.leave_all(tx, each, now_us) for each in dead])


async def release_silent(index: Index, presence: Presence, fingerprint: str, retry_count: int) -> None:
    """Let a retry take over what its earlier tries waited for at other hosts, where no heart beats now.

    Such a host may be dead though nobody may settle its calls yet. If it lives, the retry waits for the same call.
    """
    attached = await index.read(lambda tx: deliveries.attached_before(tx, fingerprint, retry_count))
    silent = await presence.silent({process for _, process in attached})
    now_us = time.time_ns() // 1000

    def work(tx: Tx) -> None:
        for request_id, process in attached:
            if process in silent:
                deliveries.leave(tx, request_id, fingerprint, process, now_us)

    if silent:
        await index.write(work)


def unknown(call: CallRecord) -> Settlement:
    """End a call whose outcome nobody can know any more: it is charged at its hold."""
    return Settlement(
        request_id=call.id,
        state="unknown",
        settled_us=time.time_ns() // 1000,
        cost_micros=call.hold_micros,
        error=_REASON,
    )


def _flagged(settlement: Settlement, flag: str) -> Settlement:
    return replace(settlement, flags=(*settlement.flags, flag))


def _newest_first(folders: Iterable[Path]) -> list[Path]:
    """List the calls in the folders of dead processes: who asked last is the likeliest to come back for it."""
    calls = [call for folder in folders for call in calls_in(folder)]
    return sorted(calls, key=lambda call: call.name, reverse=True)
