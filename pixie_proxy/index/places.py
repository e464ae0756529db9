"""An index as a whole, for commands that copy it: where it is, and how it is read and made there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pixie_proxy.disk import fsync_directory
from pixie_proxy.index import Tx, copying
from pixie_proxy.index.migrate import check_schema, open_new


class Place(Protocol):
    """Where an index is or shall be. All of it blocks, and raises ConfigError or IndexUnavailable."""

    @property
    def spoken(self) -> str:
        """Name it without secrets."""

    def schema(self) -> int:
        """Give its version; 0 where nothing is there."""

    def check(self) -> None:
        """See that it is of no version that this program can't read."""

    def size_bytes(self) -> int:
        """Tell about how much a copy takes."""

    def live(self) -> AbstractContextManager[Tx]:
        """Look into it; each query sees the last commit."""

    def snapshot(self) -> AbstractContextManager[Tx]:
        """Read it as it is at one moment."""

    def fresh(self) -> AbstractContextManager[Tx]:
        """Fill it, made if it is not there: one transaction."""

    def servers(self) -> int:
        """Count the connections of proxies that can be seen."""

    def copy_to(self, path: Path) -> None:
        """Copy it, as it is at one moment, into a SQLite file that is there as a whole or not at all."""


@dataclass(frozen=True, slots=True)
class SqlitePlace:
    """A SQLite file."""

    path: Path

    @property
    def spoken(self) -> str:
        """Give its path."""
        return str(self.path.absolute())

    def schema(self) -> int:
        """Ask the file, if there is one."""
        if not self.path.exists() or not self.path.stat().st_size:
            return 0
        with self.live() as tx:
            return copying.schema(tx)

    def check(self) -> None:
        """Ask the file."""
        check_schema(self.schema())

    def size_bytes(self) -> int:
        """Add its log to it."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def live(self) -> AbstractContextManager[Tx]:
        """Look beside whoever writes."""
        return copying.open_beside(self.path)

    def snapshot(self) -> AbstractContextManager[Tx]:
        """Read in one transaction."""
        return copying.open_snapshot(self.path)

    @contextmanager
    def fresh(self) -> Iterator[Tx]:
        """Make the file; one that we made goes again when it can't be filled."""
        is_ours = not self.path.exists()
        try:
            with open_new(self.path) as tx:
                yield tx
        except BaseException:
            if is_ours:
                self.path.unlink(missing_ok=True)
            raise
        fsync_directory(self.path.parent)

    def servers(self) -> int:
        """Give 0: a file does not know who has it open."""
        return 0

    def copy_to(self, path: Path) -> None:
        """Copy its pages."""
        copying.copy_index(self.path, path)
