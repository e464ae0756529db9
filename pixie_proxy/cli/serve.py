"""`pixie serve`: run the proxy until a signal, then drain."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from pixie_proxy import logs
from pixie_proxy.cli.listening import given_sockets, open_sockets, shown_address
from pixie_proxy.cli.options import config_options, listen_options
from pixie_proxy.config import load_settings

T = TypeVar("T")


@click.command("serve")
@config_options
@listen_options
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Processes behind one socket; SIGHUP replaces them one by one",
)
@click.option(
    "--fd",
    "fds",
    type=click.IntRange(3),
    multiple=True,
    metavar="N",
    help="Serve on an open listening socket",
)
@click.option("--worker", type=int, hidden=True)  # our number, where a parent started us
def command(
    config: Path | None,
    data_dir: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    fds: tuple[int, ...],
    worker: int | None,
) -> None:
    """Serve the proxy.

    All it needs is OPENAI_API_KEY in the environment. The first start makes a user `admin` and writes its key to
    <data dir>/admin.key. SIGTERM lets running calls end (server.drain_s); a second one ends at once.

    With --workers, a process that dies is started again, and SIGHUP replaces all of them, one by one, by what is
    installed then: so a proxy is upgraded while it serves. A socket that systemd opened (a .socket unit) is taken over.
    """
    settings = load_settings(
        config, flags={"server.host": host, "server.port": port, "server.data_dir": data_dir}
    )
    logs.set_up(logs.level_of(os.environ))
    sockets = given_sockets(fds, os.environ)

    def ready(url: str) -> None:
        if worker is None:
            click.echo(f"pixie serves {url}/v1 (data in {settings.server.data_dir})", err=True)

    if workers is None:
        from pixie_proxy.cli.server import serve

        run(serve(settings, ready, sockets=sockets, worker=worker))
        return
    from pixie_proxy.cli.workers import Workers  # which needs nothing of the proxy itself

    sockets = sockets or open_sockets(settings.server.host, settings.server.port)
    again = {"--config": config, "--data": data_dir, "--host": host}
    options = [f"{name}={value}" for name, value in again.items() if value is not None]
    pool = Workers([sys.executable, "-m", "pixie_proxy", "serve", *options], sockets, workers)
    sys.exit(asyncio.run(pool.run(lambda: ready(f"http://{shown_address(sockets[0].getsockname())}"))))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)
