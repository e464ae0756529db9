"""The tables that hold what can't be made again, with their keys: what is copied, compared and scrubbed."""

from __future__ import annotations

TABLES: dict[str, tuple[str, ...]] = {
    "users": ("id",),
    "keys": ("id",),
    "accounts": ("subject",),
    "requests": ("id",),
    "images": ("id",),
    "settings": ("name",),
    "sessions": ("digest",),
    "states_to_write": ("request_id",),
    "deliveries": ("fingerprint", "request_id"),
    "refusals": ("shape", "retry_count", "request_id"),
    "corrections": ("id",),
    "acts": ("id",),
    "shares": ("id",),
    "parents": ("request_id", "parent_id"),
    "image_tags": ("tag", "image_id"),
    "favorites": ("user_id", "image_id"),
    "collections": ("id",),
    "collection_images": ("collection_id", "image_id"),
}
"""Each behind those that it refers to."""

NUL = "\N{SYMBOL FOR NULL}"
"""Stands for the one character that no text of PostgreSQL may hold; the files in storage keep it as it was."""
