"""`pixie config`: write the settings down, for a file of one's own or for the docs."""

from __future__ import annotations

from typing import Literal

import click

from pixie_proxy.cli import settings_text


@click.command("config")
@click.argument("what", type=click.Choice(["example", "docs"]), default="example")
def command(what: Literal["example", "docs"]) -> None:
    """Print every setting with its default and meaning: as a settings file, or as a page of the docs."""
    click.echo(settings_text.example() if what == "example" else settings_text.docs(), nl=False)
