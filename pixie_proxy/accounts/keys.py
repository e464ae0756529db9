"""API keys: made at random, shown once, stored and looked up as digests."""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "px-"


def new_key() -> str:
    """Make a key: 256 random bits, so that its plain SHA-256 can be neither guessed nor searched."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """Give the SHA-256 that stands for a key everywhere but in its owner's hands."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def shown_prefix(key: str) -> str:
    """Give the part that lists may show, so that people can tell keys apart; a short declared key shows less."""
    return key[: min(7, len(key) // 3)]
