"""`pixie usage`: set right what the ledger says was spent, and hold it against the provider's bill."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import click

from pixie_proxy.accounts import money
from pixie_proxy.cli.accounts import change_index, json_option, moment, show_json
from pixie_proxy.cli.options import config_options
from pixie_proxy.cli.reconcile import reconcile


@click.group("usage")
def command() -> None:
    """Hold the ledger against the provider's bill, and set right what was spent."""


@command.command("correct")
@click.argument("name", required=False)
@click.option("--usd", required=True, metavar="X", help="So much more was spent; below 0: so much less")
@click.option("--reason", required=True, help="Why, for whoever reads the ledger later")
@click.option("--request", "request_id", metavar="ID", help="The request whose cost was wrong")
@click.option(
    "--date", "day", type=click.DateTime(["%Y-%m-%d"]), metavar="DAY", help="The day, UTC, it counts in"
)
@json_option
@config_options
def correct(
    name: str | None,
    usd: str,
    reason: str,
    request_id: str | None,
    day: datetime | None,
    *,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Book that user NAME (none: only the team) has spent more or less than the ledger's rows say.

    The rows stay as they are: this is an entry beside them. It counts today, or on the day that is named, or when the
    request was made; nothing can come back that was not spent.
    """
    if request_id is not None and day is not None:
        message = "give --request or --date: a request has its own day"
        raise click.UsageError(message)
    micros = money.micros_of(usd)
    made = change_index(
        config,
        data_dir,
        lambda tx: money.correct(
            tx,
            change_micros=micros,
            reason=reason,
            name=name,
            request_id=request_id,
            day=None if day is None else day.date(),
            now_us=time.time_ns() // 1000,
        ),
    )
    if as_json:
        show_json(
            {
                "id": made.id,
                "object": "correction",
                "user_id": made.user_id,
                "key_id": made.key_id,
                "request_id": made.request_id,
                "usd": made.change_micros / 1_000_000,
                "reason": made.reason,
                "counts_at": moment(made.booked_us),
                "created": moment(made.created_us),
            }
        )
    else:
        click.echo(f"{made.id}: ${made.change_micros / 1e6:+.6f} at {moment(made.booked_us)}")


command.add_command(reconcile)
