"""How the proxy is: a light for each thing that it depends on, with what to do where one is not green.

It asks what `/readyz` and `/metrics` ask, and the newest calls; nothing here writes, or waits for anybody out there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pixie_proxy.disk.watch import Disk, Room, room
from pixie_proxy.errors import ProxyError, ShuttingDown, StorageUnavailable
from pixie_proxy.index.history import PastCall
from pixie_proxy.records import Account
from pixie_proxy.spool.area import CLOSES_AT, LITTLE_BYTES
from pixie_proxy.spool.depth import WAITS_LONG_S, Depth
from pixie_proxy.web.context import Context
from pixie_proxy.web.html import lasting, size
from pixie_proxy.web.ops import see_ready
from pixie_proxy.web.pages.meters import Level
from pixie_proxy.web.texts import t

_LOOK_S = 2.0
"""How long a disk may take to tell its room."""
_LATEST = 3
"""So many calls that did not reach the upstream, one after the other, are no accident."""
_AWAY = ("502 upstream_unreachable", "502 upstream_rejected_credentials")
"""How the ledger begins to tell of calls that the upstream never worked on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """One thing and how it is; `remedy` says what to do where it is not well."""

    name: str
    level: Level
    says: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What disks tell. None: they do not answer, or there is none."""

    depth: Depth | None = None
    data: Room | None = None
    storage: Room | None = None
    index_bytes: int | None = None


async def lights(context: Context, calls: Sequence[PastCall], team: Account) -> list[Light]:
    """Look at everything, worst first. `calls` are the newest; `team` is the account of everybody."""
    refusal: ProxyError | None = None
    trouble: StorageUnavailable | None = None
    try:
        trouble = await see_ready(context)
    except ProxyError as exc:
        refusal = exc
    seen = await _measure(context)
    found = [
        _ready(refusal, team),
        _data(context, seen),
        _spool(context, seen.depth),
        _storage(context, seen, trouble),
        _index(context, seen),
        _upstream(context, calls),
        *_oddities(context),
    ]
    order: list[Level] = ["fault", "warning", "ok"]
    return sorted(found, key=lambda light: order.index(light.level))


def worst(found: Sequence[Light]) -> Level:
    """Give the level of all together."""
    return found[0].level


async def _measure(context: Context) -> _Measured:
    try:
        async with asyncio.timeout(_LOOK_S):
            return await asyncio.to_thread(_look, context)
    except TimeoutError:
        return _Measured()


def _look(context: Context) -> _Measured:
    depth: Depth | None = None
    index_bytes: int | None = None
    with suppress(OSError):
        depth = context.depth.measure()
    with suppress(OSError):
        index_bytes = sum(mark.stat().st_size for mark in context.spool.disk.marks)
    return _Measured(
        depth=depth,
        data=_room(context.spool.disk.folder),
        storage=_room(context.settings.storage_path) if _storage_disk(context) else None,
        index_bytes=index_bytes,
    )


def _room(folder: Path) -> Room | None:
    with suppress(OSError):
        return room(folder)
    return None


def _storage_disk(context: Context) -> Disk | None:
    return next((disk for disk in context.disks if disk is not context.spool.disk), None)


def _ready(refusal: ProxyError | None, team: Account) -> Light:
    name = t("health.calls")
    if refusal is None:
        return Light(name=name, level="ok", says=t("health.taken", n=team.in_flight))
    # The first sentence is for us; what is for clients stands behind it.
    says = t("health.refused", reason=refusal.message.partition(". ")[0].rstrip("."))
    is_leaving = isinstance(refusal, ShuttingDown)
    remedy = t("health.leaving") if is_leaving else t("health.see_others")
    return Light(name=name, level="fault", says=says, remedy=remedy)


def _data(context: Context, seen: _Measured) -> Light:
    return _disk(t("health.data"), context.spool.disk, seen.data)


def _disk(name: str, disk: Disk, found: Room | None) -> Light:
    """Judge a folder that images pass through or stay in."""
    if found is None or disk.is_failing:
        return Light(name=name, level="fault", says=t("health.no_answer"), remedy=t("health.mend_disk"))
    says = t("health.room", free=size(found.free_bytes), all=size(found.total_bytes))
    if found.free_bytes < LITTLE_BYTES:
        return Light(name=name, level="warning", says=says, remedy=t("health.make_room"))
    return Light(name=name, level="ok", says=says)


def _spool(context: Context, depth: Depth | None) -> Light:
    name, most = t("health.spool"), context.spool.max_bytes
    if depth is None:
        return Light(name=name, level="fault", says=t("health.no_answer"), remedy=t("health.mend_disk"))
    if not depth.calls:
        return Light(name=name, level="ok", says=t("health.spool_empty"))
    says = t("health.spooled", n=depth.calls, size=size(depth.size_bytes), age=lasting(depth.oldest_s))
    if most is not None and depth.size_bytes >= CLOSES_AT * most:
        return Light(name=name, level="fault", says=says, remedy=t("health.spool_full"))
    if depth.oldest_s > WAITS_LONG_S:
        return Light(name=name, level="warning", says=says, remedy=t("health.spool_waits"))
    return Light(name=name, level="ok", says=says)


def _storage(context: Context, seen: _Measured, trouble: StorageUnavailable | None) -> Light:
    name = t("health.storage")
    storage = context.settings.storage
    if storage.kind == "s3":
        says = t("health.bucket", bucket=storage.s3.bucket)
        if trouble is None:
            return Light(name=name, level="ok", says=says)
        why = f"{says} {trouble.message}"
        return Light(name=name, level="warning", says=why, remedy=t("health.mend_bucket"))
    disk = _storage_disk(context)
    if disk is None:
        return Light(name=name, level="ok", says=t("health.same_disk"))
    return _disk(name, disk, seen.storage)


def _index(context: Context, seen: _Measured) -> Light:
    name = t("health.index")
    if context.settings.index.url is not None:
        return Light(name=name, level="ok", says=t("health.database"))
    if seen.index_bytes is None:
        return Light(name=name, level="fault", says=t("health.no_answer"), remedy=t("health.mend_disk"))
    says = t("health.indexed", size=size(seen.index_bytes), log=size(context.index.log_bytes))
    return Light(name=name, level="ok", says=says)


def _upstream(context: Context, calls: Sequence[PastCall]) -> Light:
    name = t("health.upstream")
    ended = [call for call in calls if call.settled_us is not None]
    if not ended:
        return Light(name=name, level="ok", says=t("health.no_calls"))
    away = [call.state == "unknown" or (call.error or "").startswith(_AWAY) for call in ended]
    if away[0]:
        reason = (ended[0].error or "").partition(": ")[2] or ended[0].error
        level: Level = "fault" if len(away) >= _LATEST and all(away[:_LATEST]) else "warning"
        return Light(
            name=name, level=level, says=t("health.away", reason=reason), remedy=t("health.mend_upstream")
        )
    unknown = sum(call.state == "unknown" for call in ended)
    if unknown:
        says = t("health.unknown", n=unknown)
        return Light(name=name, level="warning", says=says, remedy=t("health.see_unknown"))
    ago_s = time.time() - ended[away.index(False)].created_us / 1_000_000
    return Light(name=name, level="ok", says=t("health.answered", ago=lasting(ago_s)))


def _oddities(context: Context) -> list[Light]:
    """Tell of what is seldom wrong, and only then."""
    numbers, found = context.metrics, []
    if held := int(numbers.retention_held.value):
        says, remedy = t("health.held", n=held), t("health.see_retention")
        found.append(Light(name=t("health.retention"), level="warning", says=says, remedy=remedy))
    if unpriced := int(numbers.unpriced_calls.sum()):
        says, remedy = t("health.unpriced", n=unpriced), t("health.give_prices")
        found.append(Light(name=t("health.prices"), level="warning", says=says, remedy=remedy))
    return found
