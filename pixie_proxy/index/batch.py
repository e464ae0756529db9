"""Run works on a SQLite connection's own thread: what waits together is one hop and one commit.

A commit costs an fsync, and a hop to a thread costs more than the SQL of a work. So a connection takes all that waits
at once, a savepoint each, and nothing is answered before COMMIT. If SQLite gives the whole transaction up, each work
runs again alone: that is why a work must have no side effects.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TypeVar

import aiosqlite

from pixie_proxy.disk import FULL
from pixie_proxy.disk.watch import Disk
from pixie_proxy.errors import IndexUnavailable
from pixie_proxy.index import Row, search
from pixie_proxy.index.lane import Outcome, Work
from pixie_proxy.index.lock import LockTimeout
from pixie_proxy.index.trouble import disk_error, translate, unavailable

T = TypeVar("T")


class SqliteTx:
    """One transaction on one connection; its rows are `sqlite3.Row`."""

    __slots__ = ("_execute",)
    search = search

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Run statements on this connection."""
        self._execute = connection.execute

    def all(self, sql: str, **params: object) -> list[Row]:
        """Return every row."""
        return self._execute(sql, params).fetchall()

    def one(self, sql: str, **params: object) -> Row | None:
        """Return the first row, or None."""
        cursor = self._execute(sql, params)
        row: Row | None = cursor.fetchone()
        cursor.close()  # a RETURNING that still runs would keep COMMIT from working
        return row

    def run(self, sql: str, **params: object) -> int:
        """Execute and return the number of rows touched."""
        return self._execute(sql, params).rowcount


class BatchConnection(aiosqlite.Connection):
    """One connection and its thread. A batch of works is one hop: everything here but `hop` runs on that thread."""

    def __init__(
        self,
        connector: Callable[[], sqlite3.Connection],
        begin: str,
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
        disk: Disk | None = None,
    ) -> None:
        """Open by `connector`, start transactions with `begin`, and hold `hold()` around each batch.

        `disk` has to know when it fails us, and may have room to give.
        """
        super().__init__(connector, iter_chunk_size=64)
        self._disk = disk
        self._begin_sql = begin
        self._hold = hold

    async def open(self) -> None:
        """Start the thread and connect; when that fails, leave no thread behind."""
        try:
            _ = await self
        except BaseException:
            await asyncio.to_thread(self._thread.join)
            raise

    @property
    def is_open(self) -> bool:
        """Whether there is a connection to close."""
        return self._connection is not None

    async def hop(self, function: Callable[..., T], *args: object) -> T:
        """Run a function on the connection's thread. Once asked it runs, whatever becomes of the asker."""
        result: T = await self._execute(function, *args)  # type: ignore[no-untyped-call]
        return result

    def with_connection(self, function: Callable[..., T], *args: object) -> T:
        """Give the connection itself to a function that is no transaction."""
        return function(self._conn, *args)

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        """Commit the works in one transaction and return the outcome of each.

        Raises `IndexUnavailable` when nothing was begun, so nobody's work was tried.
        """
        try:
            with self._hold():
                outcomes = self._batch(works)
                return [
                    outcome if outcome[1] is None else self._helped(work, outcome)
                    for work, outcome in zip(works, outcomes, strict=True)
                ]
        except LockTimeout as exc:
            raise translate(exc) from exc
        except IndexUnavailable as exc:
            self._tell(disk_error(exc))
            raise

    def _batch(self, works: Sequence[Work]) -> list[Outcome]:
        self._begin()
        if len(works) == 1:
            return [self._finish(works[0])]
        outcomes = self._all_well(works)
        if outcomes is None:
            self._begin()
            outcomes = self._together(works)
        return [self._alone(work) for work in works] if outcomes is None else outcomes

    def _helped(self, work: Work, outcome: Outcome) -> Outcome:
        """Run a work again that found the disk full, as long as room can be made for it; tell the disk what is left.

        After a failed fsync SQLite writes the same pages of its log once more: to try a work again is honest there.
        """
        found = disk_error(outcome[1])
        while (
            found is not None and found.errno in FULL and self._disk and self._disk.make_room(for_index=True)
        ):
            outcome = self._alone(work)
            found = disk_error(outcome[1])
        self._tell(found)
        return outcome

    def _tell(self, error: OSError | None) -> None:
        if error is not None and self._disk is not None:
            self._disk.suspect(error)

    def _begin(self) -> None:
        try:
            if self._conn.in_transaction:  # left by a ROLLBACK that failed
                self._conn.execute("ROLLBACK")
            self._conn.execute(self._begin_sql)
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def _all_well(self, works: Sequence[Work]) -> list[Outcome] | None:
        """Run the works in the transaction that has begun, without savepoints; None, and nothing done, if one fails.

        Each statement hands the interpreter's lock over and back, and a work that raises is rare.
        """
        tx = SqliteTx(self._conn)
        try:
            outcomes: list[Outcome] = [(work(tx), None) for work in works]
            self._conn.execute("COMMIT")
        except BaseException:  # noqa: BLE001 - the next try tells whose it is
            self._roll_back()
            return None
        return outcomes

    def _together(self, works: Sequence[Work]) -> list[Outcome] | None:
        """Run the works in the transaction that has begun; None if it is gone, and every work with it."""
        execute = self._conn.execute
        tx = SqliteTx(self._conn)
        outcomes: list[Outcome] = []
        try:
            for work in works:
                execute("SAVEPOINT work")
                try:
                    outcomes.append((work(tx), None))
                except BaseException as exc:  # noqa: BLE001 - it goes to the one who asked
                    execute("ROLLBACK TO work")  # fails if SQLite has rolled back more than this
                    outcomes.append((None, translate(exc)))
                execute("RELEASE work")
            execute("COMMIT")
        except sqlite3.Error:
            self._roll_back()
            return None
        return outcomes

    def _alone(self, work: Work) -> Outcome:
        try:
            self._begin()
        except IndexUnavailable as exc:
            return None, exc
        return self._finish(work)

    def _finish(self, work: Work) -> Outcome:
        """Run one work in the transaction that has begun."""
        try:
            result = work(SqliteTx(self._conn))
        except BaseException as exc:  # noqa: BLE001 - it goes to the one who asked
            self._roll_back()
            return None, translate(exc)
        try:
            self._conn.execute("COMMIT")
        except sqlite3.IntegrityError as exc:  # a deferred constraint: the work's own fault
            self._roll_back()
            return None, exc
        except sqlite3.Error as exc:
            self._roll_back()
            return None, self._failed(exc)
        return result, None

    def _roll_back(self) -> None:
        """Roll back what is left. If even that fails, the next work tries it again: the others keep their outcome."""
        with suppress(sqlite3.Error):
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")

    @staticmethod
    def _failed(exc: sqlite3.Error) -> IndexUnavailable:
        error = translate(exc)
        if isinstance(error, IndexUnavailable):
            return error
        return unavailable("The index can't be used. Try again in a few seconds.", exc)
