"""The proxy that is examined: its settings, and what several checks want to know of it, each looked up once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from pixie_proxy import backends
from pixie_proxy.config import Settings
from pixie_proxy.index.checkup import Checkup
from pixie_proxy.spool.area import is_alive, processes_in
from pixie_proxy.threads import WorkerThreads
from pixie_proxy.upstream import Seen

T = TypeVar("T")

LOOK_S = 3.0
"""How long anyone out there may take to answer."""
_THREADS = 8


class Patient:
    """Settings, and shared looks that begin at once. A look that fails raises for each who awaits it."""

    def __init__(self, settings: Settings) -> None:
        """Begin to look; needs a running loop."""
        self.settings = settings
        self.data_dir = settings.server.data_dir
        self.spool_dir = self.data_dir / "spool"
        self._threads = WorkerThreads(
            _THREADS, "doctor", daemon=True
        )  # a disk may hang, and must not keep us
        self._index = self._begin(self.blocking(backends.examine_index, settings))
        self._server = self._begin(self.blocking(_runs, self.spool_dir))
        self._upstream = self._begin(self._ask_upstream())

    def blocking(self, work: Callable[..., T], *args: object) -> Awaitable[T]:
        """Run what blocks in a thread."""
        return self._threads.run(work, *args)

    async def index(self) -> Checkup | None:
        """Give what was found in the index; None where there is none yet. Raises ConfigError, IndexUnavailable."""
        return await asyncio.shield(self._index)

    async def is_serving(self) -> bool:
        """Tell whether a proxy of this host serves from this data directory, as far as that can be seen."""
        try:
            return await asyncio.shield(self._server)
        except OSError:
            return False

    async def upstream(self) -> Seen:
        """Give the upstream's answer to a question that costs nothing. Raises ConfigError, Unseen."""
        return await asyncio.shield(self._upstream)

    async def _ask_upstream(self) -> Seen:
        upstream = backends.open_upstream(self.settings)
        try:
            return await upstream.look("/models", LOOK_S)
        finally:
            await upstream.close()

    def _begin(self, work: Awaitable[T]) -> asyncio.Future[T]:
        task = asyncio.ensure_future(work)
        task.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # somebody may have given up
        return task


def _runs(spool_dir: Path) -> bool:
    try:
        return any(is_alive(spool_dir, process.name) for process in processes_in(spool_dir))
    except FileNotFoundError:
        return False
