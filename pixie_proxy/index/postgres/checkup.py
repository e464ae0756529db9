"""A look at a PostgreSQL index from outside: beside a server or without one, in bounded time, changing nothing."""

from __future__ import annotations

import psycopg

from pixie_proxy.errors import IndexUnavailable
from pixie_proxy.index.checkup import Checkup, contents
from pixie_proxy.index.migrate import newest_schema
from pixie_proxy.index.postgres.schema import MIGRATIONS, oldest_of, version_of
from pixie_proxy.index.postgres.target import Link, Target, told
from pixie_proxy.index.postgres.tx import PostgresTx

_LOOK_MS = 2000
_FEW = 10
"""Connections that somebody else may need."""


def look_at_postgres(url: str) -> Checkup | None:
    """Examine a database; None where it holds no index yet. Blocks.

    Raises ConfigError, and IndexUnavailable with its remedy.
    """
    target = Target.of(url)
    try:
        link, about = target.connect(statement_timeout_ms=_LOOK_MS)
        with link:
            version = version_of(link)
            if version == 0:
                return None
            return Checkup(
                version=version,
                newest_version=newest_schema(MIGRATIONS),
                oldest_version=oldest_of(link),
                wal_bytes=0,
                fault=None,
                is_whole=True,
                server=f"PostgreSQL {about.version_text.partition(' ')[0]} at {target.spoken}",
                doubts=tuple(_doubts(link, is_unsynced=about.fsync == "off")),
                **contents(PostgresTx(link)),
            )
    except (psycopg.Error, IndexUnavailable) as exc:
        error = told(target, exc)
        raise error.mended_by(
            "see that it runs, and that host, user, password and database of index.url are right"
        ) from exc


def _doubts(link: Link, *, is_unsynced: bool) -> list[tuple[str, str]]:
    found = []
    if is_unsynced:
        found.append(("PostgreSQL runs with fsync = off: a power cut destroys it", "set fsync = on"))
    row = link.execute(
        "SELECT current_setting('max_connections')::int - count(*) AS free FROM pg_stat_activity"
        " WHERE backend_type = 'client backend'"
    ).fetchone()
    free = (row or {"free": _FEW})["free"]
    if free < _FEW:
        found.append(
            (
                f"PostgreSQL has {free} connections left",
                "raise its max_connections, or lower index.connections in each process",
            )
        )
    return found
