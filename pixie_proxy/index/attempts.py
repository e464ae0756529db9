"""The queries for wrong keys and passwords: a bucket for each who tries, as the moment at which it is full again."""

from __future__ import annotations

from pixie_proxy.index import Tx


def tat_us(tx: Tx, subject: str) -> int:
    """Give when a bucket is full again, in µs since the epoch; 0 where it is."""
    row = tx.one("SELECT tat_us FROM attempts WHERE subject = :subject", subject=subject)
    return 0 if row is None else row["tat_us"]


def lock(tx: Tx, subject: str) -> None:
    """Keep others from a bucket until this transaction ends."""
    tx.run(
        "INSERT INTO attempts (subject, tat_us) VALUES (:subject, 0)"
        " ON CONFLICT (subject) DO UPDATE SET tat_us = attempts.tat_us",
        subject=subject,
    )


def save(tx: Tx, subject: str, tat_us: int) -> None:
    """Set when a bucket is full again."""
    tx.run(
        "INSERT INTO attempts (subject, tat_us) VALUES (:subject, :tat_us)"
        " ON CONFLICT (subject) DO UPDATE SET tat_us = excluded.tat_us",
        subject=subject,
        tat_us=tat_us,
    )


def sweep(tx: Tx, now_us: int) -> None:
    """Forget buckets that are full again, but for those that somebody is about to take from."""
    tx.run("DELETE FROM attempts WHERE tat_us > 0 AND tat_us <= :now", now=now_us)
