"""`pixie storage copy`: bring a whole collection to another storage, verified, beside a running server too."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import click

from pixie_proxy import backends
from pixie_proxy.cli.accounts import json_option, show_json
from pixie_proxy.cli.copying import Drawing, amount
from pixie_proxy.cli.options import config_options
from pixie_proxy.cli.places import check_apart, place, spoken
from pixie_proxy.config import Settings
from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.moving.copying import Copy
from pixie_proxy.moving.report import Amount, Report, Survey
from pixie_proxy.moving.staging import Staging, opened
from pixie_proxy.storage import INCOMING, StorageRefused
from pixie_proxy.threads import WorkerThreads

_SHOWN = 20
_THREADS = 8
_STAGING = "copying"

_PLACE = "local|s3|s3://BUCKET/PREFIX|FOLDER|FILE.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copied:
    survey: Survey
    report: Report | None
    """None: it was a dry run."""


@click.group("storage")
def command() -> None:
    """Bring the images to another storage."""


@command.command("copy")
@click.option("--from", "source", required=True, metavar="PLACE", help=f"Where the images are: {_PLACE}")
@click.option("--to", "target", required=True, metavar="PLACE", help="Where they shall be, too")
@click.option("--dry-run", is_flag=True, help="Say what is to do, by the listings, and do nothing")
@click.option(
    "--hash", "hashes", is_flag=True, help="Read what is at the destination already, every byte, too"
)
@click.option(
    "--delete-extra",
    "deletes",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Delete the files that only the destination has, if they are N at most",
)
@json_option
@config_options
def copy(
    source: str,
    target: str,
    *,
    dry_run: bool,
    hashes: bool,
    deletes: int,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
) -> int:
    """Copy all images with all that is known of them. The source is never changed.

    \b
    local          the folder of the settings (storage.path, else <data_dir>/storage)
    s3             the bucket of the settings (storage.s3), whatever storage.kind says
    s3://B/PREFIX  another bucket, with region, endpoint and access key of storage.s3
    FILE.yaml      the storage of another settings file; for another server or access key
    FOLDER         any folder

    \b
    From the disk to the bucket that config.yaml names, and back to a new disk:
      pixie storage copy --from local --to s3
      pixie storage copy --from s3 --to /mnt/new/storage

    \b
    Every image is held against its SHA-256 on the way. What is damaged is named and not copied, the rest is.
    What is at the destination already stays: so a copy that was stopped or killed goes on where it was. It may
    run beside the server; stop that one afterwards and run the same again, which is quick: new images and
    changes follow. Then change the settings and start. Nothing is deleted without --delete-extra.

    Exit code: 0 all of it is there, 1 something is left to do, 2 it can't be done so.
    """  # noqa: D301 - click takes \b for «keep these lines»
    places = place(source, config, data_dir), place(target, config, data_dir)
    check_apart(*places)
    try:
        done = asyncio.run(_copy(*places, dry_run=dry_run, hashes=hashes, deletes=deletes))
    except StorageRefused:
        raise
    except StorageUnavailable as exc:
        message = f"{exc.message} What was copied stays: run the same again"
        raise click.ClickException(message) from None
    if as_json:
        show_json(_json(done, *places))
    else:
        _show(done)
    return 0 if done.report is None or done.report.is_clean else 1


async def _copy(source: Settings, target: Settings, *, dry_run: bool, hashes: bool, deletes: int) -> _Copied:
    writers = WorkerThreads(_THREADS, "durable")
    async with AsyncExitStack() as closing:
        closing.push_async_callback(asyncio.to_thread, writers.close)
        here = backends.open_storage(source, writers, None, must_exist=True)
        closing.push_async_callback(here.close)
        there = backends.open_storage(target, writers, None, makes=not dry_run)
        closing.push_async_callback(there.close)
        copying = Copy(here, there, hashes=hashes, deletes=deletes)
        survey = await copying.survey()
        if dry_run:
            return _Copied(survey=survey, report=None)
        root = _staging_root(target)
        closing.enter_context(opened(root))
        closing.push_async_callback(there.close)  # before the staging goes: it may still take from there
        staging = Staging(root, here, is_durable=target.storage.kind == "local")
        with Drawing(survey, copying.report) as drawing:
            return _Copied(survey=survey, report=await copying.run(staging, drawing.tick))


def _staging_root(target: Settings) -> Path:
    """Choose where calls are gathered: on the destination's disk, which renames them; never in memory, if we can."""
    if target.storage.kind == "local":
        return target.storage_path / INCOMING / _STAGING
    data_dir = target.server.data_dir
    return data_dir / _STAGING if data_dir.is_dir() else Path(mkdtemp(prefix="pixie-copy-"))


def _show(done: _Copied) -> None:
    survey, report = done.survey, done.report
    if report is None:
        click.echo(f"At the source: {amount(survey.whole)}. To copy: {amount(survey.missing)}.")
        _show_extra(survey.extra_files)
        click.echo("This is a dry run: nothing was changed, and nothing was read but listings.")
        return
    click.echo(
        f"Copied: {amount(report.copied)}; state.json written alone: {report.states:,}. "
        f"At the source: {amount(report.seen)}."
    )
    if report.deleted_files:
        click.echo(f"Deleted at the destination: {report.deleted_files:,} files.")
    if report.under_way:
        click.echo(f"Calls that were on their way: {report.under_way:,}. Run the same again.")
    _show_extra(report.extra_files)
    if report.faults:
        click.echo(f"Not copied: {report.faults:,}")
        for fault in report.listed[:_SHOWN]:
            click.echo(f"  {fault.ref}  {fault.reason}")
        if report.faults > _SHOWN:
            click.echo(f"  … and {report.faults - _SHOWN:,} more (--json lists them)")
        click.echo("Keep the source until these are mended there, from a backup; then run the same again.")
    elif report.is_clean:
        click.echo("All of it is at the destination. If a server ran meanwhile: stop it, run the same again.")


def _show_extra(files: int) -> None:
    if files:
        click.echo(
            f"Only at the destination: {files:,} files. Were they deleted at the source? --delete-extra {files}"
        )


def _json(done: _Copied, source: Settings, target: Settings) -> dict[str, Any]:
    survey, report = done.survey, done.report or Report()
    whole = survey.whole if done.report is None else report.seen
    return {
        "object": "storage.copy",
        "from": spoken(source),
        "to": spoken(target),
        "dry_run": done.report is None,
        "clean": done.report is not None and report.is_clean,
        "source": _amount_json(whole),
        "missing": _amount_json(survey.missing),
        "copied": _amount_json(report.copied),
        "states": report.states,
        "under_way": report.under_way,
        "extra_files": survey.extra_files if done.report is None else report.extra_files,
        "deleted_files": report.deleted_files,
        "faults": [{"ref": fault.ref, "reason": fault.reason} for fault in report.listed],
        "faults_left_out": report.faults - len(report.listed),
    }


def _amount_json(told: Amount) -> dict[str, int]:
    return {"folders": told.folders, "images": told.images, "bytes": told.size_bytes}
