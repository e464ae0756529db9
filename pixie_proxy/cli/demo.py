"""`pixie demo`: the whole proxy in front of a built-in upstream, with one image made through it to begin with."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import click

from pixie_proxy import logs
from pixie_proxy.accounts.declared import ADMIN_KEY_FILE
from pixie_proxy.cli.options import config_options, listen_options
from pixie_proxy.cli.serve import run
from pixie_proxy.cli.server import Orders, serve
from pixie_proxy.config import Settings, load_settings
from pixie_proxy.upstream.demo import demo_upstream

_DATA_DIR = Path("pixie-demo")
_PROMPT = "A lighthouse on a cliff above the sea at sunset, with sailing boats"


@click.command("demo")
@config_options
@listen_options
@click.option(
    "--pace", type=click.FloatRange(0, 10), default=1.0, help="How slowly pictures come: 1 usual, 0 at once"
)
@click.option("--once", is_flag=True, help="Make the one image, say where it is, and stop")
def command(
    config: Path | None, data_dir: Path | None, host: str | None, port: int | None, pace: float, once: bool
) -> None:
    """Serve with a built-in upstream that draws pictures from their prompts: no key and no money needed.

    Its data lives in ./pixie-demo unless --data says otherwise, apart from that of a real proxy.
    """
    logs.set_up(logs.level_of(os.environ, logging.ERROR))  # what a first start tells is no news here
    if data_dir is None and not os.environ.get("PIXIE_SERVER__DATA_DIR"):
        data_dir = _DATA_DIR
    run(_demo(config, data_dir, host, port, pace=pace, once=once))


async def _demo(
    config: Path | None, data_dir: Path | None, host: str | None, port: int | None, *, pace: float, once: bool
) -> None:
    async with demo_upstream(pace=pace) as base_url:
        flags = {
            "server.host": host,
            "server.port": _free_port()
            if port is None and not os.environ.get("PIXIE_SERVER__PORT")
            else port,
            "server.data_dir": data_dir,
            "upstream.base_url": base_url,
            "upstream.api_key": "demo",
        }
        # A real proxy's config.yaml in this folder is not the demo's.
        settings = load_settings(config, flags=flags, looks_here=False)
        orders = Orders()
        tasks: list[asyncio.Task[None]] = []

        def ready(url: str) -> None:
            tasks.append(
                asyncio.get_running_loop().create_task(_show(url, settings, orders if once else None))
            )

        try:
            await serve(settings, ready, orders=orders)
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


def _free_port() -> int | None:
    """Keep the usual port where it is free, else take any: a demo should not fail for that."""
    usual = 8080
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return 0
    return None


async def _show(url: str, settings: Settings, orders: Orders | None) -> None:
    """Make an image as any client would, and say where everything is."""
    try:
        key = (
            os.environ.get("PIXIE_ADMIN_KEY")
            or (settings.server.data_dir / ADMIN_KEY_FILE).read_text().strip()
        )
        click.echo(f"Drawing a first picture: {_PROMPT} …")
        image = await _make_image(url, key)
        path = settings.server.data_dir / "first-image.png"
        path.write_bytes(base64.b64decode(image["b64_json"]))
        click.echo(_GUIDE.format(url=url, key=key, path=path, kept=settings.storage_path / "images"))
    except (aiohttp.ClientError, OSError, KeyError, IndexError) as exc:
        click.echo(f"pixie: the first picture failed: {exc}", err=True)
    finally:
        if orders is not None:
            orders.end()


async def _make_image(url: str, key: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(
            f"{url}/v1/images/generations", json={"prompt": _PROMPT, "size": "1024x1024"}
        ) as response,
    ):
        response.raise_for_status()
        answer = await response.json()
        image: dict[str, Any] = answer["data"][0]
        return image


_GUIDE = """
  A real image, made through the proxy:  {path}
  Every image is kept in:                {kept}
  The gallery, signed in with the key:   {url}/
  The list of them:                      curl -H "Authorization: Bearer {key}" {url}/v1/images

  Point any OpenAI SDK here:
      OPENAI_BASE_URL={url}/v1
      OPENAI_API_KEY={key}

  Ctrl-C stops it.
"""
