"""The queries for looking back at the ledger: one call, or a page of calls, with what they made."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from pixie_proxy.index import Row, Tx
from pixie_proxy.index.walking import Walk, asked
from pixie_proxy.records import Kind, Page, State


@dataclass(frozen=True, slots=True, kw_only=True)
class PastCall:
    """A call as the ledger tells of it. Money in micros; `cost_micros` is None while the call runs."""

    id: str
    owner_id: str
    owner_name: str
    key_id: str | None
    key_name: str | None
    kind: Kind
    requested_model: str | None
    model: str
    prompt: str | None
    params: dict[str, Any]
    images_asked: int
    image_ids: tuple[str, ...]
    """What is in the gallery of it now, or in the trash."""
    is_stream: bool
    state: State
    hold_micros: int
    cost_micros: int | None
    usage: dict[str, Any] | None
    error: str | None
    flags: tuple[str, ...]
    upstream_request_id: str | None
    created_us: int
    settled_us: int | None


_SELECT = (
    "SELECT r.id, r.user_id, u.name AS owner_name, r.key_id, k.name AS key_name, r.kind, r.requested_model, r.model,"
    " r.prompt, r.params, r.images_asked, r.is_stream, r.state, r.hold_micros, r.cost_micros, r.usage, r.error,"
    " r.flags, r.upstream_request_id, r.created_us, r.settled_us, u.deleted_us"
    " FROM requests r JOIN users u ON u.id = r.user_id LEFT JOIN keys k ON k.id = r.key_id"
)


def get(tx: Tx, request_id: str) -> PastCall | None:
    """Find a call by id; who may see it is for the caller to judge."""
    row = tx.one(_SELECT + " WHERE r.id = :id", id=request_id)
    return None if row is None else _past(tx, row)


def page(
    tx: Tx,
    walk: Walk,
    *,
    owner_id: str | None = None,
    key_id: str | None = None,
    model: str | None = None,
    kind: Kind | None = None,
    state: State | None = None,
) -> Page[PastCall]:
    """List calls, of one user or of all."""
    conditions = asked(
        {
            "r.user_id = :owner_id": owner_id,
            "r.key_id = :key_id": key_id,
            "r.model = :model": model,
            "r.kind = :kind": kind,
            "r.state = :state": state,
        }
    )
    rows = tx.all(
        _SELECT + walk.along("r.id", conditions),
        owner_id=owner_id,
        key_id=key_id,
        model=model,
        kind=kind,
        state=state,
        **walk.values("req"),
    )
    return walk.page([_past(tx, row) for row in rows])


def _past(tx: Tx, row: Row) -> PastCall:
    past = _whole(tx, row)
    if row["deleted_us"] is None:
        return past
    # What is still in the row is on its way out.
    return replace(
        past,
        requested_model=None,
        prompt=None,
        params={},
        image_ids=(),
        error=None,
        upstream_request_id=None,
    )


def _whole(tx: Tx, row: Row) -> PastCall:
    images = tx.all("SELECT id FROM images WHERE request_id = :id ORDER BY position", id=row["id"])
    return PastCall(
        id=row["id"],
        owner_id=row["user_id"],
        owner_name=row["owner_name"],
        key_id=row["key_id"],
        key_name=row["key_name"],
        kind=row["kind"],
        requested_model=row["requested_model"],
        model=row["model"],
        prompt=row["prompt"],
        params=json.loads(row["params"]),
        images_asked=row["images_asked"],
        image_ids=tuple(image["id"] for image in images),
        is_stream=bool(row["is_stream"]),
        state=row["state"],
        hold_micros=row["hold_micros"],
        cost_micros=row["cost_micros"],
        usage=None if row["usage"] is None else json.loads(row["usage"]),
        error=row["error"],
        flags=tuple(json.loads(row["flags"])),
        upstream_request_id=row["upstream_request_id"],
        created_us=row["created_us"],
        settled_us=row["settled_us"],
    )
