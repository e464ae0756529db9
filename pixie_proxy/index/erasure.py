"""The queries that take all there is about a user out of the index, but for the anonymous ledger.

Name, keys and sessions go with the first transaction, and from then on no query shows anything of the user; rows follow
page by page. What a folder in storage holds goes as everything does that was purged: see `states`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pixie_proxy.index import Tx, shares, states
from pixie_proxy.records import CallRecord, Settlement

# Each half along an index of its own: there is none over all images of an owner.
_IMAGES = (
    " FROM images WHERE owner_id = :user_id AND deleted_us IS NULL"
    " UNION ALL SELECT {what} FROM images WHERE owner_id = :user_id AND deleted_us IS NOT NULL"
)
_KEPT_PARAMS = ("size", "quality", "n")
_WORD = re.compile(r"[0-9a-z.]{1,16}")


def begin(tx: Tx, user_id: str, name: str, at_us: int) -> None:
    """Leave a nameless row of a user, and end all that lets it in or could be asked for again."""
    tx.run(
        "UPDATE users SET name = :name, role = 'viewer', limits = '{}', disabled = 1, is_declared = 0,"
        " deleted_us = :at WHERE id = :user_id",
        name=name,
        at=at_us,
        user_id=user_id,
    )
    tx.run("DELETE FROM keys WHERE user_id = :user_id", user_id=user_id)
    shares.remove_of_owner(tx, user_id)
    tx.run(
        "DELETE FROM deliveries WHERE (SELECT r.user_id FROM requests r WHERE r.id = request_id) = :user_id",
        user_id=user_id,
    )
    # A shape begins with its user's id and a space (relay.join).
    tx.run(
        "DELETE FROM refusals WHERE shape >= :first AND shape < :end", first=f"{user_id} ", end=f"{user_id}!"
    )
    tx.run("UPDATE corrections SET reason = '' WHERE user_id = :user_id", user_id=user_id)
    tx.run("UPDATE acts SET details = '{}' WHERE user_id = :user_id", user_id=user_id)


def begun(tx: Tx) -> list[str]:
    """Give the users of whom something may be left."""
    return [
        row["id"] for row in tx.all("SELECT id FROM users WHERE deleted_us IS NOT NULL AND erased_us IS NULL")
    ]


def end(tx: Tx, user_ids: Iterable[str], at_us: int) -> None:
    """Note that nothing is left of users."""
    for user_id in user_ids:
        tx.run("UPDATE users SET erased_us = :at WHERE id = :id", id=user_id, at=at_us)


def is_deleted(tx: Tx, user_id: str) -> bool:
    """Tell whether a user was deleted: nothing new of it may be written."""
    found = tx.one("SELECT 1 AS one FROM users WHERE id = :id AND deleted_us IS NOT NULL", id=user_id)
    return found is not None


def count_images(tx: Tx, user_id: str) -> int:
    """Count a user's images, those in the trash too."""
    rows = tx.all("SELECT count(*) AS images" + _IMAGES.format(what="count(*)"), user_id=user_id)
    return sum(int(row["images"]) for row in rows)


def erase_images(tx: Tx, user_id: str, most: int) -> int:
    """Remove some of a user's images and doom their folders; give how many that were."""
    what = "id, request_id, ref"
    rows = tx.all(f"SELECT {what}" + _IMAGES.format(what=what) + " LIMIT :most", user_id=user_id, most=most)
    files: dict[str, dict[str, str]] = {}
    for row in rows:
        tx.run("DELETE FROM images WHERE id = :id", id=row["id"])
        files.setdefault(row["request_id"], {})[row["id"]] = row["ref"].rpartition("/")[2]
    for request_id, purged in files.items():
        doom(tx, request_id, purged)
    return len(rows)


def doom(tx: Tx, request_id: str, purged: Mapping[str, str]) -> None:
    """Let a whole folder go, whatever it says of itself. `purged` are its files by image id."""
    states.mark(tx, request_id, purged)
    states.doom(tx, request_id)


def erase_calls(tx: Tx, user_id: str, after: str, most: int) -> list[str]:
    """Make some of a user's ledger rows anonymous, in the order of their ids from behind `after`; give their ids."""
    rows = tx.all(
        "SELECT id, params FROM requests WHERE user_id = :user_id AND id > :after ORDER BY id LIMIT :most",
        user_id=user_id,
        after=after,
        most=most,
    )
    for row in rows:
        tx.run(
            "UPDATE requests SET requested_model = NULL, prompt = NULL, params = :params, fingerprint = '',"
            " idempotency_key = NULL, skeleton = NULL, error = NULL, upstream_request_id = NULL WHERE id = :id",
            id=row["id"],
            params=json.dumps(_anonymous_params(json.loads(row["params"]))),
        )
    return [row["id"] for row in rows]


def anonymous_call(call: CallRecord) -> CallRecord:
    """Leave of a call what `erase_calls` leaves of its row."""
    return replace(
        call,
        requested_model=None,
        prompt=None,
        params=_anonymous_params(call.params),
        fingerprint="",
        idempotency_key=None,
    )


def anonymous_end(settlement: Settlement) -> Settlement:
    """Leave of a call's end what `erase_calls` leaves of its row."""
    return replace(settlement, skeleton=None, error=None, upstream_request_id=None)


def _anonymous_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what a price depends on, where it is a word such as `1024x1024` or `high`, or a number."""
    return {
        name: params[name]
        for name in _KEPT_PARAMS
        if name in params and _WORD.fullmatch(str(params[name])) is not None
    }
