"""The copy: each folder that the destination lacks is brought whole, and what is there is looked at and stays.

The source is never written to. Nothing that only the destination has is deleted without a word, and nothing there is
replaced by what is worse or older.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from pixie_proxy.audit.contents import Folder, digest, folder_of, read_manifest, read_whole
from pixie_proxy.audit.verify import old_before_us
from pixie_proxy.errors import ConfigError
from pixie_proxy.moving.report import Report, Survey
from pixie_proxy.moving.staging import Staged, Staging, is_leftover, state_fault
from pixie_proxy.moving.walking import pairs, patiently
from pixie_proxy.storage import (
    IMAGES,
    MANIFEST,
    SENTINEL,
    STATE,
    UNFINISHED,
    ObjectMissing,
    Storage,
    sentinel,
    sentinel_text,
)

FOLDERS_AT_ONCE = 8
"""Calls on their way at once."""

_SKEW_US = 15 * 60 * 1_000_000
"""How far two storages' clocks may differ: S3 refuses whoever is further off."""


class Copy:
    """One copy from a storage to another. `report` grows while it runs."""

    def __init__(self, source: Storage, target: Storage, *, hashes: bool = False, deletes: int = 0) -> None:
        """Change nothing yet. `hashes` reads what is at the destination already, every byte.

        `deletes` is how many files that only the destination has may go: all of them, or none.
        """
        self._source = source
        self._target = target
        self._hashes = hashes
        self._deletes = deletes
        self._deletes_extra = False
        self._storage_id = ""
        self._found: str | None = None
        self._seen: Callable[[], None] = lambda: None
        self.report = Report()

    async def survey(self) -> Survey:
        """See that the two may be paired, and what is to do; change nothing. Raises ConfigError, StorageUnavailable."""
        await self._pair()
        survey = Survey()
        newest_here = newest_there = ""
        async for here, there in pairs(self._source, self._target):
            if there is not None:
                newest_there = there.ref
            if here is not None and here.request_id is not None:
                newest_here = here.ref
                survey.whole.add(*_weight(here))
                if there is None or _sizes(here) != _sizes(there):
                    survey.missing.add(*_weight(here))
            survey.extra_files += len(_extra(here, there))
        if newest_there > newest_here and self._deletes < survey.extra_files:
            raise ConfigError(
                "storage copy: the destination has images that are newer than all of the source's: was it served "
                "since? Then copy the other way round. If the source has deleted them: "
                f"--delete-extra {survey.extra_files}. Nothing was changed"
            )
        self._deletes_extra = 0 < survey.extra_files <= self._deletes
        return survey

    async def run(self, staging: Staging, seen: Callable[[], None] = lambda: None) -> Report:
        """Copy, after a survey; `seen` is called after each folder. Raises StorageUnavailable, OSError.

        Until it has come to its end once, no server starts on the destination.
        """
        self._seen = seen
        if self._found is None:
            await patiently(partial(self._put_sentinel, UNFINISHED + self._storage_id))
        slots = asyncio.Semaphore(FOLDERS_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                async for here, there in pairs(self._source, self._target):
                    await slots.acquire()
                    task = group.create_task(self._one(staging, here, there))
                    task.add_done_callback(lambda _: slots.release())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        if self._found != self._storage_id:
            await patiently(partial(self._put_sentinel, self._storage_id))
        return self.report

    async def _pair(self) -> None:
        """See whose storages these are."""
        found = await patiently(partial(sentinel, self._source))
        if found is None:
            raise ConfigError(
                f"storage copy: there is no {SENTINEL} file at --from: is it mounted? Nothing was changed"
            )
        self._storage_id = found
        self._found = await patiently(partial(sentinel_text, self._target))
        if self._found is None:
            if await anext(aiter(self._target.walk(IMAGES)), None) is not None:
                raise ConfigError(
                    f"storage copy: the destination holds images and no {SENTINEL} file: whose are they? "
                    "Take an empty place. Nothing was changed"
                )
        elif self._found.removeprefix(UNFINISHED) != self._storage_id:
            raise ConfigError(
                "storage copy: the destination holds another storage. Take an empty place. Nothing was changed"
            )

    async def _put_sentinel(self, text: str) -> None:
        await self._target.put(SENTINEL, text.encode() + b"\n")

    async def _one(self, staging: Staging, here: Folder | None, there: Folder | None) -> None:
        if here is None:
            if there is not None:
                await self._end(there)
            return
        if here.request_id is None:
            self.report.fault(here.ref, "no request's folder: it is not copied")
            return
        if there is None or not await self._is_same(here, there):
            await self._bring(staging, here, there)
        else:
            await self._follow(here, there)
        self.report.seen.add(*_weight(here))
        self._seen()

    async def _is_same(self, here: Folder, there: Folder) -> bool:
        """Tell whether the destination has a folder whole: its manifest came last, and it says what must be there."""
        if _sizes(here) != _sizes(there) or MANIFEST not in here.files:
            return False
        ref = f"{here.ref}/{MANIFEST}"
        try:
            text = await patiently(partial(read_whole, self._target, ref))
            if text != await patiently(partial(read_whole, self._source, ref)):
                return False
            for image in read_manifest(text, here).images:
                if image.file not in here.files:  # lost, or purged: staging tells which
                    return False
                if self._hashes and image.sha256 != await patiently(
                    partial(digest, self._target, f"{here.ref}/{image.file}")
                ):
                    return False
        except (ObjectMissing, ValueError):
            return False
        return True

    async def _bring(self, staging: Staging, here: Folder, there: Folder | None) -> None:
        """Bring a folder. What is wrong with it counts only if a second look, at a new listing, finds it again."""
        staged = await staging.take(here)
        if staged.faults:
            here = await patiently(partial(folder_of, self._source, here.request_id or ""))
            if not here.files:  # purged meanwhile
                return
            staged = await staging.take(here)
        if MANIFEST not in here.files and _newest_us(here) > old_before_us():
            self.report.under_way += 1
            return
        for fault in staged.faults:
            self.report.fault(fault.ref, fault.reason)
        if staged.manifest is not None:
            await self._hand_over(staged, here, there)
        await staging.drop(staged)

    async def _hand_over(self, staged: Staged, here: Folder, there: Folder | None) -> None:
        """Let the destination take a folder over, in the place of one that is not as good."""
        if there is not None:
            if await self._has(staged, there):
                await self._follow(here, there)
                return
            known = {*staged.sizes, *staged.purged}
            if left := sorted(name for name in there.files if name not in known and not is_leftover(name)):
                reason = f"the destination has {', '.join(left)} besides: it is left as it is there"
                self.report.fault(here.ref, reason)
                return
            await patiently(partial(self._target.delete, here.ref))
        await patiently(partial(self._target.adopt, str(staged.path), here.ref))
        size_bytes = sum(size for name, size in staged.sizes.items() if _is_image(name))
        self.report.copied.add(staged.images, size_bytes)

    async def _has(self, staged: Staged, there: Folder) -> bool:
        """Tell whether the destination has all that is good of a folder."""
        sizes = {name: size for name, size in staged.sizes.items() if name != STATE}
        if self._hashes or sizes != _sizes(there):
            return False
        try:
            found = await patiently(partial(read_whole, self._target, f"{there.ref}/{MANIFEST}"))
        except ObjectMissing:
            return False
        return found == staged.manifest

    async def _follow(self, here: Folder, there: Folder) -> None:
        """Bring state.json over alone, where it is another one."""
        ref = f"{here.ref}/{STATE}"
        if STATE not in here.files:
            if STATE in there.files:
                await self._end(Folder(ref=here.ref, files={STATE: there.files[STATE]}))
            return
        try:
            text = await patiently(partial(read_whole, self._source, ref))
        except ObjectMissing:  # it says nothing any more; the next pass sees it
            self.report.under_way += 1
            return
        if (fault := state_fault(text)) is not None:
            self.report.fault(ref, fault)
        if STATE in there.files:
            if await patiently(partial(read_whole, self._target, ref)) == text:
                return
            if there.files[STATE].modified_us > here.files[STATE].modified_us + _SKEW_US:
                self.report.fault(ref, "the destination has a newer one, which stays: was it served since?")
                return
        await patiently(partial(self._target.put, ref, text))
        self.report.states += 1

    async def _end(self, extra: Folder) -> None:
        """Delete what only the destination has, or tell of it."""
        if not self._deletes_extra:
            self.report.extra_files += len(extra.files)
            return
        now = await patiently(partial(folder_of, self._source, extra.request_id or ""))
        for name in extra.files.keys() - now.files.keys():
            await patiently(partial(self._target.delete, f"{extra.ref}/{name}"))
            self.report.deleted_files += 1


def _is_image(name: str) -> bool:
    return name not in {MANIFEST, STATE} and not is_leftover(name)


def _weight(folder: Folder) -> tuple[int, int]:
    """Count a folder's images and their bytes."""
    sizes = [file.size_bytes for name, file in folder.files.items() if _is_image(name)]
    return len(sizes), sum(sizes)


def _sizes(folder: Folder) -> dict[str, int]:
    """Give what a folder holds for good."""
    return {
        name: file.size_bytes
        for name, file in folder.files.items()
        if name != STATE and not is_leftover(name)
    }


def _extra(here: Folder | None, there: Folder | None) -> set[str]:
    """Name the files that only the destination has and that a copy does not replace."""
    if there is None:
        return set()
    if here is None:
        return set(there.files)
    return {STATE} & (there.files.keys() - here.files.keys())


def _newest_us(folder: Folder) -> int:
    return max(file.modified_us for file in folder.files.values())
