"""The queries for the ledger: one row a paid request, from its admission to what it cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from pixie_proxy.index import Row, Tx, lineage
from pixie_proxy.records import CallRecord, Kind, Settlement, State


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """A call and what has become of it; None where that is not known yet."""

    call: CallRecord
    state: State
    cost_micros: int | None
    usage: dict[str, Any] | None
    skeleton: bytes | None
    error: str | None
    upstream_request_id: str | None
    flags: tuple[str, ...]
    settled_us: int | None


_SELECT = (
    "SELECT id, user_id, key_id, kind, requested_model, model, prompt, params, images_asked, is_stream,"
    " fingerprint, idempotency_key, state, hold_micros, cost_micros, usage, skeleton, error,"
    " upstream_request_id, flags, process, created_us, settled_us FROM requests"
)


def insert(tx: Tx, call: CallRecord, state: Literal["admitted", "sent"]) -> None:
    """Open a row, and note the parents of what the call will bring.

    One idempotency key of one user and kind stands in at most one row (a unique index): a second insert fails as the
    database's own integrity error, unless `free_idempotency_key` came first.
    """
    tx.run(
        "INSERT INTO requests (id, user_id, key_id, kind, requested_model, model, prompt, params, images_asked,"
        " is_stream, fingerprint, idempotency_key, state, hold_micros, process, created_us)"
        " VALUES (:id, :user_id, :key_id, :kind, :requested_model, :model, :prompt, :params, :images_asked,"
        " :is_stream, :fingerprint, :idempotency_key, :state, :hold_micros, :process, :created_us)",
        id=call.id,
        user_id=call.user_id,
        key_id=call.key_id,
        kind=call.kind,
        requested_model=call.requested_model,
        model=call.model,
        prompt=call.prompt,
        params=json.dumps(call.params),
        images_asked=call.images_asked,
        is_stream=int(call.is_stream),
        fingerprint=call.fingerprint,
        idempotency_key=call.idempotency_key,
        state=state,
        hold_micros=call.hold_micros,
        process=call.process,
        created_us=call.created_us,
    )
    lineage.record(tx, call.id, call.parents)


def settle(tx: Tx, settlement: Settlement, *, of: Literal["open", "unknown"] = "open") -> bool:
    """Close a row and tell whether that changed it: an open one, or one of unknown outcome whose images turned up."""
    still = "('unknown')" if of == "unknown" else "('admitted', 'sent')"
    return (
        tx.run(
            "UPDATE requests SET state = :state, settled_us = :settled_us, cost_micros = :cost_micros,"
            " usage = :usage, skeleton = :skeleton, error = :error,"
            " upstream_request_id = :upstream_request_id, flags = :flags WHERE id = :id AND state IN "
            + still,
            id=settlement.request_id,
            state=settlement.state,
            settled_us=settlement.settled_us,
            cost_micros=settlement.cost_micros,
            usage=None if settlement.usage is None else json.dumps(settlement.usage),
            skeleton=settlement.skeleton,
            error=settlement.error,
            upstream_request_id=settlement.upstream_request_id,
            flags=json.dumps(settlement.flags),
        )
        > 0
    )


def get(tx: Tx, request_id: str) -> LedgerRow | None:
    """Find a row by the request's id."""
    return _maybe(tx.one(_SELECT + " WHERE id = :id", id=request_id))


def charged_as_unknown(tx: Tx, request_id: str) -> int | None:
    """Give what a call of unknown outcome was charged, in micros; None if it is no such call."""
    row = tx.one("SELECT cost_micros FROM requests WHERE id = :id AND state = 'unknown'", id=request_id)
    return None if row is None else int(row["cost_micros"] or 0)


def open_processes(tx: Tx) -> set[str]:
    """Give the processes that have calls which are not settled."""
    rows = tx.all("SELECT DISTINCT process FROM requests WHERE state IN ('admitted', 'sent')")
    return {row["process"] for row in rows}


def open_calls(tx: Tx, process: str) -> list[LedgerRow]:
    """Give the calls that a process has not settled, oldest first."""
    sql = _SELECT + " WHERE process = :process AND state IN ('admitted', 'sent') ORDER BY id"
    return [_row(row) for row in tx.all(sql, process=process)]


def find_by_idempotency_key(tx: Tx, user_id: str, kind: Kind, key: str) -> LedgerRow | None:
    """Find the call that holds an idempotency key, whatever its age or fingerprint."""
    sql = _SELECT + " WHERE user_id = :user_id AND kind = :kind AND idempotency_key = :key"
    return _maybe(tx.one(sql, user_id=user_id, kind=kind, key=key))


def free_idempotency_key(tx: Tx, user_id: str, kind: Kind, key: str) -> None:
    """Let a new call use a key whose holder has failed, or had it for longer than a day."""
    tx.run(
        "UPDATE requests SET idempotency_key = NULL"
        " WHERE user_id = :user_id AND kind = :kind AND idempotency_key = :key",
        user_id=user_id,
        kind=kind,
        key=key,
    )


def _maybe(row: Row | None) -> LedgerRow | None:
    return None if row is None else _row(row)


def _row(row: Row) -> LedgerRow:
    return LedgerRow(
        call=CallRecord(
            id=row["id"],
            user_id=row["user_id"],
            key_id=row["key_id"],
            kind=row["kind"],
            requested_model=row["requested_model"],
            model=row["model"],
            prompt=row["prompt"],
            params=json.loads(row["params"]),
            images_asked=row["images_asked"],
            is_stream=bool(row["is_stream"]),
            fingerprint=row["fingerprint"],
            idempotency_key=row["idempotency_key"],
            hold_micros=row["hold_micros"],
            process=row["process"],
            created_us=row["created_us"],
        ),
        state=row["state"],
        cost_micros=row["cost_micros"],
        usage=None if row["usage"] is None else json.loads(row["usage"]),
        skeleton=None if row["skeleton"] is None else bytes(row["skeleton"]),
        error=row["error"],
        upstream_request_id=row["upstream_request_id"],
        flags=tuple(json.loads(row["flags"])),
        settled_us=row["settled_us"],
    )
