"""Copy an index as it is at one moment, while servers go on writing to it; and what must be done to such a copy.

Copying only reads, in one snapshot: so it needs no lock, whatever SQLite this is, and nobody waits for it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pixie_proxy.disk import fsync_directory
from pixie_proxy.index import Tx, images, states
from pixie_proxy.index.batch import SqliteTx
from pixie_proxy.index.tables import TABLES
from pixie_proxy.index.trouble import translate

_PAGES_AT_ONCE = 4096
_ROWS = 1000

Progress = Callable[[int, int], None]
"""Is told of pages that are done, and of all that there are."""


class ImageState(NamedTuple):
    """What may change about an image, and whose it is."""

    request_id: str
    ref: str
    visibility: str
    link_epoch: int
    deleted_us: int | None
    expires_us: int | None
    tags: str


def copy_index(source: Path, target: Path, progress: Progress = lambda _done, _all: None) -> None:
    """Copy a database into one plain file, durable before it has its name; what had that name is replaced.

    Raises IndexUnavailable, OSError.
    """
    part = target.with_name(f"{target.name}.part")
    with suppress(FileNotFoundError):
        part.unlink()
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with _translated(), closing(_open(source, "ro")) as reading, closing(_open(part, "rw")) as writing:
        reading.execute("BEGIN")
        schema(SqliteTx(reading))  # the snapshot begins: without one, each change would start the copy again
        reading.backup(
            writing,
            pages=_PAGES_AT_ONCE,
            progress=lambda _, left, pages: progress(pages - left, pages),
        )
        writing.execute(
            "PRAGMA journal_mode = DELETE"
        )  # one file, which can be read where nothing can be written
    part.rename(target)
    fsync_directory(target.parent)


@contextmanager
def open_copy(path: Path) -> Iterator[Tx]:
    """Change a copy that nobody else uses yet: one transaction. Raises IndexUnavailable."""
    with _translated(), closing(_open(path, "rw")) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN IMMEDIATE")
        yield SqliteTx(connection)
        connection.execute("COMMIT")


@contextmanager
def open_beside(path: Path) -> Iterator[Tx]:
    """Look into an index without changing anything in it, its schema too; each query sees the last commit."""
    with _translated(), closing(_open(path, "ro")) as connection:
        yield SqliteTx(connection)


@contextmanager
def open_snapshot(path: Path) -> Iterator[Tx]:
    """Read an index as it is at one moment, without changing anything in it. Raises IndexUnavailable."""
    with _translated(), closing(_open(path, "ro")) as connection:
        connection.execute("BEGIN")
        yield SqliteTx(connection)


def schema(tx: Tx) -> int:
    """Give the version of a database's schema."""
    row = tx.one("PRAGMA user_version")
    return 0 if row is None else int(row["user_version"])


def columns(tx: Tx) -> dict[str, str]:
    """Name the columns of each table that is copied, as a query does."""
    return {
        table: ", ".join(
            row["name"] for row in tx.all("SELECT name FROM pragma_table_info(:table)", table=table)
        )
        for table in TABLES
    }


def has_call(tx: Tx, request_id: str) -> bool:
    """Tell whether the ledger knows a call."""
    return tx.one("SELECT 1 FROM requests WHERE id = :id", id=request_id) is not None


def image_states(tx: Tx) -> Iterator[tuple[str, ImageState]]:
    """Give all images with their states, in the order of their ids."""
    after = ""
    while rows := tx.all(
        "SELECT id, request_id, ref, visibility, link_epoch, deleted_us, expires_us, tags FROM images"
        " WHERE id > :after ORDER BY id LIMIT :limit",
        after=after,
        limit=_ROWS,
    ):
        for row in rows:
            yield row["id"], ImageState(**{name: row[name] for name in ImageState._fields})
        after = rows[-1]["id"]


def image_refs(tx: Tx) -> Iterator[tuple[str, str]]:
    """Give request and ref of all images, in the order of their requests' ids."""
    after = ("", -1)
    while rows := tx.all(
        "SELECT request_id, position, ref FROM images"
        " WHERE (request_id, position) > (:request_id, :position) ORDER BY request_id, position LIMIT :limit",
        request_id=after[0],
        position=after[1],
        limit=_ROWS,
    ):
        for row in rows:
            yield row["request_id"], row["ref"]
        after = (rows[-1]["request_id"], rows[-1]["position"])


def forget_sessions(tx: Tx) -> None:
    """End every browser's session: who signs in at a restored proxy does so anew."""
    if tx.one("SELECT 1 FROM sqlite_master WHERE name = 'sessions'") is not None:
        tx.run("DELETE FROM sessions")


def rewrite_state(tx: Tx, state: ImageState) -> None:
    """Note that a folder has to follow the copy: what its state.json says is younger."""
    states.mark(tx, state.request_id)


def forget_image(tx: Tx, image_id: str, state: ImageState) -> None:
    """Drop an image that was purged after the copy was made, and note that its file has to go."""
    images.remove(tx, image_id, state.request_id)
    states.mark(tx, state.request_id, {image_id: state.ref.rpartition("/")[2]})


def forget_folder(tx: Tx, request_id: str) -> None:
    """Drop the note about a folder that is not there any more."""
    tx.run("DELETE FROM states_to_write WHERE request_id = :id", id=request_id)


def _open(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise translate(exc) from exc
