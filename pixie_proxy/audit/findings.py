"""What an audit can find, and where to go from there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "rotten",
    "wrong_size",
    "dangling",
    "orphan",
    "mismatch",
    "bad_manifest",
    "stale_spool",
    "leftover",
    "account",
]

MEANINGS: dict[Kind, tuple[str, str]] = {
    "rotten": ("bytes changed", "restore the file from a backup; it is not served until then"),
    "wrong_size": ("another size", "restore the file from a backup; it is not served until then"),
    "dangling": ("in the index, not in storage", "restore the file from a backup, or delete the image"),
    "orphan": ("in storage, not in the index", "pixie verify --fix adds those that have a good request.json"),
    "mismatch": ("index and request.json differ", "find out which is right: was one of them restored?"),
    "bad_manifest": ("request.json or state.json is bad", "restore the file from a backup"),
    "stale_spool": ("left by a process that died", "start pixie serve, or pixie verify --fix"),
    "leftover": ("temporary file", "pixie verify --fix removes it"),
    "account": (
        "an account is not its ledger's sum",
        "pixie verify --fix sets it to that; please report it, with --json",
    ),
}
"""What each kind is, and what to do about it."""

UNSERVED: frozenset[Kind] = frozenset({"rotten", "wrong_size", "dangling"})
"""Kinds that are noted in the index, so that such an image is never served as if it were good."""

MOST_LISTED = 10_000
"""Findings that a report lists one by one; the rest is only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be. `ref` is its address in storage, or its path in the spool."""

    kind: Kind
    ref: str
    detail: str
    request_id: str | None = None
    image_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Report:
    """What an audit has seen, and what it found."""

    folders: int = 0
    images: int = 0
    size_bytes: int = 0
    elsewhere: int = 0
    """Images that storage has not got yet, or not whole, and that may be in the spool of another host."""
    counts: Counter[Kind] = field(default_factory=Counter)
    fixed: Counter[Kind] = field(default_factory=Counter)
    listed: list[tuple[Finding, bool]] = field(default_factory=list)
    """The findings, each with whether it was mended."""

    def add(self, finding: Finding, *, is_fixed: bool = False) -> None:
        """Count a finding."""
        self.counts[finding.kind] += 1
        self.fixed[finding.kind] += is_fixed
        if len(self.listed) < MOST_LISTED:
            self.listed.append((finding, is_fixed))

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left to do."""
        return self.counts.total() == self.fixed.total()
