"""The queries for audits: everything about a request at once, request by request, and what an audit found out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pixie_proxy.index import Row, Tx, accounts, images, ledger, states
from pixie_proxy.index.ledger import LedgerRow
from pixie_proxy.index.states import StateToWrite
from pixie_proxy.records import TEAM, ImageRecord


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


def wrong_accounts(tx: Tx) -> dict[str, tuple[Sums, Sums]]:
    """Give each account that is not the sum of its ledger: what it says, and what it would say by that."""
    said = {
        row["subject"]: _sums(row)
        for row in tx.all(
            "SELECT subject, in_flight, held_micros, spent_life_micros AS spent_micros FROM accounts"
        )
    }
    sums = {row["subject"]: _sums(row) for row in tx.all(_LEDGER)}
    pairs = {
        subject: (said.get(subject, _NOTHING), sums.get(subject, _NOTHING))
        for subject in sorted(said.keys() | sums.keys())
    }
    return {subject: pair for subject, pair in pairs.items() if pair[0] != pair[1]}


def mend_accounts(tx: Tx) -> set[str]:
    """Set each account that is not the sum of its ledger to that, and name them.

    Day and month are forgotten, so that the next use looks them up; the limiter's buckets stay.
    """
    accounts.lock(tx, [TEAM])
    wrong = wrong_accounts(tx)
    for subject, (_, sums) in wrong.items():
        accounts.lock(tx, [subject])
        accounts.save(
            tx,
            replace(
                accounts.get(tx, subject),
                in_flight=sums.in_flight,
                held_micros=sums.held_micros,
                spent_life_micros=max(0, sums.spent_micros),
                day="",
                month="",
            ),
        )
    return {*wrong}


_EACH = (
    "sum(CASE WHEN state IN ('admitted', 'sent') THEN 1 ELSE 0 END) AS in_flight,"
    " sum(CASE WHEN state IN ('admitted', 'sent') THEN hold_micros ELSE 0 END) AS held_micros,"
    " sum(CASE WHEN state IN ('admitted', 'sent') THEN 0 ELSE coalesce(cost_micros, 0) END) AS spent_micros"
    " FROM requests"
)
_CORRECTED = "0 AS in_flight, 0 AS held_micros, sum(change_micros) AS spent_micros FROM corrections"
_LEDGER = (
    "SELECT subject, sum(in_flight) AS in_flight, sum(held_micros) AS held_micros,"
    " sum(spent_micros) AS spent_micros FROM ("
    + " UNION ALL ".join(
        f"SELECT {subject} AS subject, {sums} GROUP BY 1"
        for sums in (_EACH, _CORRECTED)
        for subject in (f"'{TEAM}'", "user_id", "key_id")
    )
    + ") AS entries WHERE subject IS NOT NULL GROUP BY subject"
)
_NOTHING = Sums(in_flight=0, held_micros=0, spent_micros=0)


def _sums(row: Row) -> Sums:
    return Sums(in_flight=row["in_flight"], held_micros=row["held_micros"], spent_micros=row["spent_micros"])
