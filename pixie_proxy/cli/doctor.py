"""`pixie doctor`: look at everything that a proxy needs, and say what is wrong and what mends it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
import orjson

from pixie_proxy import logs
from pixie_proxy.cli.accounts import json_option
from pixie_proxy.cli.options import config_options
from pixie_proxy.config import load_settings
from pixie_proxy.config.loading import config_path
from pixie_proxy.doctor import Finding, Level
from pixie_proxy.doctor.examination import examine
from pixie_proxy.errors import ConfigError

_TICKS: dict[Level, str] = {"ok": "✓", "warning": "!", "fault": "✗"}
_COLOURS: dict[Level, str] = {"ok": "green", "warning": "yellow", "fault": "red"}

Findings = dict[str, list[Finding]]


@click.command("doctor")
@config_options
@json_option
def command(config: Path | None, data_dir: Path | None, *, as_json: bool) -> NoReturn:
    """Look at all that a proxy needs, within five seconds, and say what is wrong and what mends it.

    \b
    Settings, disk, spool, index, storage, clock, upstream and its key, and the address that people use. It runs
    beside a serving proxy as well as before the first start, leaves nothing behind, buys nothing and shows no key.

    \b
    Before a start:       pixie doctor --config config.yaml
    In a container:       docker exec pixie pixie doctor
    For a program:        pixie doctor --json

    Exit code: 0 all is well (there may be warnings), 1 something is wrong, 2 the settings are.
    """  # noqa: D301 - click takes \b for «keep these lines»
    logs.set_up(logging.CRITICAL)  # what a library logs, a finding says
    try:
        settings = load_settings(config, flags={"server.data_dir": data_dir})
    except ConfigError as exc:
        _tell({"settings": [Finding(level="fault", saw=each) for each in exc.problems]}, as_json=as_json)
        _leave(2)
    findings = asyncio.new_event_loop().run_until_complete(examine(settings, config_path(config, os.environ)))
    _tell(findings, as_json=as_json)
    _leave(1 if _count(findings, "fault") else 0)


def _leave(code: int) -> NoReturn:
    """End at once: a thread may hang in a disk or in a name server, and Python would wait for it."""
    sys.stdout.flush()
    os._exit(code)


def _tell(findings: Findings, *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(_json(findings), option=orjson.OPT_INDENT_2))
        return
    is_terminal = sys.stdout.isatty()
    for check, found in findings.items():
        for finding in found:
            level = _TICKS[finding.level] if is_terminal else f"{finding.level:<7}"
            click.echo(f"{click.style(level, fg=_COLOURS[finding.level])}  {check:<8}  {finding.line}")
    faults, warnings = _count(findings, "fault"), _count(findings, "warning")
    click.echo(
        f"\n{_number(faults, 'fault')}, {_number(warnings, 'warning')}."
        if faults + warnings
        else "\nAll is well."
    )


def _count(findings: Findings, level: Level) -> int:
    return sum(finding.level == level for found in findings.values() for finding in found)


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _json(findings: Findings) -> dict[str, object]:
    return {
        "object": "doctor",
        "well": not _count(findings, "fault"),
        "findings": [
            {"check": check, "level": finding.level, "saw": finding.saw, "remedy": finding.remedy or None}
            for check, found in findings.items()
            for finding in found
        ],
    }
