"""The queries for attempts that were refused: a retry of one is a new call, and takes one of them off."""

from __future__ import annotations

from typing import NamedTuple

from pixie_proxy.index import Tx


class Refused(NamedTuple):
    """An attempt that was refused. Without `is_exact` only the shape of its body is known, not what it said."""

    shape: str
    retry_count: int
    request_id: str
    is_exact: bool


def remember(
    tx: Tx, request_id: str, *, shape: str, retry_count: int, fingerprint: str | None, at_us: int
) -> None:
    """Note a refused attempt; `fingerprint` is None if it was refused before its body was read."""
    tx.run(
        "INSERT INTO refusals (shape, retry_count, request_id, fingerprint, refused_us)"
        " VALUES (:shape, :retry_count, :id, :fingerprint, :at) ON CONFLICT DO NOTHING",
        shape=shape,
        retry_count=retry_count,
        id=request_id,
        fingerprint=fingerprint,
        at=at_us,
    )


def find(
    tx: Tx, *, shape: str, retry_count: int, since_us: int, fingerprint: str | None = None
) -> Refused | None:
    """Find a refused attempt that this may have been, the surest and oldest first; None for `fingerprint` is any."""
    row = tx.one(
        "SELECT request_id, fingerprint FROM refusals WHERE shape = :shape AND retry_count = :retry_count"
        " AND refused_us >= :since"
        + ("" if fingerprint is None else " AND (fingerprint = :fingerprint OR fingerprint IS NULL)")
        + " ORDER BY fingerprint IS NULL, request_id LIMIT 1",
        shape=shape,
        retry_count=retry_count,
        since=since_us,
        **({} if fingerprint is None else {"fingerprint": fingerprint}),
    )
    if row is None:
        return None
    return Refused(shape, retry_count, row["request_id"], row["fingerprint"] is not None)


def forget(tx: Tx, refused: Refused) -> None:
    """Take a refused attempt off: its retry has come."""
    tx.run(
        "DELETE FROM refusals WHERE shape = :shape AND retry_count = :retry_count AND request_id = :id",
        shape=refused.shape,
        retry_count=refused.retry_count,
        id=refused.request_id,
    )


def has_any(tx: Tx) -> bool:
    """Whether there is anything to sweep."""
    return tx.one("SELECT 1 AS one FROM refusals LIMIT 1") is not None


def sweep(tx: Tx, before_us: int) -> int:
    """Drop what is too old to be retried."""
    return tx.run("DELETE FROM refusals WHERE refused_us < :before", before=before_us)
