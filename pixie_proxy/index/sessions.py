"""The queries for sessions: who is signed in with a browser, and until when."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pixie_proxy.index import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A session as the index keeps it: the digest of its cookie, and the key that it began with."""

    digest: str
    user_id: str
    key_id: str
    created_us: int
    seen_us: int


def add(tx: Tx, session: StoredSession) -> None:
    """Add a session."""
    tx.run(
        "INSERT INTO sessions (digest, user_id, key_id, created_us, seen_us)"
        " VALUES (:digest, :user_id, :key_id, :created_us, :seen_us)",
        **asdict(session),
    )


def get(tx: Tx, digest: str) -> StoredSession | None:
    """Find a session by its cookie's digest; whether it is still good is for the caller to judge."""
    row = tx.one(
        "SELECT digest, user_id, key_id, created_us, seen_us FROM sessions WHERE digest = :digest",
        digest=digest,
    )
    return None if row is None else StoredSession(**dict(row))


def touch(tx: Tx, digest: str, at_us: int) -> None:
    """Note a use; an older note never replaces a newer one."""
    tx.run(
        "UPDATE sessions SET seen_us = :at WHERE digest = :digest AND seen_us < :at", at=at_us, digest=digest
    )


def delete(tx: Tx, digest: str) -> bool:
    """End a session; False if there is none."""
    return tx.run("DELETE FROM sessions WHERE digest = :digest", digest=digest) > 0


def delete_over(tx: Tx, *, created_before_us: int, seen_before_us: int) -> int:
    """Remove sessions that are too old or were idle for too long; returns how many."""
    return tx.run(
        "DELETE FROM sessions WHERE created_us < :created OR seen_us < :seen",
        created=created_before_us,
        seen=seen_before_us,
    )
