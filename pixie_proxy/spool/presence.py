"""Who of those that share the index is alive: on this spool by their locks, on other hosts by their heartbeats.

No clock is compared with another. A process of another host counts as dead when ours has beaten so often since its
last heartbeat; while the index is away nobody's heart beats, so nobody dies of that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from pixie_proxy.errors import ProxyError
from pixie_proxy.index import Index, processes
from pixie_proxy.index.migrate import newest_schema
from pixie_proxy.index.processes import BEAT_EVERY_S, Process
from pixie_proxy.spool.area import Spool, is_alive

log = logging.getLogger(__name__)

DEAD_AFTER_BEATS = 10
"""So many of our own without one of another's: half a minute."""

_LOOKS = 20
_ID = "id"


class Presence:
    """Our own heartbeat, and what we know of the others'."""

    def __init__(self, index: Index, spool: Spool) -> None:
        """Beat for the process of `spool`, if hosts share the index; else all there are have a lock there."""
        self._index = index
        self._spool = spool
        self._spool_id = ""
        self._schema = newest_schema()
        self._own_beats = 0
        self._last: dict[str, tuple[int, int]] = {}
        """Of each other process its beats, and ours when they last grew."""

    async def begin(self) -> None:
        """Enter our process, before its first call. Raises IndexUnavailable."""
        if self._index.spans_hosts:
            self._spool_id = await asyncio.to_thread(spool_id, self._spool.root)
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
        """Take our process out, if nothing of it is left open."""
        if self._index.spans_hosts:
            process = self._spool.process
            try:
                await self._index.write(lambda tx: processes.forget(tx, process))
            except ProxyError as exc:
                log.info("our process can't be taken out of the index", extra={"reason": exc.message})

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
        process, spool, schema = self._spool.process, self._spool_id, self._schema
        await self._index.write(lambda tx: processes.beat(tx, process, spool, schema))
        self._own_beats += 1
        await self._elsewhere()

    async def _elsewhere(self) -> dict[str, Process]:
        """Look at the processes of other spools."""
        if not self._index.spans_hosts:
            return {}
        found = await self._index.read(processes.every)
        others = {name: each for name, each in found.items() if each.spool != self._spool_id}
        self._last = {
            name: last
            if (last := self._last.get(name)) is not None and last[0] == each.beats
            else (each.beats, self._own_beats)
            for name, each in others.items()
        }
        for name, each in others.items():
            if self._is_silent(each):
                await self._index.write(lambda tx, name=name: processes.forget(tx, name))  # type: ignore[misc]
        return others

    def _is_silent(self, process: Process) -> bool:
        return self._own_beats - self._last[process.id][1] >= DEAD_AFTER_BEATS


def spool_id(root: Path) -> str:
    """Give the name of a spool, made when it is first asked for: it goes where the spool's disk goes."""
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
    return path.read_text(encoding="ascii")
