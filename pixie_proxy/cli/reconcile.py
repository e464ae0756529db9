"""`pixie usage reconcile`: hold the ledger against the provider's bill."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from pixie_proxy import backends
from pixie_proxy.accounts.reconcile import Difference, Place, Statement, compare, read_statement
from pixie_proxy.cli.accounts import json_option, show_json, show_table
from pixie_proxy.cli.options import config_options
from pixie_proxy.config import load_settings
from pixie_proxy.index import Tx
from pixie_proxy.index.usage import billed
from pixie_proxy.records import bounds


@click.command("reconcile")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
@click.option("--project", metavar="ID", help="Count only this project's lines of the export (proj_…)")
@click.option("--api-key-id", "key", metavar="ID", help="Count only the lines of this upstream key (key_…)")
@config_options
@json_option
def reconcile(
    file: Any,
    project: str | None,
    key: str | None,
    config: Path | None,
    data_dir: Path | None,
    *,
    as_json: bool,
) -> int:
    """Compare the ledger with the provider's own export of usage or costs, and name each difference.

    FILE is an answer of OpenAI's usage API (/organization/usage/images, …/usage/completions) or costs API
    (/organization/costs), JSON or CSV, in buckets of at most one UTC day; - reads standard input. Group it
    by model (usage) or line_item (costs) to compare models; by project_id or api_key_id if others use the
    same organization, then name yours with --project or --api-key-id.

    \b
    Example, yesterday's costs:
      curl -G https://api.openai.com/v1/organization/costs -H "Authorization: Bearer $OPENAI_ADMIN_KEY" \\
        -d start_time=$(date -u -d yesterday +%s) -d group_by=line_item > costs.json
      pixie usage reconcile costs.json

    Exit code: 0 both agree, 1 they differ, 2 the file can't be read.
    """  # noqa: D301 - click takes \b for «keep these lines»
    statement = read_statement(file.read(), project=project, key=key)
    settings = load_settings(config, flags={"server.data_dir": data_dir})
    first, last = statement.days[0], statement.days[-1]

    def work(tx: Tx) -> list[Difference]:
        calls = billed(tx, since_us=bounds(first)[0], until_us=bounds(last)[1])
        return compare(statement, calls)

    async def run() -> list[Difference]:
        index = await backends.open_index(settings)
        try:
            return await index.read(work)
        finally:
            await index.close()

    differences = asyncio.run(run())
    if as_json:
        show_json(_json(statement, differences))
    else:
        _show(statement, differences)
    return 1 if differences else 0


def _show(statement: Statement, differences: list[Difference]) -> None:
    days = f"{statement.days[0]} to {statement.days[-1]}"
    if not differences:
        click.echo(f"{days}: the ledger and the provider agree.")
        return
    click.echo(f"{days}: {len(differences)} differences between the ledger and the provider\n")
    show_table(
        ("day", "model", "what", "here", "provider", "difference"),
        [
            (
                each.place.day,
                each.place.model or "(all)",
                "cost in USD" if each.quantity == "cost_micros" else each.quantity.replace("_", " "),
                _text(each, each.ours),
                _text(each, each.theirs),
                _text(each, each.ours - each.theirs, "+"),
            )
            for each in differences
        ],
    )
    hinted: dict[Place, tuple[str, ...]] = {each.place: each.hints for each in differences if each.hints}
    for place, hints in hinted.items():
        click.echo(f"\n{place.day} {place.model or '(all)'}")
        for hint in hints:
            click.echo(f"  {hint}")


def _text(difference: Difference, amount: Any, sign: str = "") -> str:
    if difference.quantity == "cost_micros":
        return f"{amount / 1_000_000:{sign}.6f}"
    return f"{int(amount):{sign},}"


def _json(statement: Statement, differences: list[Difference]) -> dict[str, Any]:
    def number(each: Difference, amount: Any) -> float | int:
        return round(float(amount) / 1_000_000, 6) if each.quantity == "cost_micros" else int(amount)

    return {
        "object": "reconciliation",
        "days": statement.days,
        "agrees": not differences,
        "differences": [
            {
                "day": each.place.day,
                "model": each.place.model,
                "what": "cost_usd" if each.quantity == "cost_micros" else each.quantity,
                "here": number(each, each.ours),
                "provider": number(each, each.theirs),
                "hints": list(each.hints),
            }
            for each in differences
        ],
    }
