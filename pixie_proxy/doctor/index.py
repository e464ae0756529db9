"""The index: that it opens, is whole, can be written, and is of a version that we know."""

from __future__ import annotations

from pixie_proxy import backends
from pixie_proxy.doctor import Finding, fault, ok, sentence, warning
from pixie_proxy.doctor.patient import Patient
from pixie_proxy.errors import ConfigError, IndexUnavailable

LARGE_WAL_BYTES = 256 * 1024 * 1024
"""The write-ahead log is cut back to 64 MB again and again; where it grows, somebody reads without end."""


async def index(patient: Patient) -> list[Finding]:
    """Tell of the file itself; whose it is, the storage's check tells."""
    try:
        found = await patient.index()
    except ConfigError as exc:
        saw, _, remedy = exc.problems[0].partition("; ")
        return [fault(saw, remedy)]
    except IndexUnavailable as exc:
        return [fault(sentence(exc.message), exc.remedy)]
    if found is None and not backends.is_postgres(patient.settings) and await patient.is_serving():
        told = f"{backends.INDEX_FILE} is gone, and a proxy works with what was there"
        return [fault(told, "stop the proxy, mount or restore it, and start again")]
    if found is None and backends.is_postgres(patient.settings):
        return [ok("the database holds no index yet: the first start makes it")]
    if found is None:
        return [ok(f"no {backends.INDEX_FILE} yet: the first start makes it")]
    if found.fault is not None:
        return [
            fault(
                f"it is damaged ({found.fault.splitlines()[0]})",
                "stop the server and restore a backup, or rebuild it: pixie reindex --apply",
            )
        ]
    if found.oldest_version > found.newest_version:
        return [
            fault(
                f"it has schema {found.version}, this version knows {found.newest_version}",
                "run the newer version, or restore a backup from before the upgrade",
            )
        ]
    if found.doubts:
        return [warning(saw, remedy) for saw, remedy in found.doubts]
    if found.wal_bytes > LARGE_WAL_BYTES:
        return [
            warning(
                f"its write-ahead log has {found.wal_bytes / 1e6:.0f} MB",
                "end the program that reads pixie.db all the time",
            )
        ]
    schema = f"schema {found.version}"
    if found.version < found.newest_version:
        schema += f", which the next start makes {found.newest_version}"
    elif found.version > found.newest_version:
        schema += f", by a newer version; this one knows {found.newest_version}, and works with it"
    if found.server:
        return [ok(f"{found.server}, {schema}")]
    whole = "whole" if found.is_whole else "large: the part that was looked at is whole"
    return [ok(f"{whole}, {schema}, {found.wal_bytes / 1e6:.1f} MB in its write-ahead log")]
