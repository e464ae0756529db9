"""What keeps a proxy from working, or soon will: looked at from outside, beside a server that runs or without one.

Nothing lasting is changed, nothing is bought, no secret is shown, and no check takes longer than a few seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check saw, in one line without its end, and what mends it where something is wrong."""

    level: Level
    saw: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """Say both."""
        return f"{self.saw}: {self.remedy}" if self.remedy else self.saw


def ok(saw: str) -> Finding:
    """Say that something is as it should be."""
    return Finding(level="ok", saw=saw)


def warning(saw: str, remedy: str) -> Finding:
    """Say what works, and will not for ever or not for everybody."""
    return Finding(level="warning", saw=saw, remedy=remedy)


def fault(saw: str, remedy: str) -> Finding:
    """Say what does not work."""
    return Finding(level="fault", saw=saw, remedy=remedy)


def sentence(message: str) -> str:
    """Take an error's first sentence as a finding: what is for clients stands behind it."""
    return message.partition(". ")[0].rstrip(".")
