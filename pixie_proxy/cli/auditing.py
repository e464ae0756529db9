"""What commands share that look at everything: index, storage and spool without a server, and a bar that moves."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixie_proxy import backends
from pixie_proxy.config import Settings
from pixie_proxy.gallery.upkeep import Upkeep
from pixie_proxy.index import Index
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.presence import Presence
from pixie_proxy.storage import Storage
from pixie_proxy.tasks import TaskKeeper
from pixie_proxy.threads import WorkerThreads

_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What a server of these settings works with. The spool is not opened: it is only looked at."""

    index: Index
    storage: Storage
    spool: Spool
    writers: WorkerThreads


@asynccontextmanager
async def open_house(settings: Settings, index_dir: Path | None = None) -> AsyncIterator[House]:
    """Open what is there; storage is never made. `index_dir` takes the pixie.db there for the index of the settings.

    Raises ConfigError, also where the index is damaged.
    """
    backends.check_index(settings)
    writers = WorkerThreads(_THREADS, "durable")
    async with AsyncExitStack() as closing:
        closing.push_async_callback(asyncio.to_thread, writers.close)
        spool = Spool(settings.server.data_dir / "spool", writers)
        storage = backends.open_storage(settings, writers, spool.disk, must_exist=True)
        closing.push_async_callback(storage.close)
        index = await backends.open_index(_with_file_in(settings, index_dir))
        closing.push_async_callback(index.close)
        yield House(index=index, storage=storage, spool=spool, writers=writers)


def upkeep_of(
    house: House, tasks: TaskKeeper, forget: Callable[[str], Awaitable[None]] | None = None
) -> Upkeep:
    """Make what brings folders in storage into line, and knows what is in the spools of this host and of others."""
    presence = Presence(house.index, house.spool)
    return Upkeep(house.index, house.storage, tasks, forget, house.spool.holds, presence.may_hold_elsewhere)


def _with_file_in(settings: Settings, data_dir: Path | None) -> Settings:
    if data_dir is None:
        return settings
    server = settings.server.model_copy(update={"data_dir": data_dir})
    return settings.model_copy(
        update={"server": server, "index": settings.index.model_copy(update={"url": None})}
    )


@contextmanager
def progress(
    what: str, total: int | None = None, *, unit: str = "images"
) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar on a terminal, nothing elsewhere; give what is told of images that are done, and their bytes."""
    if not sys.stderr.isatty():
        yield lambda _images, _size_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} {task.fields[unit]}, {task.fields[gigabytes]:.2f} GB"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        bar = drawn.add_task(what, total=total, gigabytes=0.0, unit=unit)
        seen_bytes = 0

        def advance(count: int, size_bytes: int) -> None:
            nonlocal seen_bytes
            seen_bytes += size_bytes
            drawn.update(bar, advance=count, gigabytes=seen_bytes / 1e9)

        yield advance
