"""Bring a PostgreSQL database to the schema that this code knows. Processes that start at once take turns.

Its steps have the numbers of SQLite's, and after each of them both have the same tables and columns; what came before
PostgreSQL was there is one step.

A step only adds, so that older programs go on with it, those that start too; or its first line says which can't:
"-- Breaks programs before schema 17: ...". The database remembers the highest such number.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from pixie_proxy.errors import ConfigError
from pixie_proxy.index import Tx, processes
from pixie_proxy.index.migrate import migrations, newest_schema
from pixie_proxy.index.postgres import search
from pixie_proxy.index.postgres.target import Link
from pixie_proxy.index.postgres.tx import PostgresTx

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")

_FILLED: dict[str, Callable[[Tx], None]] = {"0012_search": search.fill}
"""What SQL alone can't do for the rows that there are: done with the step, in its transaction."""

_TURN = 0x7069786965
"""The number of the advisory lock."""

_BREAKS = re.compile(r"-- Breaks programs before schema (\d+)\b")

_LOCK_MS = 1000
"""How long a step waits for a table: behind it wait all who work with that."""
_AGAIN_S = 0.5

_LISTEN_S = 4 * processes.BEAT_EVERY_S
"""How long a heart may be silent that still beats."""
_LOOK_EVERY_S = 0.2


def migrate(link: Link, folder: Path = MIGRATIONS, *, must_exist: bool = False) -> int:
    """Apply what is missing and return the version; each step comes whole or not at all.

    What a newer version has only added to stays as it is. Raises ConfigError where this program can't use the database
    any more, another that runs could not from then on, its user may not change it, or there `must_exist` one;
    psycopg.Error.
    """
    found = version_of(link)
    if found == 0 and must_exist:
        raise ConfigError(
            "index.url: the database holds no index, and server.require_existing is on: "
            "name the right one, or turn the setting off for the very first start"
        )
    for number, path in migrations(folder).items():
        if found < number:
            try:
                while not _is_applied(link, number, path):
                    time.sleep(_AGAIN_S)
            except psycopg.errors.InsufficientPrivilege as exc:
                said = str(exc).partition("\n")[0]
                raise ConfigError(
                    f"index.url: its user may not make tables ({said}): make it the owner of the database "
                    "(ALTER DATABASE … OWNER TO …)"
                ) from exc
    check_usable(link, folder)
    return version_of(link)


def check_usable(link: Link, folder: Path = MIGRATIONS) -> None:
    """See that this program can use a database, whatever newer ones have made of it. Raises ConfigError."""
    oldest, known = oldest_of(link), newest_schema(folder)
    if oldest > known:
        raise ConfigError(
            f"index: programs before schema {oldest} can't use the database any more, and this pixie_proxy knows "
            f"{known}: run the newer version, or go back to the dump from before its upgrade: docs/operations.md, "
            "Go back"
        )


def version_of(link: Link) -> int:
    """Read how far a database is; 0 is one that holds no index."""
    if _value(link, "SELECT to_regclass('schema_version') IS NULL AS value"):
        return 0
    return int(_value(link, "SELECT version AS value FROM schema_version"))


def oldest_of(link: Link) -> int:
    """Read from which schema on a program can use a database."""
    if version_of(link) == 0:
        return 0
    # As JSON: a database that no version of today has migrated lacks the column.
    return int(_value(link, "SELECT coalesce(to_jsonb(v) ->> 'oldest', '0') AS value FROM schema_version v"))


def breaks(script: str) -> int:
    """Read from which schema on a program can use a database after this step; 0 is any."""
    said = _BREAKS.match(script)
    return int(said[1]) if said else 0


def _is_applied(link: Link, number: int, path: Path) -> bool:
    """Make a step, unless somebody is in its way."""
    try:
        with link.transaction():
            _apply(link, number, path)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as exc:
        log.info(
            "a step of the schema waits", extra={"step": path.stem, "reason": str(exc).partition("\n")[0]}
        )
        return False
    return True


def _apply(link: Link, number: int, path: Path) -> None:
    link.execute("SELECT pg_advisory_xact_lock(%s)", [_TURN])
    if version_of(link) >= number:  # another process may have been here while we waited
        return
    script = path.read_text(encoding="utf-8")
    oldest = max(breaks(script), oldest_of(link))
    if breaks(script):
        _check_unused(PostgresTx(link), number, oldest)
    link.execute(f"SET LOCAL lock_timeout = {_LOCK_MS:d}".encode())
    link.execute(script.encode())
    if path.stem in _FILLED:
        _FILLED[path.stem](PostgresTx(link))
    link.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
    link.execute("ALTER TABLE schema_version ADD COLUMN IF NOT EXISTS oldest BIGINT NOT NULL DEFAULT 0")
    link.execute("DELETE FROM schema_version")
    link.execute("INSERT INTO schema_version (version, oldest) VALUES (%s, %s)", [number, oldest])


def _check_unused(tx: Tx, number: int, oldest: int) -> None:
    """See that no heart beats of a program that a step would break. Blocks. Raises ConfigError."""

    def older() -> dict[str, int]:
        return {each.id: each.beats for each in processes.every(tx).values() if each.schema < oldest}

    first = now = older()
    silent = set(first)
    until = time.monotonic() + _LISTEN_S
    while silent and time.monotonic() < until:
        time.sleep(_LOOK_EVERY_S)
        now = older()
        silent = {name for name in silent if now.get(name) == first[name]}
    if alive := sorted(now.keys() - silent):
        raise ConfigError(
            f"index: the step to schema {number} would break programs before schema {oldest}, and {len(alive)} of "
            f"them run (processes {', '.join(alive)}): stop them first: docs/operations.md, Upgrade several hosts"
        )


def _value(link: Link, sql: str) -> Any:
    return (link.execute(sql.encode()).fetchone() or {})["value"]
