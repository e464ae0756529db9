"""`pixie doctor` asked, in this process or as a shell asks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pixie_proxy.config import Settings
from pixie_proxy.doctor.examination import examine
from tests.cli.running import pixie
from tests.support.upstream import ScriptedUpstream, body, head

LIMIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was found (check, level, line), how the command ended, and how long it took."""

    findings: list[tuple[str, str, str]]
    took_s: float
    code: int = 0

    @property
    def faults(self) -> list[str]:
        return self.of("fault")

    @property
    def warnings(self) -> list[str]:
        return self.of("warning")

    def of(self, level: str) -> list[str]:
        """Give the lines of a level, each as `check: line`."""
        return [f"{check}: {line}" for check, found, line in self.findings if found == level]

    def line(self, check: str) -> str:
        """Give a check's only line."""
        (found,) = [line for name, _, line in self.findings if name == check]
        return found


async def ask(settings: Settings) -> Told:
    """Examine in this process."""
    began_s = time.monotonic()
    found = await examine(settings, None)
    told = [(check, str(each.level), each.line) for check, findings in found.items() for each in findings]
    return Told(findings=told, took_s=time.monotonic() - began_s)


async def run_doctor(config: Path, *, prefix: tuple[str, ...] = ()) -> Told:
    """Run the command."""
    began_s = time.monotonic()
    ended = await pixie("doctor", "--config", str(config), "--json", cwd=config.parent, prefix=prefix)
    took_s = time.monotonic() - began_s
    assert ended.err == ""
    said: list[dict[str, Any]] = orjson.loads(ended.out)["findings"]
    told = [
        (each["check"], each["level"], ": ".join(filter(None, (each["saw"], each["remedy"]))))
        for each in said
    ]
    return Told(findings=told, took_s=took_s, code=ended.code)


def has_models(upstream: ScriptedUpstream) -> None:
    """Let an upstream answer as OpenAI's does to a key that it knows."""
    models = b'{"object":"list","data":[]}'
    upstream.default(head(200, [("Content-Type", "application/json")], length=len(models)), body(models))
