"""`pixie key`: add, list, limit, rotate and revoke the keys of users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixie_proxy.accounts import keyring, people
from pixie_proxy.accounts.keyring import MadeKey
from pixie_proxy.cli.accounts import (
    change_index,
    json_option,
    key_json,
    limit_options,
    moment,
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
    """Add, list, limit, rotate and revoke keys. A revoked key is dead everywhere within two seconds."""


@command.command("add")
@click.argument("name")
@click.option("--label", default="", help="What the key is for, as lists show it")
@click.option(
    "--expires-days", type=click.IntRange(1, 36_500), metavar="N", help="End by itself after N days"
)
@click.option(
    "--model", "models", multiple=True, metavar="MODEL", help="Only for this model; may be repeated"
)
@limit_options
@json_option
@config_options
def add(
    name: str,
    label: str,
    expires_days: int | None,
    models: tuple[str, ...],
    *,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
    **given: Any,
) -> None:
    """Give user NAME one more key and print it, once. Its own limits count beside those of NAME."""
    limits, _ = split_limits(given)
    lifetime_s = None if expires_days is None else expires_days * 86_400

    def work(tx: Tx) -> MadeKey:
        return keyring.add_key(
            tx, people.find_user(tx, name), label, lifetime_s, limits=limits, models=models
        )

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
@click.option(
    "--model", "models", multiple=True, metavar="MODEL", help="Only for this model; may be repeated"
)
@click.option("--all-models", is_flag=True, help="For all models again")
@limit_options
@json_option
@config_options
def change(
    key: str,
    models: tuple[str, ...],
    *,
    all_models: bool,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
    **given: Any,
) -> None:
    """Change the limits of KEY itself, or its models; 'none' or 'default' lifts a limit.

    KEY is named as for `pixie key revoke`.
    """
    limits, cleared = split_limits(given)
    if (models and all_models) or not (limits or cleared or models or all_models):
        message = "give a limit, --model or --all-models (pixie key set --help)"
        raise click.UsageError(message)
    chosen = list(models) if models or all_models else None
    changed = change_index(config, data_dir, lambda tx: keyring.change_key(tx, key, limits, cleared, chosen))
    if as_json:
        show_json({"id": changed.id, "limits": dict(changed.limits)})
    else:
        click.echo(
            f"{changed.id} ({changed.prefix}…): {told_limits(changed.limits) or 'no limits of its own'}"
        )


@command.command("rotate")
@click.argument("key")
@click.option(
    "--overlap-hours",
    type=click.IntRange(0, keyring.MAX_OVERLAP_S // 3600),
    default=keyring.USUAL_OVERLAP_S // 3600,
    show_default=True,
    metavar="N",
    help="How long the old text is good as well; 0 = it ends now",
)
@json_option
@config_options
def rotate(
    key: str, overlap_hours: int, *, as_json: bool, config: Path | None, data_dir: Path | None
) -> None:
    """Give KEY a new text and print it, once. It stays the same key, with its limits and what it has spent.

    KEY is named as for `pixie key revoke`.
    """
    made = change_index(config, data_dir, lambda tx: keyring.rotate_key(tx, key, overlap_hours * 3600))
    if as_json:
        show_json({"id": made.key.id, "key": made.text, "old_text_until": moment(made.key.retired_until_us)})
    else:
        click.echo(
            f"The old text of {made.key.id} is good until {moment(made.key.retired_until_us)}.", err=True
        )
        show_key(made.text, "this user")


@command.command("revoke")
@click.argument("key")
@json_option
@config_options
def revoke(key: str, *, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """End KEY, named by its id or by the beginning that `pixie key list` shows."""
    ended = change_index(config, data_dir, lambda tx: keyring.revoke_key(tx, key))
    if as_json:
        show_json({"id": ended.id, "revoked": True})
    else:
        click.echo(f"{ended.id} ({ended.prefix}…) is revoked")


def _state(key: dict[str, Any]) -> str:
    if key["revoked"]:
        return f"revoked {key['revoked']}"
    return f"until {key['expires']}" if key["expires"] else "live"
