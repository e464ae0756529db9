"""How far a copy is: a bar on a terminal, a line now and then elsewhere. Only what is durable counts as copied."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from pixie_proxy.moving.report import Amount, Report, Survey

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 10.0


class Drawing:
    """The progress of one copy, on stderr. `tick` is called after each folder."""

    def __init__(self, survey: Survey, report: Report) -> None:
        """Draw nothing yet."""
        self._survey = survey
        self._report = report
        self._bar: tuple[Progress, TaskID] | None = None
        self._begun = self._told = time.monotonic()

    def __enter__(self) -> Self:
        """Begin."""
        if sys.stderr.isatty():
            self._bar = _bar(self._total_bytes)
            self._bar[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wipe the bar away."""
        if self._bar is not None:
            self._bar[0].stop()

    def tick(self) -> None:
        """Show where the copy is now."""
        if self._bar is not None:
            drawn, task = self._bar
            drawn.update(
                task, completed=self._report.copied.size_bytes, total=self._total_bytes, told=self._counts()
            )
        elif time.monotonic() - self._told >= LINE_EVERY_S:
            self._told = time.monotonic()
            click.echo(self._line(), err=True)

    @property
    def _total_bytes(self) -> int:
        """What is to copy: more, where a server goes on beside us."""
        return max(self._survey.missing.size_bytes, self._report.copied.size_bytes)

    def _counts(self) -> str:
        seen, copied, missing = self._report.seen, self._report.copied, self._survey.missing
        return (
            f"{copied.images:,} of {max(missing.images, copied.images):,} images, "
            f"{seen.folders:,} of {max(self._survey.whole.folders, seen.folders):,} folders looked at"
        )

    def _line(self) -> str:
        copied_bytes, passed_s = self._report.copied.size_bytes, self._told - self._begun
        per_s = copied_bytes / passed_s
        left = f", {(self._total_bytes - copied_bytes) / per_s:,.0f} s left" if per_s else ""
        return (
            f"Copied {self._counts()}, {copied_bytes / 1e9:.2f} of {self._total_bytes / 1e9:.2f} GB, "
            f"{per_s / 1e6:.1f} MB/s{left}"
        )


def amount(told: Amount) -> str:
    """Write an amount."""
    return f"{told.images:,} images in {told.folders:,} folders, {told.size_bytes / 1e9:.2f} GB"


def _bar(total_bytes: int) -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("Copying"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
    )
    drawn = Progress(*columns, console=Console(stderr=True), transient=True)
    return drawn, drawn.add_task("", total=total_bytes, told="")
