"""The queries for the processes that share an index over several hosts: heartbeats, and what schema each knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pixie_proxy.index import Tx

BEAT_EVERY_S = 3.0


class Process(NamedTuple):
    """A process by its name in the ledger: whose spool it writes to, how often its heart has beaten, what it knows."""

    id: str
    spool: str
    beats: int
    schema: int


def beat(tx: Tx, process: str, spool: str, schema: int, home_before: str) -> str | None:
    """Note a heartbeat; the first enters the process. Calls with smaller ids than `home_before` are in no spool of its.

    Returns the oldest of its calls that are not settled.
    """
    tx.run(
        "INSERT INTO processes (id, spool, beats, schema, home_before) VALUES (:id, :spool, 1, :schema, :home_before)"
        " ON CONFLICT (id) DO UPDATE SET beats = processes.beats + 1, home_before = excluded.home_before",
        id=process,
        spool=spool,
        schema=schema,
        home_before=home_before,
    )
    row = tx.one(
        "SELECT min(id) AS id FROM requests WHERE process = :id AND state IN ('admitted', 'sent')", id=process
    )
    return None if row is None else row["id"]


def every(tx: Tx) -> dict[str, Process]:
    """Give all of them by name."""
    return {
        row["id"]: Process(row["id"], row["spool"], row["beats"], row["schema"])
        for row in tx.all("SELECT id, spool, beats, schema FROM processes")
    }


def may_hold(tx: Tx, request_id: str, spool: str) -> bool:
    """Tell whether a call may still be in a spool that is not `spool`, of a host that is alive or comes back."""
    row = tx.one(
        "SELECT 1 AS one FROM requests r JOIN processes p ON p.id = r.process"
        " WHERE r.id = :id AND p.spool <> :spool AND (p.home_before IS NULL OR r.id >= p.home_before)",
        id=request_id,
        spool=spool,
    )
    return row is not None


def forget(tx: Tx, names: Iterable[str]) -> None:
    """Drop processes with empty spools that have left nothing open: no call, and nobody who waits for an answer."""
    for name in names:
        tx.run("DELETE FROM processes WHERE id = :id" + _NOTHING_OPEN, id=name)


def forget_silent(tx: Tx, names: Iterable[str]) -> None:
    """Drop dead processes that have left nothing open, and no image in the spool that the index knows."""
    for name in names:
        tx.run(
            "DELETE FROM processes WHERE id = :id"
            + _NOTHING_OPEN
            + " AND NOT EXISTS (SELECT 1 FROM requests r"
            " WHERE r.process = :id AND r.state = 'done' AND r.id >= processes.home_before)",
            id=name,
        )


_NOTHING_OPEN = (
    " AND NOT EXISTS (SELECT 1 FROM requests r WHERE r.process = :id AND r.state IN ('admitted', 'sent'))"
    " AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.attached_to = :id)"
)
