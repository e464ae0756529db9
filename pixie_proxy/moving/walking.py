"""Two storages side by side, folder by folder, with patience: one that is away for a moment ends nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from pixie_proxy.audit.contents import Folder, folders
from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import Storage, StorageRefused

T = TypeVar("T")

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses before a storage that is away is asked again, each half to one and a half times as long."""

Pair = tuple[Folder | None, Folder | None]


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do it, and again while storage is away. Raises StorageUnavailable in the end, StorageRefused at once."""
    for pause_s in PAUSES_S:
        try:
            return await work()
        except StorageRefused:
            raise
        except StorageUnavailable:
            await _rest(pause_s)
    return await work()


async def listed(storage: Storage) -> AsyncIterator[Folder]:
    """Walk all folders; a walk that breaks off goes on behind the last one."""
    last, pauses_s = "", iter(PAUSES_S)
    while True:
        try:
            async for folder in folders(storage):
                at = f"{folder.ref}/{max(folder.files)}"
                if at > last:
                    last, pauses_s = at, iter(PAUSES_S)
                    yield folder
        except StorageRefused:
            raise
        except StorageUnavailable:
            if (pause_s := next(pauses_s, None)) is None:
                raise
            await _rest(pause_s)
        else:
            return


async def pairs(source: Storage, target: Storage) -> AsyncIterator[Pair]:
    """Give each folder of the source with that of the target, one of which may be absent.

    What is no request's folder is given of the source, to be told of; of the target it is nobody's business.
    """
    found = (folder async for folder in listed(target) if folder.request_id is not None)
    there = await anext(found, None)
    async for here in listed(source):
        while there is not None and there.ref < here.ref:
            yield None, there
            there = await anext(found, None)
        if there is not None and there.ref == here.ref:
            yield here, there
            there = await anext(found, None)
        else:
            yield here, None
    while there is not None:
        yield None, there
        there = await anext(found, None)


async def _rest(pause_s: float) -> None:
    await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads requests, hides nothing
