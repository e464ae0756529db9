"""The index: everything that is looked up, in one database. Here is the contract; `sqlite` and `postgres` keep it.

`tests/index/test_contract.py` is the specification. A *work* is a plain function over a `Tx` without side effects
(it may run twice); the queries by subject in this package are the only places with SQL, which both databases read.

SQLite runs one writing work after the other, PostgreSQL many at once. So a work that decides by what it has read first
writes a row by which all such works take turns: an account (`accounts.lock`), the accounts' version, an image, a
collection, a folder's note. Behind that write each statement sees all that others have committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from pixie_proxy.index.searching import Search

T = TypeVar("T")
Row = Mapping[str, Any]


class Tx(Protocol):
    """One transaction. Values go in as `:name` parameters only."""

    @property
    def search(self) -> Search:
        """Search prompts as this database does."""

    def all(self, sql: str, **params: object) -> list[Row]:
        """Return every row."""

    def one(self, sql: str, **params: object) -> Row | None:
        """Return the first row, or None."""

    def run(self, sql: str, **params: object) -> int:
        """Execute and return the number of rows touched."""


class Index(Protocol):
    """A database that runs works as transactions. Raises `IndexUnavailable` when it can't."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` as one transaction and return its result once that is durable; roll back if it raises."""

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on a reading connection: one consistent snapshot, no writes."""

    async def scrub(self) -> None:
        """Leave nothing in the database's files of what was deleted. Other writers may have to wait for seconds."""

    @property
    def spans_hosts(self) -> bool:
        """Whether processes of other hosts may share it."""

    @property
    def log_bytes(self) -> int:
        """Give the size of the write-ahead log; 0 where the database keeps that to itself."""

    async def close(self) -> None:
        """Finish what was accepted, then close."""
