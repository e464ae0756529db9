"""`pixie restore`: check a backup, and bring a house back from it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click

from pixie_proxy import backends, logs
from pixie_proxy.backup import restoring
from pixie_proxy.backup.record import INDEX, Record
from pixie_proxy.backup.restoring import Restored
from pixie_proxy.cli.accounts import json_option, moment, show_json
from pixie_proxy.cli.auditing import open_house, progress
from pixie_proxy.cli.options import config_options
from pixie_proxy.config import Settings, load_settings
from pixie_proxy.errors import ConfigError
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.recovery import Recovery
from pixie_proxy.threads import WorkerThreads

_THREADS = 8
_SHOWN = 20


@click.command("restore")
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@config_options
@click.option("--check", "checks_only", is_flag=True, help="Read the whole backup, and change nothing")
@click.option("--skip-damaged", is_flag=True, help="Restore all but the files that are damaged in the backup")
@click.option(
    "--images-only", is_flag=True, help="Bring only images back that storage lacks; the index stays as it is"
)
@json_option
def command(
    source: Path,
    config: Path | None,
    data_dir: Path | None,
    *,
    checks_only: bool,
    skip_damaged: bool,
    images_only: bool,
    as_json: bool,
) -> int:
    """Bring everything back from the backup in DIR, into an empty data directory.

    \b
    First every file is read and its SHA-256 compared; if one is damaged nothing is restored. Then come images,
    spool and index, and calls that were under way are settled as after a crash. A storage that is still there
    keeps what it has, and gets what it lacks; an image bucket is used as it is. Broken off, it goes on when it
    is run again.

    Exit code: 0 all is well, 1 the backup is damaged, 2 it can't be restored here.
    """  # noqa: D301 - click takes \b for «keep these lines»
    logs.set_up(logging.ERROR)  # what a recovery logs, the report says
    settings = load_settings(config, flags={"server.data_dir": data_dir})
    if backends.is_postgres(settings) and not (images_only or checks_only):
        raise ConfigError(
            "index.url: a backup's index is a SQLite file: restore with PIXIE_INDEX__URL=null, then: "
            "pixie migrate-index --from sqlite --to postgres. Nothing was changed"
        )
    record = restoring.read_record(source)
    with progress("Checking", record.files, unit="files") as advance:
        damaged = asyncio.run(restoring.damage(source, record, advance))
    is_usable = f"{record.run}/{INDEX}" not in damaged and (skip_damaged or not damaged)
    restored = None
    if is_usable and not checks_only:
        restored = asyncio.run(_restore(settings, source, record, damaged, images_only=images_only))
    if as_json:
        show_json(
            {
                "object": "restore",
                "made": moment(record.made_us),
                "files": record.files,
                "damaged": damaged,
                "restored": restored is not None,
                "images": restored.images if restored else 0,
                "left_alone": restored.left_alone if restored else 0,
            }
        )
    else:
        _show(record, damaged, restored)
    return 1 if damaged else 0


async def _restore(
    settings: Settings, source: Path, record: Record, damaged: list[str], *, images_only: bool
) -> Restored:
    server = settings.server.model_copy(update={"require_existing": False})
    settings = settings.model_copy(update={"server": server})  # an index that is lost is what we are for
    backends.prepare_data_dir(settings)
    data_dir = server.data_dir
    writers = WorkerThreads(_THREADS, "durable")
    storage = backends.open_storage(settings, writers, Spool(data_dir / "spool", writers).disk)
    try:
        await restoring.check_place(source, record, data_dir, storage, images_only=images_only)
        is_local = settings.storage.kind == "local"
        restoring.check_room(record, data_dir, settings.storage_path if is_local else None)
        with progress("Restoring", record.images) as advance:
            restored = await restoring.restore(
                source,
                record,
                data_dir,
                storage,
                damaged=damaged,
                progress=advance,
                images_only=images_only,
            )
    finally:
        await storage.close()
        await asyncio.to_thread(writers.close)
    if not images_only:
        await _recover(settings)
    return restored


async def _recover(settings: Settings) -> None:
    """Settle what was under way, as the next start would: then storage, index and spool agree."""
    async with open_house(settings) as house:
        finisher = Finisher(house.index, house.storage)
        house.spool.open()
        try:
            await Recovery(house.spool, house.index, house.storage, finisher, house.writers).once()
        finally:
            house.spool.close()


def _show(record: Record, damaged: list[str], restored: Restored | None) -> None:
    made = f"The backup of {moment(record.made_us)}"
    if damaged:
        click.echo(f"{made}: {len(damaged):,} of {record.files:,} files are damaged:")
        for path in damaged[:_SHOWN]:
            click.echo(f"  {path}")
        if f"{record.run}/{INDEX}" in damaged:
            click.echo("Its index is among them: copy images back by hand, and run: pixie reindex --apply")
        elif restored is None:
            click.echo("Nothing was restored. To restore the others: pixie restore --skip-damaged")
    else:
        click.echo(f"{made}: all {record.files:,} files are as they were written.")
    if restored is not None:
        there = f", {restored.left_alone:,} folders were there" if restored.left_alone else ""
        click.echo(f"Restored {restored.images:,} images{there}.\n\nNext: pixie verify, then pixie serve")
