"""`pixie recover-spool`: bring home what a host that does not come back has left in its spool."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click

from pixie_proxy import logs
from pixie_proxy.cli.accounts import json_option, show_json
from pixie_proxy.cli.auditing import open_house
from pixie_proxy.cli.options import config_options
from pixie_proxy.config import Settings, load_settings
from pixie_proxy.errors import ConfigError
from pixie_proxy.spool.area import PARTIALS, UPLOADS, Spool, calls_in, is_alive, processes_in
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.recovery import Recovery


@click.command("recover-spool")
@config_options
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
def command(config: Path | None, data_dir: Path | None, folder: Path, *, as_json: bool) -> int:
    """Bring home the calls in DIR, the spool of a host that does not come back.

    \b
    A host that starts again does this by itself, and so does a neighbour on the same host. This is for a disk
    that was taken out of a dead machine: DIR is its <data dir>/spool, made readable here. Images go to the
    storage of the settings and their rows to its index; what is home already stays as it is. Beside running
    proxies, and as often as you like. A call that can't be understood stays in DIR.

    Exit code: 0 nothing is left there, 1 something is.
    """  # noqa: D301 - click takes \b for «keep these lines»
    logs.set_up(logging.WARNING)
    settings = load_settings(config, flags={"server.data_dir": data_dir})
    strangers = {each.name for each in folder.iterdir() if each.is_dir()} - {UPLOADS, PARTIALS}
    if not any((folder / name / "lock").is_file() for name in strangers) and strangers:
        raise ConfigError(
            f"{folder}: this is no spool. Name the folder `spool` of a data directory, with the folders of its "
            "processes in it"
        )
    recovered, left = asyncio.run(_recover(settings, folder))
    if as_json:
        show_json({"object": "recovery", "recovered": recovered, "left": left})
    else:
        click.echo(f"{recovered:,} calls brought home, {left:,} left in {folder}")
    return 1 if left else 0


async def _recover(settings: Settings, folder: Path) -> tuple[int, int]:
    async with open_house(settings) as house:
        spool = Spool(folder, house.writers)
        finisher = Finisher(house.index, house.storage)
        recovered = await Recovery(spool, house.index, house.storage, finisher, house.writers).once()
    living = {each.name for each in processes_in(folder) if is_alive(folder, each.name)}
    if living:
        click.echo(f"pixie: {len(living)} processes live there: what is theirs was left alone", err=True)
    return recovered, sum(len(calls_in(each)) for each in processes_in(folder) if each.name not in living)
