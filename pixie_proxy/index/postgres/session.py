"""One connection to PostgreSQL, made when it is needed and again when it was lost, and the transactions on it.

A work whose connection breaks before COMMIT was never done, and is done again. If COMMIT itself gets no answer, nobody
here knows: so each transaction has a number, by which the server tells it later (`InDoubt`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import psycopg

from pixie_proxy.errors import ConfigError
from pixie_proxy.index import Tx
from pixie_proxy.index.lane import Outcome, Work
from pixie_proxy.index.postgres.target import Link, Target
from pixie_proxy.index.postgres.trouble import AWAY, may_try_again, translate
from pixie_proxy.index.postgres.tx import PostgresTx
from pixie_proxy.index.trouble import unavailable
from pixie_proxy.threads import WorkerThreads

T = TypeVar("T")

TRIES = 5
"""Of a work that was in somebody's way, or lost its connection."""

# READ COMMITTED is enough: what must not come between is kept off by a row that every such work writes first.
_BEGIN_WRITING = b"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_current_xact_id()::text AS xid"
_BEGIN_READING = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT NULL AS xid"


class InDoubt(Exception):
    """A commit got no answer. `result` is the work's, if that was committed."""

    def __init__(self, xid: str, result: object) -> None:
        """Remember the number by which the server knows the transaction."""
        super().__init__(xid)
        self.xid = xid
        self.result = result


class Session:
    """A connection of a lane. All but `hop` and `hang_up` run on a worker thread."""

    def __init__(
        self, target: Target, threads: WorkerThreads, *, is_reader: bool, statement_timeout_ms: int = 0
    ) -> None:
        """Connect to `target` with the first work."""
        self._target = target
        self._threads = threads
        self._begin_sql = _BEGIN_READING if is_reader else _BEGIN_WRITING
        self._statement_timeout_ms = statement_timeout_ms
        self._link: Link | None = None
        self._is_over = False

    async def hop(self, function: Callable[..., T], *args: object) -> T:
        """Run a function in a thread. Once asked it runs, whatever becomes of the asker."""
        return await self._threads.run(function, *args)

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        """Run each work as a transaction. Raises `IndexUnavailable` if there is no connection."""
        return [self._run(work) for work in works]

    def close(self) -> None:
        """Close the connection."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def hang_up(self) -> None:
        """Cut the connection off under a statement that hangs, from any thread. There will be no other."""
        self._is_over = True
        link = self._link
        with suppress(OSError, psycopg.Error):
            if link is not None:
                with socket.socket(fileno=os.dup(link.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)

    def _run(self, work: Work) -> Outcome:
        """Run a work, and again where nothing of it was done and that was not its own fault."""
        for _ in range(TRIES - 1):
            outcome, is_final = self._once(work)
            if is_final:
                return outcome
        return self._once(work)[0]

    def _once(self, work: Work) -> tuple[Outcome, bool]:
        """Run a work, and tell whether that is the end of it."""
        link, xid = self._begin()
        try:
            result = work(PostgresTx(link))
        except BaseException as exc:  # noqa: BLE001 - it goes to the one who asked
            return self._failed(link, exc)
        try:
            done = link.execute("COMMIT").statusmessage
        except psycopg.Error as exc:
            failed = self._failed(link, exc)
            if xid is None:  # it has only read
                return (result, None), True
            return ((None, InDoubt(xid, result)), True) if link.closed else failed
        if done != "COMMIT":
            return (None, RuntimeError("a work went on after a statement of it had failed")), True
        return (result, None), True

    def _failed(self, link: Link, exc: BaseException) -> tuple[Outcome, bool]:
        """Undo what is left, and give up a connection that can't even do that."""
        try:
            link.execute("ROLLBACK")
        except psycopg.Error:
            self.close()
        is_lost = link.closed and isinstance(exc, psycopg.Error)
        if isinstance(exc, psycopg.errors.ReadOnlySqlTransaction):
            self.close()  # another server may be the primary by now
        return (None, translate(exc)), not (is_lost or may_try_again(exc))

    def _begin(self) -> tuple[Link, str | None]:
        """Begin a transaction. A connection that was lost since the last one is no reason not to."""
        for is_last in (False, True):
            link = self._connected()
            try:
                cursor = link.execute(self._begin_sql)
                cursor.nextset()
                return link, (cursor.fetchone() or {})["xid"]
            except psycopg.Error as exc:
                self.close()
                if is_last:
                    error = translate(exc)
                    raise (unavailable(AWAY, exc) if error is exc else error) from exc
        raise AssertionError

    def _connected(self) -> Link:
        if self._link is None or self._link.closed:
            if self._is_over:
                raise unavailable(AWAY)
            try:
                self._link, _ = self._target.connect(statement_timeout_ms=self._statement_timeout_ms)
            except ConfigError as exc:  # what was so at the start is not so any more
                raise unavailable(exc.problems[0], exc) from exc
        return self._link


def status_of(tx: Tx, xid: str) -> str | None:
    """Ask what became of a transaction: `committed`, `aborted` or `in progress`; None if the server has forgotten."""
    row = tx.one("SELECT pg_xact_status(CAST(:xid AS xid8)) AS status", xid=xid)
    return None if row is None else row["status"]
