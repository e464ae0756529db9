"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)


def config_options(command: F) -> F:
    """Add `--config` and `--data`, which every command takes as `serve` does."""
    command = click.option(
        "--data", "data_dir", type=_PATH, metavar="DIR", help="Data directory (over server.data_dir)"
    )(command)
    return click.option(
        "--config",
        type=_PATH,
        metavar="FILE",
        help="Settings file (default: $PIXIE_CONFIG, else ./config.yaml)",
    )(command)


def listen_options(command: F) -> F:
    """Add `--host` and `--port`."""
    command = click.option(
        "--port", type=click.IntRange(0, 65535), metavar="N", help="Port; 0 = any free one"
    )(command)
    return click.option("--host", metavar="H", help="Address to listen on; 0.0.0.0 = every interface")(
        command
    )
