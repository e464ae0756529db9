"""`pixie user`: add, list, show, change, top up, disable, enable and delete the people who may use the proxy."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import click

from pixie_proxy import logs
from pixie_proxy.accounts import money, people
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
    user_json,
)
from pixie_proxy.cli.options import config_options
from pixie_proxy.config import load_settings
from pixie_proxy.index import Tx, users
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import ROLES, Role

_ROLE = click.Choice(ROLES)


@click.group("user")
def command() -> None:
    """Add, list, show, change, top up, disable, enable, delete users. A running server follows within two seconds."""


@command.command("add")
@click.argument("name")
@click.option("--role", type=_ROLE, default="member", help="admin, member (default) or viewer (reads only)")
@limit_options
@json_option
@config_options
def add(
    name: str, role: Role, *, as_json: bool, config: Path | None, data_dir: Path | None, **given: Any
) -> None:
    """Add a user and print its key, once."""
    limits, _ = split_limits(given)
    made = change_index(config, data_dir, lambda tx: people.add_user(tx, name, role, limits))
    if as_json:
        show_json({"name": name, "role": role, "limits": limits, "key_id": made.key.id, "key": made.text})
    else:
        show_key(made.text, name)


@command.command("list")
@json_option
@config_options
def list_all(*, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """List everybody."""
    everybody = change_index(config, data_dir, users.list_users)
    if as_json:
        show_json([user_json(user) for user in everybody])
        return
    rows = [(user.name, user.role, _state(user), _limits(user)) for user in everybody]
    show_table(("NAME", "ROLE", "STATE", "OWN LIMITS"), rows)


@command.command("show")
@click.argument("name")
@json_option
@config_options
def show(name: str, *, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Show one user with its keys."""

    def work(tx: Tx) -> dict[str, Any]:
        user = people.find_user(tx, name)
        keys = [key_json(key, name) for key in users.list_keys(tx, user.id)]
        return {**user_json(user), "keys": keys}

    said = change_index(config, data_dir, work)
    if as_json:
        show_json(said)
        return
    for field, value in said.items():
        if field != "keys":
            click.echo(f"{field:9} {value}")
    for key in said["keys"]:
        ended = f", revoked {key['revoked']}" if key["revoked"] else ""
        click.echo(f"key       {key['id']}  {key['prefix']}…  {key['name']}{ended}")


@command.command("set")
@click.argument("name")
@click.option("--role", type=_ROLE, help="admin, member or viewer")
@limit_options
@json_option
@config_options
def change(
    name: str, role: Role | None, *, as_json: bool, config: Path | None, data_dir: Path | None, **given: Any
) -> None:
    """Change a user's role or limits; 'default' makes a limit the general one again."""
    limits, cleared = split_limits(given)
    if role is None and not limits and not cleared:
        message = "nothing to change: give --role or a limit (pixie user set --help)"
        raise click.UsageError(message)
    _told(
        change_index(config, data_dir, lambda tx: people.change_user(tx, name, role, limits, cleared)),
        as_json,
    )


@command.command("topup")
@click.argument("name")
@click.argument("usd")
@json_option
@config_options
def top_up(name: str, usd: str, *, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Let user NAME spend USD more in total: what --usd-total limits."""
    micros = money.micros_of(usd)
    general_usd = load_settings(config, flags={"server.data_dir": data_dir}).limits.usd_total
    _told(change_index(config, data_dir, lambda tx: money.top_up(tx, name, micros, general_usd)), as_json)


@command.command("disable")
@click.argument("name")
@json_option
@config_options
def disable(name: str, *, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Shut a user out, with all keys; images and ledger stay."""
    _told(change_index(config, data_dir, lambda tx: people.set_disabled(tx, name, disabled=True)), as_json)


@command.command("enable")
@click.argument("name")
@json_option
@config_options
def enable(name: str, *, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Let a disabled user in again."""
    _told(change_index(config, data_dir, lambda tx: people.set_disabled(tx, name, disabled=False)), as_json)


@command.command("delete")
@click.argument("name")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask for the name once more")
@json_option
@config_options
def delete(name: str, *, is_sure: bool, as_json: bool, config: Path | None, data_dir: Path | None) -> int:
    """Delete a user for good, with all images, prompts and keys; the anonymous ledger stays.

    \b
    It may run beside a proxy. What was copied earlier is not touched: backups, and the copies that
    upgrades left (pixie.db.before-…), which are named at the end.

    Exit code: 0 done, 1 some of it is left for a proxy to delete, 2 nothing was changed.
    """  # noqa: D301 - click takes \b for «keep these lines»
    from pixie_proxy.cli.erasing import erase_user

    if is_sure:
        confirm = name
    elif sys.stdin.isatty():
        confirm = click.prompt(f"All of {name}'s images go for good. Type the name to delete it")
    else:
        message = "this can't be undone: say --yes"
        raise click.UsageError(message)
    logs.set_up(logging.CRITICAL)  # what is logged, the command says
    settings = load_settings(config, flags={"server.data_dir": data_dir})
    done = asyncio.run(erase_user(settings, name, confirm))
    if as_json:
        show_json(
            {
                "id": done.id,
                "object": "user",
                "deleted": True,
                "images": done.images,
                "left": done.reason,
                "copies": done.copies,
            }
        )
        return 1 if done.reason else 0
    click.echo(f"{name} is deleted, with {done.images:,} images. The anonymous ledger stays.")
    if done.reason:
        click.echo(f"Not all of it is gone yet, {done.left:,} folders for one ({done.reason}).")
        click.echo("A proxy goes on with it by itself.")
    for copy in done.copies:
        click.echo(f"An older copy of the index still knows {name}: {copy}")
    return 1 if done.reason else 0


def _told(user: StoredUser, as_json: bool) -> None:
    if as_json:
        show_json(user_json(user))
    else:
        click.echo(f"{user.name}: {user.role}, {_state(user)}, {_limits(user)}")


def _state(user: StoredUser) -> str:
    return "disabled" if user.disabled else "declared" if user.is_declared else "active"


def _limits(user: StoredUser) -> str:
    return told_limits(user.limits) or "general limits"
