"""`pixie serve`: run the proxy until a signal, then drain."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from pixie_proxy import logs
from pixie_proxy.cli.options import config_options, listen_options
from pixie_proxy.cli.server import serve
from pixie_proxy.config import load_settings


@click.command("serve")
@config_options
@listen_options
def command(config: Path | None, data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Serve the proxy.

    All it needs is OPENAI_API_KEY in the environment. The first start makes a user `admin` and writes its key to
    <data dir>/admin.key. SIGTERM lets running calls end (server.drain_s); a second one ends at once.
    """
    flags = {"server.host": host, "server.port": port, "server.data_dir": data_dir}
    settings = load_settings(config, flags=flags)
    logs.set_up(logs.level_of(os.environ))

    def ready(url: str) -> None:
        click.echo(f"pixie serves {url}/v1 (data in {settings.server.data_dir})", err=True)

    run(serve(settings, ready))


def run(work: object) -> None:
    """Run a coroutine on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)  # type: ignore[arg-type]
    else:
        uvloop.run(work)  # type: ignore[arg-type]
