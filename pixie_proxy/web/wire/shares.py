"""Shares on the wire."""

from __future__ import annotations

from typing import Any

from pixie_proxy.index.shares import Share
from pixie_proxy.records import id_time_us


def share_json(share: Share, url: str | None = None) -> dict[str, Any]:
    """Write a share; only the one that was just made has its `url`."""
    return {
        "id": share.id,
        "object": "share",
        "image_id": share.image_id,
        "url": url,
        "created": id_time_us(share.id) // 1_000_000,
        "expires_at": None if share.expires_us is None else share.expires_us // 1_000_000,
        "revoked_at": None if share.revoked_us is None else share.revoked_us // 1_000_000,
        "has_password": share.password is not None,
        "show_prompt": share.shows_prompt,
        "views": share.views,
    }
