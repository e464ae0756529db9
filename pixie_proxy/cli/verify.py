"""`pixie verify`: hold storage against index, manifests and ledger, byte by byte, and mend what is safe."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import click

from pixie_proxy import backends, logs
from pixie_proxy.audit.findings import MEANINGS, Report
from pixie_proxy.audit.verify import Verification
from pixie_proxy.cli.accounts import json_option, show_json, show_table
from pixie_proxy.cli.auditing import open_house, progress
from pixie_proxy.cli.options import config_options
from pixie_proxy.config import Settings, load_settings
from pixie_proxy.errors import ConfigError, Unavailable
from pixie_proxy.index.audit import totals
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.presence import Presence
from pixie_proxy.spool.recovery import Recovery

_SHOWN = 20
"""Findings that are shown to people; --json lists more."""


@click.command("verify")
@config_options
@click.option(
    "--fix", "fixes", is_flag=True, help="Mend what is safe to mend; never deletes an image or a row"
)
@click.option("--quick", is_flag=True, help="Compare sizes only, and read no image")
@json_option
def command(config: Path | None, data_dir: Path | None, *, fixes: bool, quick: bool, as_json: bool) -> int:
    """Find what is not as it should be in storage, index and spool. Works beside a running proxy, too.

    \b
    Every image is read and its SHA-256 compared; every row must have its file, every folder its row, every
    account the sum of its ledger. An image whose bytes are wrong or gone is noted in the index: the proxy
    answers 503 for it, until a later run finds it good again.

    \b
    --fix adds rows for images that the index lacks, brings home what dead processes left in the spool, and
    removes temporary files. It deletes no image and no row.

    Exit code: 0 nothing is left to do, 1 something was found, 2 it can't be looked at.
    """  # noqa: D301 - click takes \b for «keep these lines»
    logs.set_up(logging.CRITICAL)  # what a recovery logs, the report says
    settings = load_settings(config, flags={"server.data_dir": data_dir})
    if not backends.has_index(settings):
        if backends.is_postgres(settings):
            raise ConfigError("index.url: the database holds no index: name the right one, or: pixie reindex")
        folder = settings.server.data_dir
        raise ConfigError(
            f"server.data_dir: {folder} holds no pixie.db: name the right folder with --data, "
            "or was the index lost? Then: pixie reindex"
        )
    try:
        report = asyncio.run(_verify(settings, hashes=not quick, fixes=fixes))
    except Unavailable as exc:
        click.echo(f"pixie: {exc.message}", err=True)
        return 2
    if as_json:
        show_json(_json(report))
    else:
        _show(report, fixes=fixes)
    return 0 if report.is_clean else 1


async def _verify(settings: Settings, *, hashes: bool, fixes: bool) -> Report:
    async with open_house(settings) as house:
        images, _ = await house.index.read(totals)
        with progress("Verifying", images) as advance:
            finisher = Finisher(house.index, house.storage)
            presence = Presence(house.index, house.spool)
            recovery = Recovery(house.spool, house.index, house.storage, finisher, house.writers, presence)
            return await Verification(
                house.index,
                house.storage,
                house.spool,
                recover=recovery.once,
                progress=advance,
                is_elsewhere=presence.may_hold_elsewhere,
                hashes=hashes,
                fixes=fixes,
            ).run()


def _show(report: Report, *, fixes: bool) -> None:
    click.echo(
        f"{report.images:,} images in {report.folders:,} folders, {report.size_bytes / 1e9:.2f} GB: "
        + (f"{report.counts.total():,} findings" if report.counts else "all is well")
    )
    if report.elsewhere:
        click.echo(
            f"{report.elsewhere:,} images are not in storage yet: other hosts have them in their spools, "
            "or had when they died"
        )
    if not report.counts:
        return
    for finding, is_fixed in sorted(report.listed, key=lambda each: (each[0].kind, each[0].ref))[:_SHOWN]:
        click.echo(f"  {finding.kind}  {finding.ref}  {finding.detail}{'  (mended)' if is_fixed else ''}")
    if report.counts.total() > _SHOWN:
        click.echo(f"  … and {report.counts.total() - _SHOWN:,} more (--json lists them)")
    click.echo()
    kinds = [kind for kind in MEANINGS if report.counts[kind]]
    show_table(
        ("found", "count", "mended", "what it is", "what to do"),
        [
            (
                kind,
                str(report.counts[kind]),
                str(report.fixed[kind]),
                MEANINGS[kind][0],
                "" if report.counts[kind] == report.fixed[kind] else MEANINGS[kind][1],
            )
            for kind in kinds
        ],
    )
    if report.is_clean:
        click.echo("\nAll of it was mended.")
    elif not fixes and any("--fix" in MEANINGS[kind][1] for kind in kinds):
        click.echo("\nNext: pixie verify --fix")


def _json(report: Report) -> dict[str, Any]:
    return {
        "object": "verify",
        "clean": report.is_clean,
        "folders": report.folders,
        "images": report.images,
        "bytes": report.size_bytes,
        "elsewhere": report.elsewhere,
        "counts": {kind: report.counts[kind] for kind in MEANINGS},
        "fixed": {kind: report.fixed[kind] for kind in MEANINGS},
        "findings": [
            {
                "kind": finding.kind,
                "ref": finding.ref,
                "request_id": finding.request_id,
                "image_id": finding.image_id,
                "detail": finding.detail,
                "fixed": is_fixed,
            }
            for finding, is_fixed in report.listed
        ],
        "findings_left_out": report.counts.total() - len(report.listed),
    }
