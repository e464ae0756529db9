"""The command line: one file a command, each imported only when it runs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from pixie_proxy import __version__
from pixie_proxy.errors import ClientError, ConfigError, ProxyError

_COMMANDS = {
    "serve": "Serve the proxy",
    "demo": "Serve with a built-in upstream that draws pictures: no key needed",
    "doctor": "Say what is wrong with settings, disk, storage, index, clock or upstream, and what mends it",
    "user": "Add, list, show, change, top up, disable and enable users",
    "key": "Add, list, limit, rotate and revoke keys",
    "usage": "Hold the ledger against the provider's bill, and set right what was spent",
    "recover-spool": "Bring home what a host that does not come back left in its spool",
    "verify": "Find what has rotted, gone or been left in storage, beside a running proxy too",
    "reindex": "Rebuild a lost index from storage",
    "retention": "Show which images are too old, and put them into the trash",
    "backup": "Copy everything into a folder while the proxy serves; again, and only what is new is copied",
    "restore": "Check a backup, and bring everything back from it",
    "storage": "Copy all images to another storage: from disk to S3 and back",
    "migrate-index": "Bring the index from SQLite to PostgreSQL, or back",
    "config": "Print every setting with its default, as a settings file",
    "health": "Ask a running proxy whether it lives (for containers)",
}


class _LazyGroup(click.Group):
    """Knows its commands by name and help; `pixie serve` does not pay for what the others import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List in the order in which people meet them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module when it is asked for."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(
            f"pixie_proxy.cli.{cmd_name.replace('-', '_')}"
        ).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing any of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="pixie")
def pixie() -> None:
    """Run a self-hosted proxy for the OpenAI Images API that keeps every image.

    \b
    Try it without a key:   pixie demo
    Serve for a team:       OPENAI_API_KEY=sk-… pixie serve
    Then point any OpenAI SDK at http://127.0.0.1:8080/v1
    """  # noqa: D301 - click takes \b for «keep these lines»


def main(arguments: list[str] | None = None) -> None:
    """Run `pixie`. Errors are one line each on stderr: exit code 2 for bad input, 1 for failure."""
    try:
        code = pixie.main(args=arguments, prog_name="pixie", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.UsageError as exc:
        exc.show()
        sys.exit(2)
    except click.ClickException as exc:
        _tell(exc.format_message())
        sys.exit(1)
    except ConfigError as exc:
        _tell(*exc.problems)
        sys.exit(2)
    except ProxyError as exc:
        _tell(exc.message)
        sys.exit(2 if isinstance(exc, ClientError) else 1)
    except OSError as exc:
        _tell(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc))
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _tell(*lines: Any) -> None:
    for line in lines:
        click.echo(f"pixie: {line}", err=True)
