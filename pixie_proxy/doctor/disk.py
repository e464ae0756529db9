"""The data directory, the spool in it, and the server that works there."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import orjson

from pixie_proxy import backends
from pixie_proxy.audit.spools import left_behind
from pixie_proxy.disk import FULL
from pixie_proxy.disk.ballast import INDEX_BYTES
from pixie_proxy.disk.watch import Disk, room
from pixie_proxy.doctor import Finding, fault, ok, sentence, warning
from pixie_proxy.doctor.patient import Patient
from pixie_proxy.spool.area import (
    BALLAST_IMAGES,
    CLOSES_AT,
    LITTLE_BYTES,
    ROOM_FLOOR_BYTES,
    ROOM_PER_IMAGE_BYTES,
)
from pixie_proxy.spool.depth import WAITS_LONG_S, DepthGauge
from pixie_proxy.upstream import Unseen
from pixie_proxy.upstream.looking import look_at

READY_S = 3.7
"""How long /readyz may take: an index that is locked keeps it for three seconds."""

_NOBODY = "no proxy serves from this data directory now"

_MEND = {
    errno.EACCES: "give it to the user that serves, as chown -R does; we are uid {uid}",
    errno.EPERM: "give it to the user that serves, as chown -R does; we are uid {uid}",
    errno.EROFS: "mount it for writing; a kernel that made it read-only has said why in its log",
    errno.ENOENT: "mount the volume, or mend server.data_dir",
    errno.ENOTDIR: "mend server.data_dir",
    errno.EIO: "look at the disk and at the kernel's log: it fails",
}


async def data_directory(patient: Patient) -> list[Finding]:
    """See that it is there and keeps what it is given, and that there is room for images."""
    serves = await patient.is_serving()
    return await patient.blocking(_data_directory, patient, serves)


def _data_directory(patient: Patient, serves: bool) -> list[Finding]:
    folder = patient.data_dir
    if not folder.exists():
        return [_absent(folder, require=patient.settings.server.require_existing)]
    is_lost = not backends.is_postgres(patient.settings) and not (folder / backends.INDEX_FILE).exists()
    if patient.settings.server.require_existing and is_lost:
        return [fault(f"{folder} holds no pixie.db, and server.require_existing is on", "mount the volume")]
    began_s = time.monotonic()
    error = Disk("data directory", folder).examine(writes=True)
    took_ms = (time.monotonic() - began_s) * 1000
    if error is not None:
        return [failing(folder, error)]
    ballast_bytes = INDEX_BYTES + BALLAST_IMAGES * ROOM_PER_IMAGE_BYTES
    return [
        ok(f"{folder} keeps what it is given (a write and its fsync: {took_ms:.1f} ms)"),
        _room(folder, held_bytes=ballast_bytes if serves else 0),
    ]


def _absent(folder: Path, *, require: bool) -> Finding:
    if require:
        return fault(f"{folder} is not there, and server.require_existing is on", "mount the volume")
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        return fault(f"{folder} is not there, and {parent} can't be written", _remedy(errno.EACCES))
    return ok(f"{folder} is not there yet: the first start makes it")


def failing(folder: Path, error: OSError) -> Finding:
    """Tell of a disk that does not keep what it is given."""
    number = error.errno or 0
    if number in FULL:
        return fault(f"{folder} is full: not a byte could be written", "make room on its disk")
    name = errno.errorcode.get(number, "unknown error")
    return fault(f"{folder} can't be written ({name}, {os.strerror(number)})", _remedy(number))


def _remedy(number: int) -> str:
    return _MEND.get(number, "look at the disk").format(uid=os.getuid())


def _room(folder: Path, *, held_bytes: int) -> Finding:
    """Judge the room as admission does; `held_bytes` are those that a server holds there for itself."""
    wanted = ROOM_FLOOR_BYTES + ROOM_PER_IMAGE_BYTES
    status = os.statvfs(folder)
    if status.f_files and not status.f_favail:
        return fault(f"{folder} has no inode left: no file can be made", "delete files on its disk")
    free = room(folder).free_bytes
    if free + held_bytes < wanted:
        told = f"{free / 1e6:.0f} MB are free, and no paid call is taken with less than {wanted / 1e6:.0f}"
        return fault(told, "make room on its disk; deleting images works")
    told = f"{free / 1e9:.1f} GB are free"
    return (
        ok(told) if free >= LITTLE_BYTES else warning(told, "make room on its disk before they are used up")
    )


async def spool(patient: Patient) -> list[Finding]:
    """See what waits in the spool, and what nobody will take up."""
    return await patient.blocking(_spool, patient.spool_dir, patient.settings.server.spool_max_bytes)


def _spool(root: Path, max_bytes: int | None) -> list[Finding]:
    if not root.exists():
        return [ok("empty: no proxy has served here yet")]
    depth = DepthGauge(root).measure()
    found: list[Finding] = []
    if damaged := sorted(root.glob("*/req_*/*.damaged")):
        found.append(
            warning(
                f"{len(damaged)} damaged images, such as {damaged[0]}",
                "a power cut or a failing disk spoilt them; look at the disk, and take them away",
            )
        )
    if dead := [each for each in left_behind(root, old_before_us=0) if each.kind == "stale_spool"]:
        found.append(
            warning(
                f"{len(dead)} processes died and left their part",
                "start pixie serve, or pixie verify --fix brings their images home",
            )
        )
    if max_bytes is not None and depth.size_bytes >= CLOSES_AT * max_bytes:
        found.append(
            fault(
                f"{depth.size_bytes / 1e9:.2f} GB wait for storage, and no paid call is taken from "
                f"{CLOSES_AT * max_bytes / 1e9:.2f} on",
                "see the storage's line: they go home when it is back; or raise server.spool_max_gb",
            )
        )
    if depth.oldest_s > WAITS_LONG_S:
        found.append(
            warning(
                f"{depth.calls} calls, the oldest for {depth.oldest_s / 3600:.1f} hours",
                "they wait for storage or index: mend those, and they go home by themselves",
            )
        )
    return found or [ok(f"{depth.calls} calls under way")]


async def server(patient: Patient) -> list[Finding]:
    """See whether a proxy serves from here, and ask it whether it takes paid calls."""
    serves = await patient.is_serving()
    port, address = patient.settings.server.port, _address(patient)
    if port == 0:
        return [ok("a proxy serves from here, on a port of its choice" if serves else _NOBODY)]
    try:
        seen = await look_at(f"http://{address}/readyz", timeout_s=READY_S)
    except Unseen:
        told = f"a proxy serves from this data directory, but not at {address}"
        return [
            warning(told, "give --config the settings that it was started with") if serves else ok(_NOBODY)
        ]
    try:
        said = orjson.loads(seen.body)
        is_ready, message, degraded = said["status"] == "ready", said.get("message"), said.get("degraded", [])
        wrong = [f"it answers, and {sentence(each['message'])}" for each in degraded]
    except (ValueError, LookupError, TypeError, AttributeError):
        return [warning(f"something else listens at {address}", "give the proxy another server.port")]
    if not is_ready:
        return [fault(f"it takes no paid calls now ({message})", "see what else is told here")]
    if not serves and patient.data_dir.exists():
        told = f"a proxy at {address} serves from another data directory"
        return [warning(told, "name its own with --data, or give this one another server.port")]
    return [warning(each, "see the storage's line; calls wait in the spool") for each in wrong] or [
        ok(f"it serves at {address}, and takes paid calls")
    ]


def _address(patient: Patient) -> str:
    listens = patient.settings.server
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listens.host, listens.host)  # noqa: S104 - compared, not bound
    return f"{f'[{host}]' if ':' in host else host}:{listens.port}"
