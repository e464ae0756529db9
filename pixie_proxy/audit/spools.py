"""What dead processes left in the spool: their folders, and uploads and beginnings that are nobody's any more."""

from __future__ import annotations

import shutil
from pathlib import Path

from pixie_proxy.audit.findings import Finding, Kind
from pixie_proxy.spool.area import UPLOADS, calls_in, is_abandoned


def left_behind(root: Path, *, old_before_us: int) -> list[Finding]:
    """Look at the spool. What is just being made or removed may look as if it was left: look twice."""
    folders = [path for path in _inside(root) if path.name != UPLOADS]
    found = []
    for folder in folders:
        try:
            if folder.name.startswith("."):  # not locked yet, and a start that is about to must not meet us
                if folder.stat().st_mtime_ns // 1000 < old_before_us:
                    found.append(_finding("leftover", folder, "a start that died"))
            elif is_abandoned(folder):
                found.append(_finding("stale_spool", folder, f"calls: {len(calls_in(folder))}"))
        except FileNotFoundError:  # gone since
            continue
    processes = {folder.name for folder in folders}
    found += [
        _finding("leftover", uploads, "uploads of a process that is gone")
        for uploads in _inside(root / UPLOADS)
        if uploads.name not in processes
    ]
    return found


def remove(leftover: Finding) -> None:
    """Remove uploads or a beginning that nobody has; no call's images are in them."""
    shutil.rmtree(leftover.ref, ignore_errors=True)


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def _finding(kind: Kind, folder: Path, detail: str) -> Finding:
    return Finding(kind=kind, ref=str(folder), detail=detail)
