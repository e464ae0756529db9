"""The queries for folders in storage that lag behind the index: marked with the change itself, so none is forgotten."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from pixie_proxy.index import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class StateToWrite:
    """A request's folder that must be brought into line. `purged` are files to delete, by image id."""

    request_id: str
    ticket: str
    purged: Mapping[str, str]
    is_doomed: bool = False


def mark(tx: Tx, request_id: str, purged: Mapping[str, str] | None = None) -> StateToWrite:
    """Note, in the transaction of a change, that a folder has to follow it."""
    ticket = secrets.token_hex(8)
    tx.run(  # first, for then nobody else adds files to it
        "INSERT INTO states_to_write (request_id, ticket) VALUES (:id, :ticket)"
        " ON CONFLICT (request_id) DO UPDATE SET ticket = excluded.ticket",
        id=request_id,
        ticket=ticket,
    )
    known = get(tx, request_id)
    files = {**(known.purged if known else {}), **(purged or {})}
    if purged:
        tx.run(
            "UPDATE states_to_write SET purged = :purged WHERE request_id = :id",
            id=request_id,
            purged=json.dumps(files),
        )
    return StateToWrite(
        request_id=request_id, ticket=ticket, purged=files, is_doomed=known is not None and known.is_doomed
    )


def get(tx: Tx, request_id: str) -> StateToWrite | None:
    """Find what is to be done to a folder; None if it is in line."""
    row = tx.one(
        "SELECT request_id, ticket, purged, is_doomed FROM states_to_write WHERE request_id = :id",
        id=request_id,
    )
    if row is None:
        return None
    return StateToWrite(
        request_id=row["request_id"],
        ticket=row["ticket"],
        purged=json.loads(row["purged"]),
        is_doomed=bool(row["is_doomed"]),
    )


def waiting(tx: Tx, after: str, limit: int) -> list[str]:
    """Give requests whose folders are not in line, by id, from behind `after`."""
    rows = tx.all(
        "SELECT request_id FROM states_to_write WHERE request_id > :after ORDER BY request_id LIMIT :limit",
        after=after,
        limit=limit,
    )
    return [row["request_id"] for row in rows]


def doom(tx: Tx, request_id: str) -> None:
    """Note that a folder goes as a whole: half deleted, it could not tell that any more."""
    tx.run("UPDATE states_to_write SET is_doomed = 1 WHERE request_id = :id", id=request_id)


def settle(tx: Tx, state: StateToWrite) -> StateToWrite | None:
    """End what was done. Returns what is to be done once more, where a change or another process came between."""
    done = tx.run(
        "DELETE FROM states_to_write WHERE request_id = :id AND ticket = :ticket",
        id=state.request_id,
        ticket=state.ticket,
    )
    if done:
        return None
    return get(tx, state.request_id) or mark(tx, state.request_id)
