"""The queries for shares: links to a page with one image. What ends an image's links ends them too, by a trigger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pixie_proxy.index import Row, Tx

_SELECT = "SELECT id, image_id, password, shows_prompt, expires_us, revoked_us, views FROM shares"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share as it is kept; when it was made is in its id. `password` is a hash, None where none is asked for."""

    id: str
    image_id: str
    password: str | None = field(default=None, repr=False)
    shows_prompt: bool = False
    expires_us: int | None = None
    revoked_us: int | None = None
    views: int = 0

    def is_live(self, now_us: int) -> bool:
        """Tell whether it opens anything."""
        return self.revoked_us is None and (self.expires_us is None or now_us < self.expires_us)


def insert(tx: Tx, share: Share, digest: str) -> None:
    """Add a share, found by the digest of its token from now on."""
    tx.run(
        "INSERT INTO shares (id, image_id, digest, password, shows_prompt, expires_us)"
        " VALUES (:id, :image_id, :digest, :password, :shows_prompt, :expires_us)",
        id=share.id,
        image_id=share.image_id,
        digest=digest,
        password=share.password,
        shows_prompt=int(share.shows_prompt),
        expires_us=share.expires_us,
    )


def by_digest(tx: Tx, digest: str) -> Share | None:
    """Find a share by its token's digest; whether it is live is for the caller to judge."""
    row = tx.one(_SELECT + " WHERE digest = :digest", digest=digest)
    return None if row is None else _share(row)


def of_image(tx: Tx, image_id: str) -> list[Share]:
    """Give the shares of an image, newest first, dead ones too."""
    rows = tx.all(_SELECT + " WHERE image_id = :image_id ORDER BY id DESC", image_id=image_id)
    return [_share(row) for row in rows]


def revoke(tx: Tx, share_id: str, at_us: int) -> None:
    """End a share; one that has ended stays as it is."""
    tx.run("UPDATE shares SET revoked_us = :at WHERE id = :id AND revoked_us IS NULL", at=at_us, id=share_id)


def remove(tx: Tx, share_id: str) -> None:
    """Forget a share."""
    tx.run("DELETE FROM shares WHERE id = :id", id=share_id)


def add_views(tx: Tx, views: Mapping[str, int]) -> None:
    """Count how often shares were looked at."""
    for share_id, more in views.items():
        tx.run("UPDATE shares SET views = views + :more WHERE id = :id", more=more, id=share_id)


def remove_of_owner(tx: Tx, owner_id: str) -> int:
    """Forget every share of a user's images, whoever made it; returns how many."""
    return tx.run(
        "DELETE FROM shares WHERE image_id IN (SELECT id FROM images WHERE owner_id = :owner_id)",
        owner_id=owner_id,
    )


def _share(row: Row) -> Share:
    return Share(**{**dict(row), "shows_prompt": bool(row["shows_prompt"])})
