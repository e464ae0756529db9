"""Write a SQLite database anew, so that no page of it holds what was deleted.

`secure_delete` is not enough: a row that was moved or made smaller years ago may have left a copy in a gap between
others, which no later delete finds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pixie_proxy.disk.watch import room
from pixie_proxy.index.lock import LockTimeout
from pixie_proxy.index.trouble import translate, unavailable

_SPARE_BYTES = 16 * 1024 * 1024


def rewrite(
    connection: sqlite3.Connection, path: Path, guard: Callable[[], AbstractContextManager[None]]
) -> None:
    """VACUUM the database at `path`; its log holds all of it afterwards. Blocks every writer, about 10 s for 1 GB.

    The copy that SQLite makes meanwhile is a file in the same folder, unlinked from the start: in memory it would have
    no bound. Raises IndexUnavailable, also where there is no room.
    """
    needed_bytes = 2 * path.stat().st_size + _SPARE_BYTES
    if room(path.parent).free_bytes < needed_bytes:
        raise unavailable(f"no room to write the index anew: {needed_bytes // 10**6:,} MB are needed.")
    folder = str(path.parent.absolute()).replace("'", "''")
    try:
        with guard():
            connection.execute("PRAGMA temp_store = FILE")
            connection.execute(f"PRAGMA temp_store_directory = '{folder}'")
            try:
                connection.execute("VACUUM")
            finally:
                connection.execute("PRAGMA temp_store_directory = ''")
                connection.execute("PRAGMA temp_store = MEMORY")
    except (sqlite3.Error, LockTimeout) as exc:
        raise translate(exc) from exc
