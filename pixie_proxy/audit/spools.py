"""What dead processes left in the spool: their folders, and uploads and beginnings that are nobody's any more."""

from __future__ import annotations

import shutil
from pathlib import Path

from pixie_proxy.audit.findings import Finding, Kind
from pixie_proxy.spool.area import PARTIALS, UPLOADS, calls_in, is_alive

_SHARED = {UPLOADS, PARTIALS}
"""Folders of the spool that are no process's own."""


def left_behind(root: Path, *, old_before_us: int) -> list[Finding]:
    """Look at the spool. What is being removed this moment is among it: ask `still_there` a little later."""
    uploads = _inside(
        root / UPLOADS
    )  # first: a process makes its own folder before, and removes it after them
    folders = _inside(root)
    processes = {folder.name for folder in folders}
    found = [
        _finding("leftover", folder, "uploads of a process that is gone")
        for folder in uploads
        if folder.name not in processes
    ]
    for folder in folders:
        try:
            if folder.name.startswith("."):  # not locked yet, and a start that is about to must not meet us
                if folder.stat().st_mtime_ns // 1000 < old_before_us:
                    found.append(_finding("leftover", folder, "a start that died"))
            elif folder.name not in _SHARED and not is_alive(root, folder.name):
                found.append(_finding("stale_spool", folder, f"calls: {len(calls_in(folder))}"))
        except FileNotFoundError:  # gone since
            continue
    return found


def still_there(findings: list[Finding]) -> list[Finding]:
    """Give those of which something is left."""
    return [finding for finding in findings if Path(finding.ref).exists()]


def holds(root: Path, request_id: str) -> bool:
    """Tell whether a call is in the spool of any process, dead or alive."""
    return any(path.parent.name not in _SHARED for path in root.glob(f"*/{request_id}"))


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
