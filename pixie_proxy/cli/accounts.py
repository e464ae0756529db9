"""What `pixie user` and `pixie key` share: the index without a server, and how people and keys are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

from pixie_proxy import backends
from pixie_proxy.config import load_settings
from pixie_proxy.index import Tx
from pixie_proxy.index.users import StoredKey, StoredUser
from pixie_proxy.records import MOST

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs")(command)


def change_index(config: Path | None, data_dir: Path | None, work: Callable[[Tx], T]) -> T:
    """Run a work on the index of these settings, beside a server or before its first start."""
    settings = load_settings(config, flags={"server.data_dir": data_dir})

    async def run() -> T:
        backends.prepare_data_dir(settings)
        index = await backends.open_index(settings)
        try:
            return await index.write(work)
        finally:
            await index.close()

    return asyncio.run(run())


def show_json(said: object) -> None:
    """Print JSON."""
    click.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2))


def show_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows under a head, in columns as wide as they must be."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    for row in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show_key(text: str, who: str) -> None:
    """Print a new key, the only time that it is ever shown."""
    click.echo(text)
    click.echo(
        f"This is {who}'s key. It is shown only now: the proxy keeps nothing but its digest.", err=True
    )


def told_limits(limits: Mapping[str, Any]) -> str:
    """Write limits of one's own on a line; empty where there are none."""
    return " ".join(f"{name}={'none' if value is None else value}" for name, value in limits.items())


def user_json(user: StoredUser) -> dict[str, Any]:
    """Write a user."""
    return {
        "id": user.id,
        "name": user.name,
        "role": user.role,
        "disabled": user.disabled,
        "declared": user.is_declared,
        "limits": dict(user.limits),
        "created": moment(user.created_us),
    }


def key_json(key: StoredKey, owner: str) -> dict[str, Any]:
    """Write a key, which is never the key itself."""
    return {
        "id": key.id,
        "user": owner,
        "name": key.name,
        "prefix": key.prefix,
        "declared": key.is_declared,
        "limits": dict(key.limits),
        "created": moment(key.created_us),
        "expires": moment(key.expires_us),
        "revoked": moment(key.revoked_us),
        "last_used": moment(key.last_used_us),
    }


def moment(at_us: int | None) -> str | None:
    """Write a point in time, UTC."""
    return None if at_us is None else f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


class LimitType(click.ParamType[Any]):
    """A limit: a number, `none` for no limit, `default` for the general one."""

    name = "number|none|default"

    def __init__(self, number: type[int | float]) -> None:
        """Take whole numbers above 0 (int) or amounts from 0 (float)."""
        self._number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it; a limit of 0 requests is a disabled user, so it is refused."""
        if value in {"none", "default"} or not isinstance(value, str):
            return value
        with suppress(ValueError):
            found = self._number(value)
            if 0 < found < MOST or (self._number is float and found == 0):
                return found
        return self.fail(f"{value!r} is neither a number above 0 nor 'none' nor 'default'", param, ctx)


def limit_options(command: F) -> F:
    """Add an option for each limit."""
    whole, amount = LimitType(int), LimitType(float)
    options = (
        ("--requests-per-minute", "requests_per_minute", whole, "Requests a minute"),
        ("--images-per-minute", "images_per_minute", whole, "Images a minute; a request takes its n"),
        ("--concurrent", "concurrent_requests", whole, "Requests at once"),
        ("--images-per-day", "images_per_day", whole, "Images a day, UTC"),
        ("--usd-per-day", "usd_per_day", amount, "Spend a day, UTC"),
        ("--usd-per-month", "usd_per_month", amount, "Spend a calendar month, UTC"),
        ("--usd-total", "usd_total", amount, "Spend ever (prepaid)"),
    )
    for option, name, kind, meaning in reversed(options):
        command = click.option(option, name, type=kind, metavar="N", help=f"{meaning}; 'none' = no limit")(
            command
        )
    return command


def split_limits(given: dict[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Tell the limits that are set (None = no limit) from those that become the general ones again."""
    told = {name: value for name, value in given.items() if value is not None}
    cleared = frozenset(name for name, value in told.items() if value == "default")
    return {n: None if v == "none" else v for n, v in told.items() if n not in cleared}, cleared
