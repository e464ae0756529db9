"""Who of those that share the index is alive: on this spool by their locks, on other hosts by their heartbeats.

No clock is compared with another. A process of another host counts as dead when ours has beaten so often since its
last heartbeat; while the index is away nobody's heart beats, so nobody dies of that.

With its heartbeat each tells which of its calls have left its spool. The others may be there, dead or alive as it is:
nobody takes their images for lost, and nobody forgets that they have to be deleted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from pixie_proxy.errors import ProxyError
from pixie_proxy.index import Index, processes
from pixie_proxy.index.migrate import newest_schema
from pixie_proxy.index.processes import BEAT_EVERY_S, Process
from pixie_proxy.records import id_floor
from pixie_proxy.spool.area import Spool, is_alive

log = logging.getLogger(__name__)

DEAD_AFTER_BEATS = 10
"""So many of our own without one of another's: half a minute."""

ADMISSION_S = 60.0
"""From a call's id to its row in the ledger it takes less than this."""

_LOOKS = 20
_ID = "id"


class Presence:
    """Our own heartbeat, and what we know of the others'."""

    def __init__(self, index: Index, spool: Spool) -> None:
        """Beat for the process of `spool`, if hosts share the index; else all there are have a lock there."""
        self._index = index
        self._spool = spool
        self._known_id = ""
        self._schema = newest_schema()
        self._own_beats = 0
        self._last: dict[str, tuple[int, int]] = {}
        """Of each other process its beats, and ours when they last grew."""
        self._settled_before = _recent()
        """Of our calls with smaller ids none was open when our heart last beat."""

    async def begin(self) -> None:
        """Enter our process, before its first call. Raises IndexUnavailable."""
        if self._index.spans_hosts:
            await asyncio.to_thread(make_spool_id, self._spool.root)
            await self._beat()

    async def run(self) -> None:
        """Beat for ever, if hosts share the index."""
        while self._index.spans_hosts:
            await asyncio.sleep(BEAT_EVERY_S)
            try:
                await self._beat()
            except ProxyError as exc:
                log.info("no heartbeat", extra={"reason": exc.message})

    async def end(self) -> None:
        """Take our process out, if nothing of it is left open, or in the spool."""
        if self._index.spans_hosts and await asyncio.to_thread(self._spool.oldest_call) is None:
            process = self._spool.process
            try:
                await self._index.write(lambda tx: processes.forget(tx, [process]))
            except ProxyError as exc:
                log.info("our process can't be taken out of the index", extra={"reason": exc.message})

    async def forget_recovered(self) -> None:
        """Take those out that had a folder in this spool, and have none any more. Raises IndexUnavailable."""
        if not self._index.spans_hosts:
            return
        here = await self._spool_id()
        found = await self._index.read(processes.every)
        names = [each.id for each in found.values() if each.spool == here]
        gone = [name for name in names if not await asyncio.to_thread((self._spool.root / name).exists)]
        if gone:
            await self._index.write(lambda tx: processes.forget(tx, gone))

    async def may_hold_elsewhere(self, request_id: str) -> bool:
        """Tell whether a call may still be in the spool of another host. Raises IndexUnavailable."""
        if not self._index.spans_hosts:
            return False
        here = await self._spool_id()
        return await self._index.read(lambda tx: processes.may_hold(tx, request_id, here))

    async def dead(self, named: Iterable[str]) -> set[str]:
        """Give those of these processes that are dead. Raises IndexUnavailable."""
        asked = {each for each in named if each != self._spool.process}
        if not asked:
            return set()
        elsewhere = await self._elsewhere()
        root = self._spool.root
        here = asked - elsewhere.keys()
        silent = {each for each in asked & elsewhere.keys() if self._is_silent(elsewhere[each])}
        return silent | {each for each in here if not is_alive(root, each)}

    async def silent(self, named: Iterable[str]) -> set[str]:
        """Give those of these processes of other hosts whose hearts stand still; wait two beats at most to find out."""
        asked = set(named)
        first = await self._elsewhere() if asked else {}
        silent = asked & first.keys()
        for _ in range(_LOOKS):
            if not silent:
                break
            await asyncio.sleep(2 * BEAT_EVERY_S / _LOOKS)
            now = await self._index.read(processes.every)
            silent = {name for name in silent if name in now and now[name].beats == first[name].beats}
        return silent

    async def _beat(self) -> None:
        """Tell that we live. What was open at the last beat is in the spool by now, or home, or still open."""
        process, spool, schema = self._spool.process, await self._spool_id(), self._schema
        oldest = await asyncio.to_thread(self._spool.oldest_call)
        home_before = self._settled_before if oldest is None else min(self._settled_before, oldest)
        recent = _recent()
        still_open = await self._index.write(
            lambda tx: processes.beat(tx, process, spool, schema, home_before)
        )
        self._settled_before = min(recent, still_open or recent)
        self._own_beats += 1
        others = await self._elsewhere()
        if self._own_beats % DEAD_AFTER_BEATS == 0:  # who has left something may be silent for long
            await self._forget_silent(others.values())

    async def _elsewhere(self) -> dict[str, Process]:
        """Look at the processes of other spools."""
        if not self._index.spans_hosts:
            return {}
        here = await self._spool_id()
        found = await self._index.read(processes.every)
        others = {name: each for name, each in found.items() if each.spool != here}
        self._last = {
            name: last
            if (last := self._last.get(name)) is not None and last[0] == each.beats
            else (each.beats, self._own_beats)
            for name, each in others.items()
        }
        return others

    async def _forget_silent(self, others: Iterable[Process]) -> None:
        silent = [each.id for each in others if self._is_silent(each)]
        if silent:
            await self._index.write(lambda tx: processes.forget_silent(tx, silent))

    async def _spool_id(self) -> str:
        """Give the name of the spool that we look at; one that has none is nobody's."""
        if not self._known_id:
            self._known_id = await asyncio.to_thread(spool_id, self._spool.root)
        return self._known_id

    def _is_silent(self, process: Process) -> bool:
        return self._own_beats - self._last[process.id][1] >= DEAD_AFTER_BEATS


def spool_id(root: Path) -> str:
    """Give the name of a spool; empty where no process that shares an index has ever begun there."""
    try:
        return (root / _ID).read_text(encoding="ascii")
    except FileNotFoundError:
        return ""


def make_spool_id(root: Path) -> None:
    """Give a spool a name, unless it has one: it goes where the spool's disk goes."""
    path = root / _ID
    if not path.exists():
        new = path.with_name(f".{_ID}-{secrets.token_hex(8)}")
        new.write_text(secrets.token_hex(8), encoding="ascii")
        try:
            os.link(new, path)  # never over one that another process has just made
        except FileExistsError:
            pass
        finally:
            new.unlink()


def _recent() -> str:
    """Give the smallest id of a call that may not be in the ledger yet."""
    return id_floor("req", time.time_ns() // 1000 - int(ADMISSION_S * 1_000_000))
