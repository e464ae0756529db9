"""The queries for the log of what admins did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pixie_proxy.index import Row, Tx
from pixie_proxy.index.walking import Walk, asked
from pixie_proxy.records import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act. `actor` None is the command line or the settings; names are None when their user is gone."""

    id: str
    action: str
    actor_id: str | None
    actor_key_id: str | None
    user_id: str | None
    key_id: str | None
    details: dict[str, Any]
    actor_name: str | None = None
    user_name: str | None = None


_SELECT = (
    "SELECT a.id, a.action, a.actor_id, a.actor_key_id, a.user_id, a.key_id, a.details, w.name AS actor_name,"
    " u.name AS user_name FROM acts a LEFT JOIN users w ON w.id = a.actor_id LEFT JOIN users u ON u.id = a.user_id"
)


def insert(tx: Tx, act: Act) -> None:
    """Add an act, in the transaction of what it tells of."""
    tx.run(
        "INSERT INTO acts (id, action, actor_id, actor_key_id, user_id, key_id, details)"
        " VALUES (:id, :action, :actor_id, :actor_key_id, :user_id, :key_id, :details)",
        id=act.id,
        action=act.action,
        actor_id=act.actor_id,
        actor_key_id=act.actor_key_id,
        user_id=act.user_id,
        key_id=act.key_id,
        details=json.dumps(act.details),
    )


def page(tx: Tx, walk: Walk, *, user_id: str | None = None, action: str | None = None) -> Page[Act]:
    """List acts, of all or about one user."""
    conditions = asked({"a.user_id = :user_id": user_id, "a.action = :action": action})
    rows = tx.all(
        _SELECT + walk.along("a.id", conditions), user_id=user_id, action=action, **walk.values("act")
    )
    return walk.page([_act(row) for row in rows])


def _act(row: Row) -> Act:
    return Act(**{**dict(row), "details": json.loads(row["details"])})
