"""How much a run measures: all of it, or the minute that a test can spare."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1_000_000
GB = 1_000_000_000
KEEP_FREE_BYTES = 4 * GB


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Counts and times of a run. Every load ends by itself, after `seconds` or after `…_each` answers."""

    quick: bool = False
    quiet_s: float = 30
    rounds: int = 5
    warm_s: float = 0.5
    alone_s: float = 2.0
    small_s: float = 3.0
    large_s: float = 2.0
    lag_s: float = 3.0
    disk_s: float = 0.5
    kept_s: float = 2.0
    kept_rounds: int = 3
    scale_s: float = 5.0
    scale_rounds: int = 3
    statistics_s: float = 11.0
    starts: int = 5
    answers_each: int = 4
    uploads: int = 20
    files: int = 16
    file_bytes: int = 50 * MB
    images: int = 1_000_000
    asked_each: int = 40

    @property
    def upload_bytes(self) -> int:
        """Tell what the uploads take on disk, all at once."""
        return self.uploads * self.files * self.file_bytes


FULL = Plan()
QUICK = Plan(
    quick=True,
    quiet_s=0,
    rounds=2,
    warm_s=0.1,
    alone_s=0.4,
    small_s=0.5,
    large_s=0.5,
    lag_s=0.5,
    disk_s=0.1,
    kept_s=0.5,
    kept_rounds=1,
    scale_s=2.0,
    scale_rounds=1,
    statistics_s=1.0,
    starts=2,
    answers_each=1,
    uploads=4,
    files=4,
    file_bytes=10 * MB,
    images=100_000,
    asked_each=10,
)


def fitting_uploads(plan: Plan, free_bytes: int) -> int:
    """Say how many of the planned uploads the disk can take at once: all where it has 20 GB, else fewer."""
    room = free_bytes - KEEP_FREE_BYTES
    return max(1, min(plan.uploads, room // (plan.files * plan.file_bytes)))
