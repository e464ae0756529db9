"""The queries for corrections: ledger entries that an admin made beside the rows of calls."""

from __future__ import annotations

from pixie_proxy.index import Tx
from pixie_proxy.records import Correction


def insert(tx: Tx, correction: Correction) -> None:
    """Add an entry. It is never changed: what was wrong with it is another one."""
    tx.run(
        "INSERT INTO corrections (id, user_id, key_id, request_id, change_micros, reason, booked_us, created_us)"
        " VALUES (:id, :user_id, :key_id, :request_id, :change_micros, :reason, :booked_us, :created_us)",
        id=correction.id,
        user_id=correction.user_id,
        key_id=correction.key_id,
        request_id=correction.request_id,
        change_micros=correction.change_micros,
        reason=correction.reason,
        booked_us=correction.booked_us,
        created_us=correction.created_us,
    )


def of_request(tx: Tx, request_id: str) -> int:
    """Add up what was corrected about one call, in micros."""
    row = tx.one(
        "SELECT coalesce(sum(change_micros), 0) AS micros FROM corrections"
        " WHERE user_id = (SELECT user_id FROM requests WHERE id = :id) AND request_id = :id",
        id=request_id,
    )
    return 0 if row is None else int(row["micros"])
