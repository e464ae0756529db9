"""A PostgreSQL index as a source or a target of a copy: one transaction, and nobody beside it who would notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from pixie_proxy.errors import ConfigError, IndexUnavailable
from pixie_proxy.index import Tx
from pixie_proxy.index.postgres.schema import migrate, version_of
from pixie_proxy.index.postgres.target import COPIER, NAME, Link, Target, told
from pixie_proxy.index.postgres.tx import PostgresTx


@contextmanager
def open_snapshot(target: Target) -> Iterator[Tx]:
    """Read an index as it is at one moment. Raises ConfigError, IndexUnavailable."""
    with _connected(target) as link:
        link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield PostgresTx(link)


@contextmanager
def open_beside(target: Target) -> Iterator[Tx]:
    """Look into an index; each query sees the last commit. Raises ConfigError, IndexUnavailable."""
    with _connected(target) as link:
        link.execute("SET default_transaction_read_only = on")
        yield PostgresTx(link)


@contextmanager
def open_new(target: Target) -> Iterator[Tx]:
    """Fill a database, with its tables if it has none: one transaction. Raises ConfigError, IndexUnavailable."""
    with _connected(target) as link:
        migrate(link)
        link.execute("BEGIN")
        link.execute("LOCK TABLE settings")  # a proxy can't start on half of it
        yield PostgresTx(link)
        link.execute("COMMIT")


def schema(target: Target) -> int:
    """Give the version of a database's schema; 0 where it holds no index."""
    with _connected(target) as link:
        return version_of(link)


def servers(target: Target) -> int:
    """Count the connections that proxies have to a database."""
    with _connected(target) as link:
        row = link.execute(
            "SELECT count(*) AS n FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = %s",
            [NAME],
        ).fetchone()
    return int((row or {"n": 0})["n"])


@contextmanager
def _connected(target: Target) -> Iterator[Link]:
    try:
        link, _ = target.connect(is_patient=True, name=COPIER)
        try:
            yield link
        finally:
            link.close()
    except ConfigError:
        raise
    except (psycopg.Error, IndexUnavailable) as exc:
        raise told(target, exc) from exc
