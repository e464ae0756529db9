"""All checks, side by side, each with its time; their findings come in one order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from pixie_proxy.config import Settings
from pixie_proxy.config.doubts import log as doubts_log
from pixie_proxy.config.doubts import warn_of_doubts
from pixie_proxy.doctor import Finding, fault, ok, warning
from pixie_proxy.doctor.disk import data_directory, server, spool
from pixie_proxy.doctor.index import index
from pixie_proxy.doctor.models import models
from pixie_proxy.doctor.network import clock, links, upstream
from pixie_proxy.doctor.patient import Patient
from pixie_proxy.doctor.storage import storage

LIMIT_S = 4.0
"""What hangs longer is told as such; with the start of the program that makes five seconds."""

Check = Callable[[Patient], Awaitable[list[Finding]]]

CHECKS: dict[str, Check] = {
    "data": data_directory,
    "spool": spool,
    "server": server,
    "index": index,
    "storage": storage,
    "clock": clock,
    "upstream": upstream,
    "models": models,
    "links": links,
}


async def examine(settings: Settings, file: Path | None) -> dict[str, list[Finding]]:
    """Give what each check found; none raises, and all together end within LIMIT_S."""
    patient = Patient(settings)
    found = await asyncio.gather(*[_within_limit(check, patient) for check in CHECKS.values()])
    return {"settings": _settings(settings, file), **dict(zip(CHECKS, found, strict=True))}


async def _within_limit(check: Check, patient: Patient) -> list[Finding]:
    try:
        async with asyncio.timeout(LIMIT_S):
            return await check(patient)
    except TimeoutError:
        return [fault(f"no answer within {LIMIT_S:g} seconds", "see whether a disk or a network mount hangs")]
    except OSError as exc:
        where = exc.filename or "the data directory"
        return [fault(f"{where}: {exc.strerror or exc}", "run doctor as the user that serves")]
    except Exception as exc:  # noqa: BLE001 - a check that we got wrong must not hide what the others saw
        return [warning(f"not looked at ({type(exc).__name__})", "a fault of ours: please report it")]


def _settings(settings: Settings, file: Path | None) -> list[Finding]:
    """Tell what a start would warn of."""
    heard = _Heard()
    doubts_log.addHandler(heard)
    try:
        warn_of_doubts(settings)
    finally:
        doubts_log.removeHandler(heard)
    read = "the environment and the defaults" if file is None else str(file)
    return [ok(f"read from {read}"), *[warning(each, "take it out, or mend it") for each in heard.lines]]


class _Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
