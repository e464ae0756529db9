"""Verify: every folder of storage against the index, every byte against its digest, accounts against the ledger.

Storage and index are walked side by side, in the order of requests, so that memory does not grow with either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pixie_proxy.audit import spools
from pixie_proxy.audit.contents import Contents, Folder, digest, folder_of, folders, read_contents
from pixie_proxy.audit.findings import UNSERVED, Finding, Kind, Report
from pixie_proxy.audit.judging import Expected, expected, judge
from pixie_proxy.audit.rebuild import Progress, check_pair, find, restore
from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.index import Index, Tx, audit
from pixie_proxy.index.audit import Kept
from pixie_proxy.spool.area import Spool
from pixie_proxy.storage import INCOMING, ObjectMissing, Storage

LEFTOVER_AFTER_S = 600
"""A temporary file that nobody has written to for so long is nobody's."""

_SECOND_LOOK_AFTER_S = 0.5
"""How long a stop may take between two steps of which the first alone looks like something left behind."""

_TO_COME = frozenset[Kind](("dangling", "bad_manifest"))
"""What storage lacks while another host has a call in its spool."""

_PAGE_REQUESTS = 50
_FOLDERS_AT_ONCE = 8

_Pair = tuple[Folder | None, Kept | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one look at a request has shown."""

    contents: Contents
    findings: list[Finding]
    good: frozenset[str] = frozenset()
    """Images whose bytes were hashed and are what they were."""


class Verification:
    """One run over everything."""

    def __init__(
        self,
        index: Index,
        storage: Storage,
        spool: Spool,
        *,
        recover: Callable[[], Awaitable[object]],
        progress: Progress,
        is_elsewhere: Callable[[str], Awaitable[bool]] | None = None,
        hashes: bool = True,
        fixes: bool = False,
    ) -> None:
        """Look without opening `spool`; `hashes` reads every byte, `fixes` mends what is safe.

        `recover` brings home the calls of dead processes. `is_elsewhere` tells whether a call may still be in the spool
        of another host.
        """
        self._index = index
        self._storage = storage
        self._spool = spool
        self._recover = recover
        self._progress = progress
        self._is_elsewhere = is_elsewhere
        self._hashes = hashes
        self._fixes = fixes
        self._slots = asyncio.Semaphore(_FOLDERS_AT_ONCE)

    async def run(self) -> Report:
        """Look at everything. Raises ConfigError where index and storage don't belong together, ProxyError."""
        await check_pair(self._index, self._storage)
        report = Report()
        at_first = self._left_behind()
        batch: list[_Pair] = []
        async for pair in self._pairs():
            batch.append(pair)
            if len(batch) == _PAGE_REQUESTS:
                await self._examine(batch, report)
                batch = []
        await self._examine(batch, report)
        await self._check_incoming(report)
        await self._check_accounts(report)
        await self._check_spool(at_first, report)
        await check_pair(self._index, self._storage)  # what was there all the while is what we looked at
        return report

    async def _pairs(self) -> AsyncIterator[_Pair]:
        """Give each request's folder with what the index says of it, one of which may be absent."""
        rows = self._rows()
        kept = await anext(rows, None)
        async for folder in folders(self._storage):
            request_id = folder.request_id
            while kept is not None and request_id is not None and kept.request_id < request_id:
                yield None, kept
                kept = await anext(rows, None)
            if kept is not None and kept.request_id == request_id:
                yield folder, kept
                kept = await anext(rows, None)
            else:
                yield folder, None
        while kept is not None:
            yield None, kept
            kept = await anext(rows, None)

    async def _rows(self) -> AsyncIterator[Kept]:
        after = ""
        while page := await self._index.read(partial(audit.with_images, after=after, limit=_PAGE_REQUESTS)):
            for kept in page:
                yield kept
            after = page[-1].request_id

    async def _examine(self, pairs: Sequence[_Pair], report: Report) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for folder, kept in pairs:
                    group.create_task(self._examine_one(folder, kept, report))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _examine_one(self, folder: Folder | None, kept: Kept | None, report: Report) -> None:
        async with self._slots:
            request_id = kept.request_id if kept else folder.request_id if folder else None
            report.folders += folder is not None
            if request_id is None:
                if folder is not None:
                    report.add(Finding(kind="orphan", ref=folder.ref, detail="no request's folder"))
                return
            kept = kept or Kept(request_id=request_id, row=None, images=[], pending=None)
            folder = folder or await folder_of(self._storage, request_id)
            look = await self._look(folder, kept)
            report.images += len(kept.images)
            size_bytes = sum(record.size_bytes for record in kept.images)
            report.size_bytes += size_bytes
            self._progress(len(kept.images), size_bytes)
            if look.findings:
                may_come = self._is_elsewhere is not None and await self._is_elsewhere(request_id)
                look = await self._second_look(request_id, look)
                if may_come:
                    report.elsewhere += sum(finding.kind == "dangling" for finding in look.findings)
                    look = replace(
                        look, findings=[each for each in look.findings if each.kind not in _TO_COME]
                    )
            await self._note(kept, look)
            fixed = await self._mend(look) if self._fixes and look.findings else frozenset()
            for finding in look.findings:
                report.add(finding, is_fixed=finding in fixed)

    async def _look(self, folder: Folder, kept: Kept) -> _Look:
        contents = await read_contents(self._storage, folder)
        damage: dict[str, tuple[Kind, str]] = {}
        good = set()
        for name, must in expected(contents, kept).items():
            fault = await self._fault(folder, name, must)
            if fault is not None:
                damage[name] = fault
            elif self._hashes:
                good.add(must.image_id)
        findings = judge(contents, kept, damage, old_before_us=old_before_us())
        return _Look(contents=contents, findings=findings, good=frozenset(good))

    async def _fault(self, folder: Folder, name: str, must: Expected) -> tuple[Kind, str] | None:
        """Say what is wrong with a file's bytes."""
        found_bytes = folder.files[name].size_bytes
        if found_bytes != must.size_bytes:
            return "wrong_size", f"{found_bytes} bytes instead of {must.size_bytes}"
        if not self._hashes:
            return None
        try:
            found = await digest(self._storage, f"{folder.ref}/{name}")
        except ObjectMissing:  # deleted since; if not on purpose, the second look tells
            return "rotten", "it went while it was read"
        except StorageUnavailable as exc:  # a bad sector, unless all of storage is away
            await check_pair(self._index, self._storage)
            return "rotten", exc.message
        return None if found == must.sha256 else ("rotten", f"sha256 {found} instead of {must.sha256}")

    async def _second_look(self, request_id: str, first: _Look) -> _Look:
        """Look again: spool, then storage, then index, the way that images and rows come. Keep what both have seen.

        While a call is in the spool its folder says nothing yet. Raises ConfigError if storage is gone by now: then no
        image is what is missing.
        """
        if await asyncio.to_thread(spools.holds, self._spool.root, request_id):
            return _Look(contents=first.contents, findings=[])
        folder = await folder_of(self._storage, request_id)
        kept = await self._index.read(lambda tx: audit.kept(tx, request_id))
        await check_pair(self._index, self._storage)
        second = await self._look(folder, kept)
        seen = {(finding.kind, finding.ref) for finding in first.findings}
        return _Look(
            contents=second.contents,
            findings=[each for each in second.findings if (each.kind, each.ref) in seen],
            good=second.good,
        )

    async def _note(self, kept: Kept, look: _Look) -> None:
        """Keep the index's word on which images can't be served, in both directions."""
        now_us = time.time_ns() // 1000
        known = {record.id: record.damage for record in kept.images}
        bad = {each.image_id: each.kind for each in look.findings if each.kind in UNSERVED and each.image_id}
        noted = {name: kind for name, kind in bad.items() if name in known and known[name] != kind}
        healed = [name for name in look.good if known.get(name) is not None and name not in bad]

        def work(tx: Tx) -> None:
            for name, kind in noted.items():
                audit.note_damage(tx, name, kind, now_us)
            for name in healed:
                audit.clear_damage(tx, name)

        if noted or healed:
            await self._index.write(work)

    async def _mend(self, look: _Look) -> frozenset[Finding]:
        """Add rows for good orphans, and remove old temporary files; give what that has mended."""
        mended = {each for each in look.findings if each.kind == "leftover"}
        for each in mended:
            await self._storage.delete(each.ref)
        orphans = {each for each in look.findings if each.kind == "orphan"}
        found = await find(self._storage, look.contents, hashes=self._hashes) if orphans else None
        if found is not None and not found.damage:
            result = await self._index.write(lambda tx: restore(tx, [found]))
            if result.added_images:
                names = {f"{found.contents.folder.ref}/{image.file}" for image in found.images}
                names.add(found.contents.folder.ref)
                mended |= {each for each in orphans if each.ref in names}
        return frozenset(mended)

    async def _check_incoming(self, report: Report) -> None:
        """Find what a copy from another disk left half-way; its call is still in the spool, or was copied again."""
        before_us = old_before_us()
        async for page in self._storage.walk(INCOMING):
            for file in page:
                if file.modified_us < before_us:
                    finding = Finding(kind="leftover", ref=file.ref, detail="a copy that never ended")
                    if self._fixes:
                        await self._storage.delete(file.ref)
                    report.add(finding, is_fixed=self._fixes)

    async def _check_accounts(self, report: Report) -> None:
        """Compare each account with its ledger, all in one snapshot."""
        wrong = await self._index.read(audit.wrong_accounts)
        mended = await self._index.write(audit.mend_accounts) if wrong and self._fixes else set()
        for subject, (account, ledger) in wrong.items():
            detail = f"it says {account}, its ledger {ledger}"
            report.add(Finding(kind="account", ref=subject, detail=detail), is_fixed=subject in mended)

    def _left_behind(self) -> dict[str, Finding]:
        found = spools.left_behind(self._spool.root, old_before_us=old_before_us())
        return {finding.ref: finding for finding in found}

    async def _check_spool(self, at_first: dict[str, Finding], report: Report) -> None:
        """Report what is there still of what was left behind; let recovery bring home what is a call.

        The living hold their lock all the while, so one look that finds it free is enough; a recovery beside us holds
        the locks of the dead for a moment, so one that does not is not.
        """
        seen = {**at_first, **self._left_behind()}
        if not seen:
            return
        await asyncio.sleep(_SECOND_LOOK_AFTER_S)
        found = await asyncio.to_thread(spools.still_there, list(seen.values()))
        if self._fixes:
            await self._recover()
            for finding in found:
                if finding.kind == "leftover":
                    await asyncio.to_thread(spools.remove, finding)
        left = await asyncio.to_thread(spools.still_there, found)
        for finding in found:
            report.add(finding, is_fixed=finding not in left)


def old_before_us() -> int:
    """Give the time that a temporary file of nobody's was last written before, in µs since the epoch."""
    return time.time_ns() // 1000 - LEFTOVER_AFTER_S * 1_000_000
