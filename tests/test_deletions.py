"""A proxy that is killed while it deletes: no row without its image, nothing back that was gone for good (R8)."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import outside
from tests.support.buying import Buyer, draw
from tests.support.figures import RecordFigure
from tests.support.proxy import RunningProxy, spawn_proxy
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually


async def throw_away(proxy: RunningProxy, image: dict[str, Any], gone: set[str]) -> None:
    """Delete an image, and remember it if we were told that it is."""
    with suppress(aiohttp.ClientError, ConnectionError):
        status, _, _ = await proxy.request("DELETE", f"/v1/images/{image['id']}")
        if status == 200:
            gone.add(image["id"])


def make_overdue(data: Path) -> int:
    """Let everything in the trash have lain there for years; return how much that is."""
    with closing(sqlite3.connect(data / "pixie.db", timeout=10)) as db, db:
        return db.execute("UPDATE images SET deleted_us = 1 WHERE deleted_us IS NOT NULL").rowcount


async def readable(proxy: RunningProxy) -> set[str]:
    """Give the images that are shown, having read each of them."""
    shown = await outside.gallery(proxy)
    for image in shown:
        assert len(await outside.content(proxy, image)) == image["bytes"]
    return {image["id"] for image in shown}


async def delete_and_kill(
    data: Path, upstream: ScriptedUpstream, *, calls: int, kills: int, seed: int
) -> int:
    """Delete half of all images, then purge them, with kills at random instants of both; return how many went."""
    dice, buyer, gone = random.Random(seed), Buyer(), set[str]()
    gallery = {"purge_at_once": 1000}
    upstream.default(draw)
    async with spawn_proxy(data, upstream.base_url, gallery=gallery) as proxy:
        await asyncio.gather(*[buyer.buy(proxy, n=3) for _ in range(calls)])
        await outside.settled(data)
        images = await outside.gallery(proxy)
    doomed = dice.sample(images, len(images) // 2)
    for _ in range(kills):
        async with spawn_proxy(data, upstream.base_url, gallery=gallery) as proxy:
            left = [image for image in doomed if image["id"] not in gone]
            deleting = [
                asyncio.ensure_future(throw_away(proxy, image, gone))
                for image in left[: 1 + len(doomed) // kills]
            ]
            await asyncio.sleep(dice.random() * 0.01 * len(deleting))
            await outside.kill(proxy)
            await asyncio.gather(*deleting)
    async with spawn_proxy(data, upstream.base_url, gallery=gallery) as proxy:
        shown = await readable(proxy)
        assert shown.isdisjoint(gone)
        await asyncio.gather(*[throw_away(proxy, image, gone) for image in doomed if image["id"] in shown])
        shown = await readable(proxy)
        assert {image["id"] for image in images} - {image["id"] for image in doomed} == shown
    purged = make_overdue(data)
    for _ in range(kills):
        async with spawn_proxy(data, upstream.base_url, gallery=gallery) as proxy:
            await asyncio.sleep(dice.random() * 0.15)
            await outside.kill(proxy)
    async with spawn_proxy(data, upstream.base_url, gallery=gallery) as proxy:
        await eventually(lambda: not outside.rows(data, "SELECT request_id FROM states_to_write"))
        assert await readable(proxy) == shown
    assert len(outside.rows(data, "SELECT id FROM images")) == len(shown)
    assert len([name for name in outside.stored(data) if name.endswith(".png")]) == len(shown)
    return purged


async def test_a_kill_during_deletions_leaves_no_half_of_one(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure
) -> None:
    """What is shown can be read, what is gone stays gone, and its files go with it, whenever the kill came."""
    purged = await delete_and_kill(tmp_path / "data", upstream, calls=8, kills=1, seed=8)
    record_figure("R8", deletions=purged, kills=2, violations=0, seed=8)


@pytest.mark.torture
@pytest.mark.parametrize("part", range(5))
async def test_kills_during_a_thousand_deletions(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure, part: int
) -> None:
    """R8 in full, a fifth of it at a time."""
    seed = random.randrange(2**32)
    purged = await delete_and_kill(tmp_path / "data", upstream, calls=140, kills=8, seed=seed)
    assert purged >= 200
    record_figure("R8", deletions=purged, kills=16, violations=0, seed=seed)
