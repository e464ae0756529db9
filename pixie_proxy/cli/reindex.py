"""`pixie reindex`: rebuild what the index has lost from the request.json files in storage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from pixie_proxy import backends
from pixie_proxy.audit.rebuild import Rebuilt, rebuild
from pixie_proxy.cli.accounts import json_option, show_json, show_table
from pixie_proxy.cli.auditing import open_house, progress
from pixie_proxy.cli.options import config_options
from pixie_proxy.config import Settings, load_settings

_SHOWN = 20


@click.command("reindex")
@config_options
@click.option("--apply", "applies", is_flag=True, help="Write; without it nothing is changed")
@click.option("--hash", "hashes", is_flag=True, help="Read every image and compare its SHA-256, too")
@json_option
def command(
    config: Path | None, data_dir: Path | None, *, applies: bool, hashes: bool, as_json: bool
) -> None:
    """Add to the index what storage knows and the index does not. A dry run, unless --apply is given.

    \b
    Images, their requests and costs come back as they were, and may be asked for again without being paid
    again. Their owners come back disabled and without a key, unless the settings declare them. What is in
    the index is never changed, nothing is ever deleted, so it may run beside a server and run again.

    \b
    Not in storage, so only in a backup: keys, limits, failed requests, and the secret of links (links that
    were given out before are worthless then).

    A damaged index is refused: move pixie.db* aside first. Exit code 2: index or storage is not as it must be.
    """  # noqa: D301 - click takes \b for «keep these lines»
    settings = load_settings(config, flags={"server.data_dir": data_dir})
    result = asyncio.run(_rebuild(settings, applies=applies, hashes=hashes))
    if as_json:
        show_json(_json(result, applies=applies))
    else:
        _show(result, applies=applies)


async def _rebuild(settings: Settings, *, applies: bool, hashes: bool) -> Rebuilt:
    if applies:  # a lost index is what `require_existing` is about, and here it is made again
        server = settings.server.model_copy(update={"require_existing": False})
        backends.prepare_data_dir(settings.model_copy(update={"server": server}))
    with (
        _index_dir(settings, applies=applies) as index_dir,
        progress("Reindexing" if applies else "Reading") as advance,
    ):
        async with open_house(settings, index_dir) as house:
            return await rebuild(house.index, house.storage, applies=applies, hashes=hashes, progress=advance)


@contextmanager
def _index_dir(settings: Settings, *, applies: bool) -> Iterator[Path | None]:
    """Give a dry run an empty index of its own where there is none: it leaves nothing behind."""
    if applies or backends.has_index(settings):
        yield None
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)


def _show(result: Rebuilt, *, applies: bool) -> None:
    click.echo(
        f"Read {result.folders:,} folders with {result.images:,} images."
        + ("" if applies else " This is a dry run: nothing was changed.")
    )
    show_table(
        ("added" if applies else "to add", ""),
        [
            ("images", f"{result.added_images:,}"),
            ("requests", f"{result.added_requests:,}"),
            ("users, disabled and without a key", _names(result)),
        ],
    )
    notes = (
        (result.missing, "images have no file: restore them from a backup"),
        (result.damaged, "images are damaged: they are listed, and not served"),
        (result.private, "images are private now: their state.json can't be read"),
        (len(result.unreadable), "folders can't be understood:"),
    )
    for count, text in notes:
        if count:
            click.echo(f"{count:,} {text}")
    for ref, reason in result.unreadable[:_SHOWN]:
        click.echo(f"  {ref}  {reason}")
    if not applies and result.added_images:
        click.echo("\nNext: pixie reindex --apply")
    elif result.added_users:
        click.echo(
            "\nNext: make an admin (pixie user add NAME --role admin, or pixie user set NAME --role admin),"
            "\nlet users in (pixie user enable NAME; pixie key add NAME), and start: pixie serve"
        )
    elif applies:
        click.echo("\nNext: pixie serve")


def _names(result: Rebuilt) -> str:
    names = sorted(result.added_users.values())
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "") if names else "0"


def _json(result: Rebuilt, *, applies: bool) -> dict[str, Any]:
    return {
        "object": "reindex",
        "applied": applies,
        "folders": result.folders,
        "images": result.images,
        "added": {
            "images": result.added_images,
            "requests": result.added_requests,
            "users": sorted(result.added_users.values()),
        },
        "missing": result.missing,
        "damaged": result.damaged,
        "private": result.private,
        "unreadable": [{"ref": ref, "reason": reason} for ref, reason in result.unreadable],
    }
