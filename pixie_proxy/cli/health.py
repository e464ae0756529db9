"""`pixie health`: ask a running proxy whether it lives, for containers that have no curl."""

from __future__ import annotations

import http.client
from pathlib import Path

import click

from pixie_proxy.cli.options import config_options, listen_options
from pixie_proxy.config import load_settings

_TIMEOUT_S = 5


@click.command("health")
@config_options
@listen_options
def command(config: Path | None, data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Exit with 0 if the proxy of these settings answers on its port, else with 1."""
    flags = {"server.host": host, "server.port": port, "server.data_dir": data_dir}
    server = load_settings(config, flags=flags).server
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - compared, not bound
    connection = http.client.HTTPConnection(address, server.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except OSError as exc:
        message = f"no proxy answers on {address}:{server.port} ({exc.strerror or exc})"
        raise click.ClickException(message) from None
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        message = f"the proxy on {address}:{server.port} answers with status {status}"
        raise click.ClickException(message)
    click.echo("ok")
