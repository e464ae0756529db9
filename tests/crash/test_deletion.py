"""What was deleted stays deleted, and what was not stays, whenever the proxy dies (R8)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import outside
from tests.support.proxy import ADMIN_KEY, RunningProxy, spawn_proxy
from tests.support.traffic import Asked, Traffic
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

GALLERY = {"trash_days": 1, "purge_at_once": 100_000}
LEFT = "SELECT id FROM images WHERE deleted_us IS NOT NULL UNION SELECT request_id FROM states_to_write"


def let_a_week_pass(data_dir: Path) -> None:
    """All that is in the trash is overdue at the next start."""
    with closing(sqlite3.connect(data_dir / "pixie.db")) as db, db:
        db.execute("UPDATE images SET deleted_us = deleted_us - 604800000000 WHERE deleted_us IS NOT NULL")


class Gone:
    """Images by what became of their deletion: `acknowledged`, or only `asked` for when the proxy died."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.acknowledged: set[str] = set()

    async def delete(self, proxy: RunningProxy, image_id: str) -> None:
        self.asked.add(image_id)
        with suppress(aiohttp.ClientError, ConnectionError):
            status, _, body = await proxy.request("DELETE", f"/v1/images/{image_id}", key=ADMIN_KEY)
            assert status in {200, 404}, body
            self.acknowledged.add(image_id)


@pytest.mark.parametrize("rounds", [pytest.param(40, marks=pytest.mark.torture)])
async def test_a_kill_in_the_middle_of_deletions_forgets_none(
    tmp_path: Path, upstream: ScriptedUpstream, rounds: int, record_figure: Callable[..., None]
) -> None:
    """Killed while 30 images are moved to the trash, and again while the trash is emptied."""
    data, traffic, gone = tmp_path / "data", Traffic(seed=8, sizes=(1000, 30_000), pause_s=0), Gone()
    upstream.default(traffic.answer)
    known: dict[str, Any] = {}
    for _ in range(rounds):
        async with spawn_proxy(data, upstream.base_url, gallery=GALLERY) as proxy:
            await asyncio.gather(*[traffic.call(proxy, Asked(n=n)) for n in (1, 2, 3, 4) * 4])
            await outside.settled(data)
            there = await outside.gallery(proxy)
            known |= {image["id"]: image for image in there}
            chosen = traffic.random.sample(there, 30)
            deletions = [asyncio.ensure_future(gone.delete(proxy, image["id"])) for image in chosen]
            await asyncio.sleep(traffic.random.uniform(0, 0.1))
            await outside.kill(proxy)
            await asyncio.gather(*deletions)
        let_a_week_pass(data)
        async with spawn_proxy(data, upstream.base_url, gallery=GALLERY) as proxy:
            await asyncio.sleep(traffic.random.uniform(0, 0.1))
            await outside.kill(proxy)
    async with spawn_proxy(data, upstream.base_url, gallery=GALLERY) as proxy:
        await eventually(lambda: not outside.rows(data, LEFT))
        listed = {image["id"]: image for image in await outside.gallery(proxy)}
        for image in known.values():
            content = proxy.request("GET", f"/v1/images/{image['id']}/content", key=ADMIN_KEY)
            assert ((await content)[0] == 200) == (image["id"] in listed)
    assert known.keys() - gone.asked <= listed.keys()
    assert not gone.acknowledged & listed.keys()
    assert {f"{image['request_id']}/{image['index']}.png": image["sha256"] for image in listed.values()} == {
        name: sha256 for name, sha256 in outside.stored(data).items() if name.endswith(".png")
    }
    record_figure("R8", kills=2 * rounds, deletions=len(gone.asked), violations=0)
