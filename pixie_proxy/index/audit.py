"""The queries for audits: everything about a request at once, request by request, and what an audit found out."""

from __future__ import annotations

from dataclasses import dataclass

from pixie_proxy.index import Tx, images, ledger, states
from pixie_proxy.index.ledger import LedgerRow
from pixie_proxy.index.states import StateToWrite
from pixie_proxy.records import ImageRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """All that the index says of a request. `pending` is what its folder has still to follow."""

    request_id: str
    row: LedgerRow | None
    images: list[ImageRecord]
    pending: StateToWrite | None

    @property
    def is_open(self) -> bool:
        """Whether the call has not been settled: it is under way, or a start has still to recover it."""
        return self.row is not None and self.row.state in {"admitted", "sent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What an account says, or what its ledger adds up to. Money in micros."""

    in_flight: int
    held_micros: int
    spent_micros: int


def kept(tx: Tx, request_id: str) -> Kept:
    """Give what is known of a request, which may be nothing."""
    return Kept(
        request_id=request_id,
        row=ledger.get(tx, request_id),
        images=images.of_request(tx, request_id),
        pending=states.get(tx, request_id),
    )


def with_images(tx: Tx, after: str, limit: int) -> list[Kept]:
    """Give the next requests that have images, by id, from behind `after`."""
    rows = tx.all(
        "SELECT DISTINCT request_id FROM images WHERE request_id > :after ORDER BY request_id LIMIT :limit",
        after=after,
        limit=limit,
    )
    return [kept(tx, row["request_id"]) for row in rows]


def totals(tx: Tx) -> tuple[int, int]:
    """Count all images and add up their bytes."""
    row = tx.one("SELECT count(*) AS images, coalesce(sum(size_bytes), 0) AS bytes FROM images")
    return (0, 0) if row is None else (row["images"], row["bytes"])


def note_damage(tx: Tx, image_id: str, damage: str, at_us: int) -> None:
    """Note that an image's bytes are not what they were. What was known before keeps its time."""
    tx.run(
        "UPDATE images SET damage = :damage, damaged_us = coalesce(damaged_us, :at) WHERE id = :id",
        damage=damage,
        at=at_us,
        id=image_id,
    )


def clear_damage(tx: Tx, image_id: str) -> None:
    """Note that an image's bytes are good again."""
    tx.run("UPDATE images SET damage = NULL, damaged_us = NULL WHERE id = :id", id=image_id)


def subjects(tx: Tx) -> list[str]:
    """Name everybody who has an account or a call."""
    rows = tx.all("SELECT subject FROM accounts UNION SELECT user_id FROM requests ORDER BY 1")
    return [row["subject"] for row in rows]


def sums(tx: Tx, subject: str) -> tuple[Sums, Sums]:
    """Give what a subject's account says, and what it would say by the ledger."""
    account = tx.one(
        "SELECT in_flight, held_micros, spent_life_micros AS spent_micros FROM accounts"
        " WHERE subject = :subject",
        subject=subject,
    )
    ledger_says = tx.one(
        "SELECT coalesce(sum(CASE WHEN state IN ('admitted', 'sent') THEN 1 ELSE 0 END), 0) AS in_flight,"
        " coalesce(sum(CASE WHEN state IN ('admitted', 'sent') THEN hold_micros ELSE 0 END), 0) AS held_micros,"
        " coalesce(sum(CASE WHEN state IN ('admitted', 'sent') THEN 0 ELSE cost_micros END), 0) AS spent_micros"
        " FROM requests WHERE user_id = :subject",
        subject=subject,
    )
    nothing = {"in_flight": 0, "held_micros": 0, "spent_micros": 0}
    return Sums(**dict(account or nothing)), Sums(**dict(ledger_says or nothing))
