"""A PostgreSQL index as a whole, for commands that copy it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from pixie_proxy.errors import ConfigError, IndexUnavailable
from pixie_proxy.index import Tx, copying
from pixie_proxy.index.migrate import newest_schema
from pixie_proxy.index.places import SqlitePlace
from pixie_proxy.index.postgres.schema import MIGRATIONS, check_usable, migrate, version_of
from pixie_proxy.index.postgres.target import COPIER, NAME, Link, Target, told
from pixie_proxy.index.postgres.tx import PostgresTx
from pixie_proxy.index.transfer import transfer


class PostgresPlace:
    """A database."""

    def __init__(self, url: str) -> None:
        """Read its address. Raises ConfigError."""
        self.target = Target.of(url)

    @property
    def spoken(self) -> str:
        """Give host and database."""
        return self.target.spoken

    def schema(self) -> int:
        """Ask the database."""
        with self._connected() as link:
            return version_of(link)

    def size_bytes(self) -> int:
        """Take the whole database: indexes and room that is free make it larger than a copy."""
        return self._number("SELECT pg_database_size(current_database()) AS n")

    def servers(self) -> int:
        """Count the connections of proxies, and of commands that write."""
        return self._number(
            "SELECT count(*) AS n FROM pg_stat_activity"
            f" WHERE datname = current_database() AND application_name = '{NAME}'"
        )

    @contextmanager
    def live(self) -> Iterator[Tx]:
        """Look beside whoever writes."""
        with self._connected() as link:
            link.execute("SET default_transaction_read_only = on")
            yield PostgresTx(link)

    @contextmanager
    def snapshot(self) -> Iterator[Tx]:
        """Read in one transaction."""
        with self._connected() as link:
            link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield PostgresTx(link)

    @contextmanager
    def fresh(self) -> Iterator[Tx]:
        """Make the tables; no proxy can start on half of what goes into them."""
        with self._connected() as link:
            migrate(link)
            link.execute("BEGIN")
            link.execute("LOCK TABLE settings")
            yield PostgresTx(link)
            link.execute("COMMIT")

    def check(self) -> None:
        """Ask the database who can use it."""
        with self._connected() as link:
            check_usable(link)

    def copy_to(self, path: Path) -> None:
        """Copy row by row, and compare. What a newer version has added is left out: a start of that adds it again."""
        if (found := self.schema()) < (known := newest_schema(MIGRATIONS)):
            raise ConfigError(
                f"index: {self.spoken} has schema {found}, this pixie_proxy knows {known}: "
                "start this version on it once. Nothing was changed"
            )
        with self.snapshot() as source, SqlitePlace(path).fresh() as target:
            transfer(source, target, columns=copying.columns(target))

    def _number(self, sql: str) -> int:
        with self._connected() as link:
            row = link.execute(sql.encode()).fetchone()
        return int((row or {"n": 0})["n"])

    @contextmanager
    def _connected(self) -> Iterator[Link]:
        try:
            link, _ = self.target.connect(is_patient=True, name=COPIER)
            try:
                # Who reads a page may be busy with the other side of a copy for long.
                link.execute("SET idle_in_transaction_session_timeout = 0")
                yield link
            finally:
                link.close()
        except (psycopg.Error, IndexUnavailable) as exc:
            raise told(self.target, exc) from exc
