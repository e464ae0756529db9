"""Keys: made at random, stored as digests."""

from __future__ import annotations

import hashlib
import re

import pytest

from pixie_proxy.accounts.keys import digest, new_key, shown_prefix


def test_a_key_can_not_be_guessed() -> None:
    """256 random bits behind our prefix; no two are alike."""
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"px-[A-Za-z0-9_-]{43}", key) for key in keys)


@pytest.mark.parametrize("key", ["px-abc", "schlüssel", "\udcff", ""])
def test_the_digest_is_plain_sha256(key: str) -> None:
    """So that an operator can write it down with any tool; bytes that are no text don't break it."""
    assert digest(key) == hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


@pytest.mark.parametrize(("key", "shown"), [("px-abcdefghijkl" * 4, "px-abcd"), ("secret12", "se"), ("", "")])
def test_little_of_a_key_is_shown(key: str, shown: str) -> None:
    """Enough to tell keys apart, never a third of one."""
    assert shown_prefix(key) == shown
