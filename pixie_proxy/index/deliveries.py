"""The queries for what became of answers: who waits for one, who left before it, who has just got it.

A row is in one of three states, and `claim_…` brings it back into the first: each loss is made good once.
"""

from __future__ import annotations

from pixie_proxy.index import Tx

_REPLAYABLE = (
    " FROM deliveries d JOIN requests r ON r.id = d.request_id WHERE d.fingerprint = :fingerprint"
    " AND r.state <> 'failed' AND (r.state <> 'done' OR r.skeleton IS NOT NULL)"
    " AND NOT EXISTS (SELECT 1 FROM images i WHERE i.request_id = r.id AND i.deleted_us IS NOT NULL)"
)
_ITS_OWN = " WHERE fingerprint = :fingerprint AND request_id = :id AND attached_to = :process"


def attach(tx: Tx, request_id: str, fingerprint: str, process: str, retry_count: int | None) -> None:
    """Note that a client of `process` waits for a new call's answer."""
    tx.run(
        "INSERT INTO deliveries (fingerprint, request_id, retry_count, attached_to)"
        " VALUES (:fingerprint, :id, :retry_count, :process)",
        fingerprint=fingerprint,
        id=request_id,
        retry_count=retry_count,
        process=process,
    )


def claim_left(
    tx: Tx, fingerprint: str, process: str, retry_count: int | None, *, since_us: int
) -> str | None:
    """Take over the oldest call whose client left at or after `since_us`; give its id, None if there is none.

    One that failed or whose images were deleted is none.
    """
    row = tx.one(
        "SELECT d.request_id" + _REPLAYABLE + " AND d.left_us >= :since ORDER BY d.request_id LIMIT 1",
        fingerprint=fingerprint,
        since=since_us,
    )
    return None if row is None else _claim(tx, row["request_id"], fingerprint, process, retry_count)


def claim_delivered(tx: Tx, fingerprint: str, process: str, retry_count: int, *, since_us: int) -> str | None:
    """Take over the oldest call that was handed over at or after `since_us` to the attempt before this one."""
    row = tx.one(
        "SELECT d.request_id"
        + _REPLAYABLE
        + " AND d.delivered_us >= :since AND d.retry_count = :earlier ORDER BY d.request_id LIMIT 1",
        fingerprint=fingerprint,
        since=since_us,
        earlier=retry_count - 1,
    )
    return None if row is None else _claim(tx, row["request_id"], fingerprint, process, retry_count)


def _claim(tx: Tx, request_id: str, fingerprint: str, process: str, retry_count: int | None) -> str | None:
    claimed = tx.run(
        "UPDATE deliveries SET attached_to = :process, left_us = NULL, delivered_us = NULL,"
        " retry_count = :retry_count WHERE fingerprint = :fingerprint AND request_id = :id",
        process=process,
        retry_count=retry_count,
        fingerprint=fingerprint,
        id=request_id,
    )
    return request_id if claimed else None  # else it was swept meanwhile


def leave(tx: Tx, request_id: str, fingerprint: str, process: str, at_us: int) -> None:
    """Note that the client left before it had the whole answer."""
    tx.run(
        "UPDATE deliveries SET attached_to = NULL, left_us = :at" + _ITS_OWN,
        fingerprint=fingerprint,
        id=request_id,
        process=process,
        at=at_us,
    )


def deliver(tx: Tx, request_id: str, fingerprint: str, process: str, at_us: int) -> None:
    """Note that the whole answer was handed over."""
    tx.run(
        "UPDATE deliveries SET attached_to = NULL, delivered_us = :at" + _ITS_OWN,
        fingerprint=fingerprint,
        id=request_id,
        process=process,
        at=at_us,
    )


def forget(tx: Tx, request_id: str, fingerprint: str) -> None:
    """Drop a call that nobody may take over: it failed."""
    tx.run(
        "DELETE FROM deliveries WHERE fingerprint = :fingerprint AND request_id = :id",
        fingerprint=fingerprint,
        id=request_id,
    )


def attached_before(tx: Tx, fingerprint: str, retry_count: int) -> list[tuple[str, str]]:
    """Give the calls, each with its process, whose answers an earlier try than this one may have waited for."""
    found = tx.all(
        "SELECT request_id, attached_to FROM deliveries"
        " WHERE fingerprint = :fingerprint AND attached_to IS NOT NULL AND retry_count < :retry_count",
        fingerprint=fingerprint,
        retry_count=retry_count,
    )
    return [(row["request_id"], row["attached_to"]) for row in found]


def leave_all(tx: Tx, process: str, at_us: int) -> int:
    """Note that a process has died, and all its clients were cut off; return how many."""
    return tx.run(
        "UPDATE deliveries SET attached_to = NULL, left_us = :at WHERE attached_to = :process",
        process=process,
        at=at_us,
    )


def attached_processes(tx: Tx, fingerprint: str | None = None) -> list[str]:
    """Name the processes whose clients wait for answers, or for those to one fingerprint."""
    sql = "SELECT DISTINCT attached_to FROM deliveries WHERE attached_to IS NOT NULL"
    if fingerprint is not None:
        sql += " AND fingerprint = :fingerprint"
        return [row["attached_to"] for row in tx.all(sql, fingerprint=fingerprint)]
    return [row["attached_to"] for row in tx.all(sql)]


def has_any(tx: Tx) -> bool:
    """Whether there is anything to sweep."""
    return tx.one("SELECT 1 AS one FROM deliveries LIMIT 1") is not None


def sweep(tx: Tx, *, left_before_us: int, delivered_before_us: int) -> int:
    """Drop what is too old to be taken over."""
    return tx.run(
        "DELETE FROM deliveries WHERE left_us < :left OR delivered_us < :delivered",
        left=left_before_us,
        delivered=delivered_before_us,
    )
