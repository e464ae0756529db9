"""The queries for the processes that share an index over several hosts: heartbeats, and what schema each knows."""

from __future__ import annotations

from typing import NamedTuple

from pixie_proxy.index import Tx

BEAT_EVERY_S = 3.0


class Process(NamedTuple):
    """A process by its name in the ledger: whose spool it writes to, how often its heart has beaten, what it knows."""

    id: str
    spool: str
    beats: int
    schema: int


def beat(tx: Tx, process: str, spool: str, schema: int) -> None:
    """Note a heartbeat; the first enters the process."""
    tx.run(
        "INSERT INTO processes (id, spool, beats, schema) VALUES (:id, :spool, 1, :schema)"
        " ON CONFLICT (id) DO UPDATE SET beats = processes.beats + 1",
        id=process,
        spool=spool,
        schema=schema,
    )


def every(tx: Tx) -> dict[str, Process]:
    """Give all of them by name."""
    return {
        row["id"]: Process(row["id"], row["spool"], row["beats"], row["schema"])
        for row in tx.all("SELECT id, spool, beats, schema FROM processes")
    }


def forget(tx: Tx, process: str) -> None:
    """Drop a process that has left nothing open: no call, and nobody who waits for an answer."""
    tx.run(
        "DELETE FROM processes WHERE id = :id"
        " AND NOT EXISTS (SELECT 1 FROM requests r WHERE r.process = :id AND r.state IN ('admitted', 'sent'))"
        " AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.attached_to = :id)",
        id=process,
    )
