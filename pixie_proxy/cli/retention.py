"""`pixie retention`: what is too old for the gallery, and an operator's word to put it into the trash."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pixie_proxy import logs
from pixie_proxy.audit.rebuild import check_pair
from pixie_proxy.cli.accounts import json_option, show_json, show_table
from pixie_proxy.cli.auditing import House, open_house, progress, upkeep_of
from pixie_proxy.cli.options import config_options
from pixie_proxy.config import GallerySettings, Settings, load_settings
from pixie_proxy.gallery.retention import DueMonth, Retention, age_of, allowed_at_once, survey
from pixie_proxy.index import Tx, images, trash
from pixie_proxy.index.trash import Age
from pixie_proxy.metrics import Gauge
from pixie_proxy.tasks import TaskKeeper

_LAST_FOLDERS_S = 30.0
"""How long the end waits for folders on a slow storage; a proxy lets the rest follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """What was found to be too old, and what became of it. `left` is due still, for storage went away."""

    days: int
    kept: int
    allowed: int
    months: list[DueMonth]
    filled: int = 0
    left: int = 0

    @property
    def images(self) -> int:
        return sum(owner.images for month in self.months for owner in month.owners)

    @property
    def size_bytes(self) -> int:
        return sum(owner.size_bytes for month in self.months for owner in month.owners)


@click.command("retention")
@config_options
@click.option(
    "--days", type=click.IntRange(1), metavar="N", help="Judge by N days (over gallery.retention_days)"
)
@click.option(
    "--apply", "applies", is_flag=True, help="Put them into the trash; without it nothing is changed"
)
@json_option
def command(
    config: Path | None, data_dir: Path | None, *, days: int | None, applies: bool, as_json: bool
) -> int:
    """Show which images are older than gallery.retention_days. A dry run, unless --apply is given.

    \b
    A proxy puts old images into the trash by itself, but never more than 100 at once, or 1 % of all where
    that is more: a wrong clock or setting must not empty the gallery. --apply lets all of them go, once.
    From the trash they can be restored for gallery.trash_days. It may run beside a proxy, and run again.

    Exit code: 0 done, 1 some are left, 2 index or storage is not as it must be.
    """  # noqa: D301 - click takes \b for «keep these lines»
    logs.set_up(logging.CRITICAL)  # what is logged, the command says
    settings = load_settings(config, flags={"server.data_dir": data_dir})
    days = days or settings.gallery.retention_days
    if days is None:
        message = (
            "gallery.retention_days is empty: images stay for ever. See what N days would do with --days N"
        )
        raise click.UsageError(message)
    due = asyncio.run(_judge(settings, days, applies=applies))
    if as_json:
        show_json(_json(due, applies=applies))
    else:
        _show(due, settings.gallery, applies=applies)
    return 1 if due.left else 0


async def _judge(settings: Settings, days: int, *, applies: bool) -> _Due:
    age = age_of(days, time.time())

    def look(tx: Tx) -> _Due:
        return _Due(days=days, kept=images.count(tx), allowed=allowed_at_once(tx), months=survey(tx, age))

    async with open_house(settings) as house:
        await check_pair(house.index, house.storage)
        due = await house.index.read(look)
        if not applies:
            return due
        filled = await _fill(house, settings.gallery, age, due.images)
        left = await house.index.read(lambda tx: trash.count_due(tx, age))
        return _Due(
            days=days, kept=due.kept, allowed=due.allowed, months=due.months, filled=filled, left=left
        )


async def _fill(house: House, settings: GallerySettings, age: Age, due: int) -> int:
    tasks = TaskKeeper()
    upkeep = upkeep_of(house, tasks)
    retention = Retention(house.index, house.storage, upkeep, settings, Gauge("held", ""))
    try:
        with progress("Into the trash", due) as advance:
            return await retention.fill_all(age, lambda filled: advance(filled, 0))
    finally:
        await tasks.drain(_LAST_FOLDERS_S)
        await tasks.close()


def _show(due: _Due, settings: GallerySettings, *, applies: bool) -> None:
    click.echo(
        f"{due.images:,} of {due.kept:,} images are older than {due.days:,} days, {due.size_bytes / 1e9:.2f} GB."
        + ("" if applies else " This is a dry run: nothing was changed.")
    )
    if due.months:
        rows = [
            (each.month, owner.owner, f"{owner.images:,}", f"{owner.size_bytes / 1e6:,.1f}")
            for each in due.months
            for owner in each.owners
        ]
        show_table(("MONTH", "OWNER", "IMAGES", "MB"), rows)
    if applies:
        click.echo(
            f"\n{due.filled:,} are in the trash now; they can be restored for {settings.trash_days} days."
        )
        if due.left:
            click.echo(f"{due.left:,} are left: storage went away. Run it again.")
    elif due.images > due.allowed or (due.images and settings.retention_days is None):
        click.echo("\nA proxy does not do this by itself. If it is right: pixie retention --apply")
    elif due.images:
        click.echo("\nA proxy does this by itself, within five minutes.")


def _json(due: _Due, *, applies: bool) -> dict[str, Any]:
    return {
        "object": "retention",
        "applied": applies,
        "days": due.days,
        "kept": due.kept,
        "due": due.images,
        "due_bytes": due.size_bytes,
        "allowed_at_once": due.allowed,
        "months": [
            {"month": each.month, "owner": owner.owner, "images": owner.images, "bytes": owner.size_bytes}
            for each in due.months
            for owner in each.owners
        ],
        "moved": due.filled,
        "left": due.left,
    }
