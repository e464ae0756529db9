"""`pixie backup`: copy index, spool and images into a folder, beside a server that goes on."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import click

from pixie_proxy import backends
from pixie_proxy.backup.making import make_backup
from pixie_proxy.backup.record import OBJECT, Record
from pixie_proxy.backup.target import Source, check_place
from pixie_proxy.cli.accounts import json_option, show_json
from pixie_proxy.cli.auditing import progress
from pixie_proxy.cli.options import config_options
from pixie_proxy.config import Settings, load_settings
from pixie_proxy.errors import ConfigError
from pixie_proxy.spool.area import Spool
from pixie_proxy.threads import WorkerThreads


@click.command("backup")
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@config_options
@click.option(
    "--images/--no-images",
    "with_images",
    default=None,
    help="Copy the images, too. Default: from a local storage yes, from a bucket no",
)
@json_option
def command(
    target: Path, config: Path | None, data_dir: Path | None, *, with_images: bool | None, as_json: bool
) -> int:
    """Make a backup in DIR, or bring the one that is there up to date.

    \b
    It works beside a running proxy. The index is copied as it is at one moment: users, keys (as digests),
    ledger, budgets, the secret of links. Every image that was acknowledged before is in the backup, too.
    Images never change, so only new ones are copied. A run that is broken off leaves the earlier backup whole.

    \b
    Not in it: the settings file, and who is signed in with a browser. Images in a bucket stay there, unless
    --images is given. Keep DIR where only you can read it: it holds prompts and images.

    Exit code: 0 all is there, 1 images were missing or damaged at their source (pixie verify), 2 no backup was made.
    """  # noqa: D301 - click takes \b for «keep these lines»
    settings = load_settings(config, flags={"server.data_dir": data_dir})
    if not backends.has_index(settings):
        if backends.is_postgres(settings):
            raise ConfigError("index.url: the database holds no index: name the right one")
        folder = settings.server.data_dir
        raise ConfigError(f"server.data_dir: {folder} holds no pixie.db: name the right folder with --data")
    is_local = settings.storage.kind == "local"
    check_place(target, [settings.server.data_dir, *([settings.storage_path] if is_local else [])])
    has_images = is_local if with_images is None else with_images
    record = asyncio.run(_backup(settings, target, has_images=has_images))
    if as_json:
        show_json({"object": OBJECT, **asdict(record)})
    else:
        _show(record, target)
    return 1 if record.missing or record.damaged else 0


async def _backup(settings: Settings, target: Path, *, has_images: bool) -> Record:
    data_dir = settings.server.data_dir
    writers = WorkerThreads(1, "durable")
    storage = backends.open_storage(
        settings, writers, Spool(data_dir / "spool", writers).disk, must_exist=True
    )
    source = Source(
        index=backends.index_place(settings),
        spool=data_dir / "spool",
        storage=storage,
        has_images=has_images,
    )
    try:
        with progress("Backing up") as advance:
            return await make_backup(source, target, advance)
    finally:
        await storage.close()


def _show(record: Record, target: Path) -> None:
    images = f"{record.images:,} images, " if record.has_images else ""
    click.echo(f"{target}: {images}{record.files:,} files, {record.size_bytes / 1e9:.2f} GB: a whole backup")
    if not record.has_images:
        click.echo("Images are not in it: they stay in their bucket (--images copies them).")
    if record.missing or record.damaged:
        click.echo(
            f"{record.missing:,} images were missing and {record.damaged:,} damaged where they should be. "
            "Next: pixie verify"
        )
