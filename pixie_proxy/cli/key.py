"""`pixie key`: add, list, limit and revoke the keys of users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixie_proxy.accounts import people
from pixie_proxy.accounts.people import MadeKey
from pixie_proxy.cli.accounts import (
    change_index,
    json_option,
    key_json,
    limit_options,
    show_json,
    show_key,
    show_table,
    split_limits,
    told_limits,
)
from pixie_proxy.cli.options import config_options
from pixie_proxy.index import Tx, users


@click.group("key")
def command() -> None:
    """Add, list, limit and revoke keys. A revoked key is dead everywhere within two seconds."""


@command.command("add")
@click.argument("name")
@click.option("--label", default="", help="What the key is for, as lists show it")
@click.option(
    "--expires-days", type=click.IntRange(1, 36_500), metavar="N", help="End by itself after N days"
)
@limit_options
@json_option
@config_options
def add(
    name: str,
    label: str,
    expires_days: int | None,
    *,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
    **given: Any,
) -> None:
    """Give user NAME one more key and print it, once. Its own limits count beside those of NAME."""
    limits, _ = split_limits(given)

    def work(tx: Tx) -> MadeKey:
        return people.add_key(tx, people.find_user(tx, name), label, expires_days, limits=limits)

    made = change_index(config, data_dir, work)
    if as_json:
        show_json({**key_json(made.key, name), "key": made.text})
    else:
        show_key(made.text, name)


@command.command("list")
@click.argument("name", required=False)
@json_option
@config_options
def list_all(name: str | None, *, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """List the keys of everybody, or of user NAME."""

    def work(tx: Tx) -> list[dict[str, Any]]:
        owners = {user.id: user.name for user in users.list_users(tx)}
        user_id = people.find_user(tx, name).id if name else None
        return [key_json(key, owners[key.user_id]) for key in users.list_keys(tx, user_id)]

    keys = change_index(config, data_dir, work)
    if as_json:
        show_json(keys)
        return
    rows = [
        (k["id"], k["user"], f"{k['prefix']}…", k["name"], k["last_used"] or "never", _state(k)) for k in keys
    ]
    show_table(("ID", "USER", "BEGINS", "LABEL", "LAST USED", "STATE"), rows)


@command.command("set")
@click.argument("key")
@limit_options
@json_option
@config_options
def change(key: str, *, as_json: bool, config: Path | None, data_dir: Path | None, **given: Any) -> None:
    """Change the limits of KEY itself; 'none' or 'default' lifts one. KEY is named as for `pixie key revoke`."""
    limits, cleared = split_limits(given)
    if not limits and not cleared:
        message = "nothing to change: give a limit (pixie key set --help)"
        raise click.UsageError(message)
    changed = change_index(config, data_dir, lambda tx: people.change_key(tx, key, limits, cleared))
    if as_json:
        show_json({"id": changed.id, "limits": dict(changed.limits)})
    else:
        click.echo(
            f"{changed.id} ({changed.prefix}…): {told_limits(changed.limits) or 'no limits of its own'}"
        )


@command.command("revoke")
@click.argument("key")
@json_option
@config_options
def revoke(key: str, *, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """End KEY, named by its id or by the beginning that `pixie key list` shows."""
    ended = change_index(config, data_dir, lambda tx: people.revoke_key(tx, key))
    if as_json:
        show_json({"id": ended.id, "revoked": True})
    else:
        click.echo(f"{ended.id} ({ended.prefix}…) is revoked")


def _state(key: dict[str, Any]) -> str:
    if key["revoked"]:
        return f"revoked {key['revoked']}"
    return f"until {key['expires']}" if key["expires"] else "live"
