"""What a copy is about to do, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_LISTED = 10_000
"""Faults that a report lists one by one; the rest is only counted."""


@dataclass(slots=True, kw_only=True)
class Amount:
    """Folders, and the images in them."""

    folders: int = 0
    images: int = 0
    size_bytes: int = 0

    def add(self, images: int, size_bytes: int) -> None:
        """Count a folder."""
        self.folders += 1
        self.images += images
        self.size_bytes += size_bytes


@dataclass(slots=True, kw_only=True)
class Survey:
    """Both sides by their listings. `extra_files` are at the destination only."""

    whole: Amount = field(default_factory=Amount)
    missing: Amount = field(default_factory=Amount)
    extra_files: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A file or folder of the source that is not at the destination as it should be, and why."""

    ref: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Report:
    """What was done. `seen` is what was looked at, `copied` what is durable at the destination and was not before."""

    seen: Amount = field(default_factory=Amount)
    copied: Amount = field(default_factory=Amount)
    states: int = 0
    """state.json files that were written alone."""
    under_way: int = 0
    """Calls that the source did not have whole yet."""
    extra_files: int = 0
    deleted_files: int = 0
    faults: int = 0
    listed: list[Fault] = field(default_factory=list)

    def fault(self, ref: str, reason: str) -> None:
        """Count a fault."""
        self.faults += 1
        if len(self.listed) < MOST_LISTED:
            self.listed.append(Fault(ref=ref, reason=reason))

    @property
    def is_clean(self) -> bool:
        """Whether the destination has what the source has, and nothing else."""
        return not (self.faults or self.extra_files or self.under_way)
