"""A data directory seen from outside: what a proxy has put on disk, whether or not it still lives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from pixie_proxy.spool.area import PARTIALS
from tests.support import postgres
from tests.support.proxy import ADMIN_KEY, RunningProxy
from tests.support.waiting import eventually


def rows(data_dir: Path, sql: str) -> list[dict[str, Any]]:
    """Read from the index, wherever it is."""
    if url := postgres.url_of(data_dir):
        return postgres.rows(url, sql)
    with closing(sqlite3.connect(f"{(data_dir / 'pixie.db').as_uri()}?mode=ro", uri=True, timeout=10)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(sql)]


def calls(data_dir: Path) -> list[dict[str, Any]]:
    """Give the ledger, oldest first."""
    return rows(
        data_dir, "SELECT id, state, hold_micros, cost_micros, error, flags FROM requests ORDER BY id"
    )


def account(data_dir: Path) -> dict[str, Any]:
    """Add up what all users have under way and have spent."""
    (found,) = rows(
        data_dir,
        "SELECT coalesce(sum(in_flight), 0) AS in_flight, coalesce(sum(held_micros), 0) AS held_micros,"
        " coalesce(sum(spent_life_micros), 0) AS spent_micros FROM accounts"
        " WHERE subject LIKE 'usr_%'",
    )
    return found


def spooled(data_dir: Path) -> list[Path]:
    """List what lies in the spool, but for what processes are known by, and partial images of ended streams."""
    # Not by rglob, which fails on what goes home meanwhile.
    found = [Path(folder, name) for folder, _, names in os.walk(data_dir / "spool") for name in names]
    known_by = {"lock", "id", "numbers.json"}
    kept = [path for path in found if path.name not in known_by and PARTIALS not in path.parts]
    # A probe of the disk is there for a moment, whatever calls do.
    return [path for path in kept if not path.name.startswith(".probe-")]


def is_settled(data_dir: Path, processes: int = 1) -> bool:
    """Tell whether every call has ended, nothing is held for any, and at most so many processes have a spool."""
    return (
        not [call for call in calls(data_dir) if call["state"] in {"admitted", "sent"}]
        and (account(data_dir)["in_flight"], account(data_dir)["held_micros"]) == (0, 0)
        and len([path for path in (data_dir / "spool").glob("[!.]*/") if path.name != PARTIALS])
        <= processes + 1
        and not spooled(data_dir)
    )


async def settled(data_dir: Path, processes: int = 1) -> None:
    """Wait until everything has ended, with so many processes still there."""
    await eventually(lambda: is_settled(data_dir, processes))


def stored(data_dir: Path) -> dict[str, str]:
    """Give the SHA-256 of every image in storage, by `request/file`."""
    return {
        f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (data_dir / "storage" / "images").glob("*/*/*/*/*")
        if path.name != "request.json"
    }


async def gallery(proxy: RunningProxy) -> list[dict[str, Any]]:
    """List every image, as an admin sees them."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = await proxy.get(f"/v1/images?limit=100{after}", key=ADMIN_KEY)
        found += page["data"]
        if not page["has_more"]:
            return found
        after = f"&after={page['last_id']}"


async def content(proxy: RunningProxy, image: dict[str, Any]) -> bytes:
    """Read an image's bytes through the proxy."""
    status, _, body = await proxy.request("GET", f"/v1/images/{image['id']}/content", key=ADMIN_KEY)
    assert status == 200, body
    return body


async def is_ready(proxy: RunningProxy) -> bool:
    """Ask whether paid calls are taken."""
    status, _, _ = await proxy.request("GET", "/readyz", key=None)
    return status == 200


async def kill(proxy: RunningProxy) -> None:
    """End a proxy as the kernel does when memory runs out: at once, and for good."""
    assert proxy.process is not None
    os.killpg(proxy.process.pid, signal.SIGKILL)
    await proxy.process.wait()


async def terminate(proxy: RunningProxy, timeout_s: float = 20) -> int:
    """Ask a proxy to stop; give its exit code."""
    assert proxy.process is not None
    proxy.process.terminate()
    return await asyncio.wait_for(proxy.process.wait(), timeout_s)


def json_of(answer: tuple[int, Any, bytes]) -> Any:
    """Give the body of an answer with status 200."""
    assert answer[0] == 200, answer[2]
    return orjson.loads(answer[2])
