"""Whether a storage that is no disk answers: looked at while somebody wants to know, and never waited for long.

It is no reason to refuse a call, for the spool holds what storage can't take; but it is one to tell.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import SENTINEL, Storage, sentinel
from pixie_proxy.tasks import TaskKeeper

EVERY_S = 2.0
"""How long a look holds."""
STALE_S = 5.0
"""What is older is not told: whoever asks waits for a new look."""
LOOK_S = 2.0
"""How long a storage may take to give us the few bytes of its id."""
_ANSWER_WAIT_S = 0.5


class Outlook:
    """Looks at a storage when it is asked about it, at most every EVERY_S."""

    def __init__(self, storage: Storage, tasks: TaskKeeper) -> None:
        """Look in `tasks`; know nothing bad yet."""
        self.on_back: list[Callable[[], None]] = []
        """Called when the storage answers again."""
        self._storage = storage
        self._tasks = tasks
        self._trouble: StorageUnavailable | None = None
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def trouble(self) -> StorageUnavailable | None:
        """Give why the storage can't be used, as seen within the last STALE_S; None if it can, or is a disk."""
        if self._storage.disk is not None:  # which is watched, and ends paid calls
            return None
        age_s = time.monotonic() - self._looked_at
        if age_s > EVERY_S:
            if self._looking is None or self._looking.done():
                self._looking = self._tasks.run(self._look(), "outlook on storage")
            await asyncio.wait({self._looking}, timeout=_ANSWER_WAIT_S if age_s < STALE_S else LOOK_S + 0.1)
        return self._trouble

    async def _look(self) -> None:
        before = self._trouble
        try:
            async with asyncio.timeout(LOOK_S):
                found = await sentinel(self._storage)
            self._trouble = None if found else StorageUnavailable(f"The storage has no {SENTINEL} file.")
        except TimeoutError:
            self._trouble = StorageUnavailable("The storage does not answer in time.")
        except StorageUnavailable as exc:
            self._trouble = exc
        self._looked_at = time.monotonic()
        if before is not None and self._trouble is None:
            for back in self.on_back:
                back()
