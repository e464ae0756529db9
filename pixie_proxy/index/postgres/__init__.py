"""Keep the index in PostgreSQL, for several processes on several hosts: psycopg in worker threads.

One transaction is one hop to a thread. Each process has a few connections, made as they are needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

import psycopg

from pixie_proxy.errors import IndexUnavailable
from pixie_proxy.index import Tx
from pixie_proxy.index.lane import Lane
from pixie_proxy.index.postgres.schema import migrate
from pixie_proxy.index.postgres.session import InDoubt, Session, status_of
from pixie_proxy.index.postgres.target import About, Target, told
from pixie_proxy.index.postgres.trouble import translate
from pixie_proxy.index.tables import TABLES
from pixie_proxy.index.trouble import unavailable
from pixie_proxy.threads import WorkerThreads

T = TypeVar("T")
log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long a work waits for a connection: when none comes free, the server hangs."""
_LATE_S = 1.0
"""How much longer than its limit a read may take before we no longer wait for the server to end it."""
_ASK_AGAIN_S = (0.05, 2.0)
_CLOSE_S = 5.0


class PostgresIndex:
    """The index in a PostgreSQL database: some connections that write, some that read."""

    def __init__(self, target: Target, connections: int, read_limit_s: float | None) -> None:
        """Connect with the first work; `connections` at most, of which a third read."""
        self._target = target
        self._threads = WorkerThreads(connections, "postgres", daemon=True)  # a server may hang at our end
        self._read_limit_s = read_limit_s
        limit_ms = 0 if read_limit_s is None else round(read_limit_s * 1000)
        readers = max(1, connections // 3)
        self._writers = [
            Session(target, self._threads, is_reader=False) for _ in range(connections - readers)
        ]
        self._readers = [
            Session(target, self._threads, is_reader=True, statement_timeout_ms=limit_ms)
            for _ in range(readers)
        ]
        self._writes = Lane(self._writers, 1, patience_s=PATIENCE_S)
        self._reads = Lane(self._readers, 1, patience_s=PATIENCE_S)

    @property
    def spans_hosts(self) -> bool:
        """Yes: whoever has its address."""
        return True

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` as one transaction; return its result once that is durable, and only if it is.

        When the server dies over a commit, this waits until it is back to tell what became of it.
        """
        while True:
            try:
                result: T = await self._writes.submit(work)
            except InDoubt as doubt:
                if await self._was_committed(doubt.xid):
                    return doubt.result  # type: ignore[return-value]
            else:
                return result

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on a free reading connection, in one snapshot."""
        limit_s = None if self._read_limit_s is None else PATIENCE_S + self._read_limit_s + _LATE_S
        try:
            async with asyncio.timeout(limit_s):
                result: T = await self._reads.submit(work)
                return result
        except TimeoutError:
            raise unavailable("The index does not answer. Try again in a few seconds.") from None

    async def scrub(self) -> None:
        """Write every table anew, one after the other. What lies in write-ahead logs and in backups is not ours."""
        await self._threads.run(_rewrite, self._target)

    @property
    def log_bytes(self) -> int:
        """Give 0: the server keeps its log to itself."""
        return 0

    async def close(self) -> None:
        """Finish what was accepted, then close. A server that hangs is left."""
        if self._reads.is_closed:
            return
        for lane, sessions in ((self._writes, self._writers), (self._reads, self._readers)):
            closing = asyncio.ensure_future(lane.close())
            await asyncio.wait({closing}, timeout=_CLOSE_S)
            if not closing.done():
                for session in sessions:
                    session.hang_up()
                await closing
            for session in sessions:
                await session.hop(session.close)
        self._threads.close()

    async def _was_committed(self, xid: str) -> bool:
        """Ask the server until it tells. Raises IndexUnavailable when we end before."""
        log.info("a commit was cut off: asking what became of it", extra={"xid": xid})
        wait_s, longest_s = _ASK_AGAIN_S
        while True:
            try:
                status = await self.read(lambda tx: status_of(tx, xid))
            except psycopg.DataError:  # "in the future": the server was replaced by one that never knew of it
                status = "aborted"
            except IndexUnavailable:
                if self._reads.is_closed:
                    raise
                status = None
            if status in {"committed", "aborted"}:
                return status == "committed"
            await asyncio.sleep(wait_s)
            wait_s = min(longest_s, wait_s * 2)


async def open_postgres(
    url: str, *, connections: int, must_exist: bool = False, read_limit_s: float | None = None
) -> PostgresIndex:
    """Open the index, made or migrated if need be. A read that takes longer than `read_limit_s` is ended.

    Raises ConfigError for a server or a database that can't hold one, or where there `must_exist` one; else
    IndexUnavailable.
    """
    target = Target.of(url)
    about = await asyncio.to_thread(_prepare, target, must_exist)
    if about.fsync == "off":
        log.warning("index: PostgreSQL runs with fsync = off: a power cut destroys it")
    return PostgresIndex(target, connections, read_limit_s)


def _prepare(target: Target, must_exist: bool) -> About:
    """See that the database may be our index, and bring it to our schema."""
    try:
        link, about = target.connect(is_patient=True)
        try:
            migrate(link, must_exist=must_exist)
        finally:
            link.close()
    except (psycopg.Error, IndexUnavailable) as exc:
        raise told(target, exc) from exc
    return about


def _rewrite(target: Target) -> None:
    try:
        link, _ = target.connect()
        try:
            for table in (*TABLES, "searchable"):
                link.execute(f"VACUUM (FULL, ANALYZE) {table}")
        finally:
            link.close()
    except psycopg.Error as exc:
        raise translate(exc) from exc
