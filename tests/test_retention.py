"""Retention in whole proxies: what users and operators see of it, when it is killed, misled by its clock, or on S3."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from pixie_proxy.config import S3Settings
from pixie_proxy.index.sqlite import open_sqlite
from pixie_proxy.storage import SENTINEL, folder_ref
from pixie_proxy.storage.bucket import Bucket
from tests.cli.running import PIXIE, environment, pixie
from tests.support import outside
from tests.support.clock import Clock
from tests.support.figures import RecordFigure
from tests.support.old_collection import add_rows, add_to, files, old_calls
from tests.support.proxy import ADMIN_KEY, RunningProxy, run_proxy, spawn_proxy
from tests.support.s3_servers import S3Server
from tests.support.scraping import scrape
from tests.support.waiting import eventually

UPSTREAM = "http://127.0.0.1:9/v1"
"""Nobody makes a paid call here."""
GALLERY = {"retention_days": 90}
TRASH = "SELECT id FROM images WHERE deleted_us IS NOT NULL"
LAGGING = "SELECT request_id FROM states_to_write"


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """The data directory of a proxy that was started once."""
    async with run_proxy(tmp_path / "data", UPSTREAM):
        pass
    return tmp_path / "data"


async def retention(data: Path, *arguments: str) -> dict[str, Any]:
    """Run the command, and give what it says."""
    ended = await pixie(
        "retention", "--days", "90", *arguments, "--json", "--data", str(data), cwd=data.parent
    )
    assert (ended.code, ended.err) == (0, "")
    found: dict[str, Any] = orjson.loads(ended.out)
    return found


async def is_filled(data: Path, images: int) -> None:
    """Wait until so many images are in the trash and their folders have followed; see that state.json tells it."""
    await eventually(lambda: (len(outside.rows(data, TRASH)), outside.rows(data, LAGGING)) == (images, []))
    told = {
        image_id: state["deleted_us"]
        for path in (data / "storage").rglob("state.json")
        for image_id, state in orjson.loads(path.read_bytes())["images"].items()
    }
    rows = outside.rows(data, "SELECT id, deleted_us FROM images WHERE link_epoch > 0")
    assert told == {row["id"]: row["deleted_us"] for row in rows}


async def holds_back(proxy: RunningProxy, images: int) -> bool:
    """Ask whether so many images are held back."""
    return (await scrape(proxy))("pixie_retention_held_images") == images


async def test_old_images_go_and_one_comes_back_for_good(data: Path) -> None:
    """Their owner finds them in the trash, and what is restored stays, whatever starts anew."""
    await add_to(data, 4, 5, days=91)
    await add_to(data, 1, 2, days=89)
    async with run_proxy(data, UPSTREAM, gallery=GALLERY) as proxy:
        await is_filled(data, 20)
        young = await outside.gallery(proxy)
        assert len(young) == 2
        thrown = (await proxy.get("/v1/images?deleted=true"))["data"]
        assert len(thrown) == 20
        outside.json_of(await proxy.request("POST", f"/v1/images/{thrown[0]['id']}/restore"))
    await add_to(data, 1, 1, days=95)
    async with run_proxy(data, UPSTREAM, gallery=GALLERY) as proxy:
        await is_filled(data, 20)
        found = await outside.gallery(proxy)
        assert {image["id"] for image in found} == {thrown[0]["id"], *[image["id"] for image in young]}
        for image in found:
            assert await outside.content(proxy, image)


async def test_an_old_collection_waits_for_an_operator(data: Path) -> None:
    """Switched on over 102 old images it does nothing but say so; the command shows them, and lets them go."""
    await add_to(data, 34, 3, days=120, owner="bob")
    await add_to(data, 1, 1, days=1, owner="carol")
    async with run_proxy(data, UPSTREAM, gallery=GALLERY) as proxy:
        await eventually(lambda: holds_back(proxy, 102))
        assert len(await outside.gallery(proxy)) == 103
        shown = await retention(data)
        assert (shown["applied"], shown["due"], shown["allowed_at_once"]) == (False, 102, 100)
        assert {(part["owner"], part["images"]) for part in shown["months"]} == {("bob", 102)}
        assert outside.rows(data, TRASH) == []
        done = await retention(data, "--apply")
        assert (done["moved"], done["left"]) == (102, 0)
        await is_filled(data, 102)
        assert [image["owner"] for image in await outside.gallery(proxy)] == ["carol"]
    assert (await retention(data))["due"] == 0


async def test_people_are_told_what_would_go(data: Path) -> None:
    """By month and owner, and what to type next; without a number of days there is nothing to tell."""
    await add_to(data, 51, 2, days=120)
    ended = await pixie("retention", "--days", "90", "--data", str(data), cwd=data.parent)
    assert ended.code == 0
    assert "102 of 102 images are older than 90 days" in ended.out
    assert "dry run" in ended.out
    assert "pixie retention --apply" in ended.out
    assert "bob" in ended.out
    ended = await pixie("retention", "--data", str(data), cwd=data.parent)
    assert (ended.code, "gallery.retention_days" in ended.err) == (2, True)
    (data / "storage" / SENTINEL).unlink()
    ended = await pixie("retention", "--days", "90", "--apply", "--data", str(data), cwd=data.parent)
    assert (ended.code, "is it mounted?" in ended.err, outside.rows(data, TRASH)) == (2, True, [])


async def test_a_start_with_a_clock_days_ahead_takes_no_gallery_away(
    tmp_path: Path, data: Path, record_figure: RecordFigure
) -> None:
    """Ten days too far, and a month's images look too old: they stay, and are served."""
    clock = Clock(tmp_path)
    await add_to(data, 51, 2, days=85)
    clock.set(10 * 86_400)
    async with spawn_proxy(data, UPSTREAM, prefix=clock.prefix, gallery=GALLERY) as proxy:
        await eventually(lambda: holds_back(proxy, 102))
        assert len(await outside.gallery(proxy)) == 102
    assert outside.rows(data, TRASH) == []
    record_figure("R98", images_held_back=102, violations=0)


def pictures(data: Path) -> dict[str, str]:
    """Give the digest of every image in storage."""
    return {name: sha256 for name, sha256 in outside.stored(data).items() if name.endswith(".png")}


async def let_some_go(data: Path, dice: random.Random) -> None:
    """Kill `pixie retention --apply` a moment after it has begun to change something."""
    before = len(outside.rows(data, TRASH))
    command = await asyncio.create_subprocess_exec(
        *PIXIE, "retention", "--days", "90", "--apply", "--data", str(data),
        env=environment(), stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    ending = asyncio.ensure_future(command.wait())
    await eventually(lambda: ending.done() or len(outside.rows(data, TRASH)) > before)
    await asyncio.sleep(dice.uniform(0, 0.1))
    with suppress(ProcessLookupError):
        command.kill()
    await ending


@pytest.mark.parametrize(("calls", "kills"), [(11, 1), pytest.param(334, 12, marks=pytest.mark.torture)])
async def test_a_kill_in_the_middle_of_retention_leaves_no_half(
    data: Path, record_figure: RecordFigure, calls: int, kills: int
) -> None:
    """Of the command and of the proxy: all that is old is in the trash in the end, whole, and nothing else is."""
    seed = random.randrange(2**32) if calls > 100 else 8
    dice, halves = random.Random(seed), 0
    for part in range(4):
        await add_to(data, calls // 4 + 1, 3, days=100 + part)
    images = 3 * 4 * (calls // 4 + 1)
    await add_to(data, 5, 3, days=80)
    before = pictures(data)
    for _ in range(kills):
        await let_some_go(data, dice)
        halves += bool(outside.rows(data, LAGGING))
    for _ in range(kills):
        async with spawn_proxy(data, UPSTREAM, gallery=GALLERY) as proxy:
            await asyncio.sleep(dice.uniform(0, 0.05))
            await outside.kill(proxy)
        halves += bool(outside.rows(data, LAGGING))
    await retention(data, "--apply")
    async with run_proxy(data, UPSTREAM, gallery=GALLERY) as proxy:
        await is_filled(data, images)
        assert len(await outside.gallery(proxy)) == 15
    assert pictures(data) == before
    record_figure("R8", retired=images, kills=2 * kills, kills_half_way=halves, violations=0, seed=seed)


@pytest.mark.xdist_group("ceph")
async def test_old_images_go_from_s3_too(tmp_path: Path, ceph: S3Server) -> None:
    """Into the trash with a state.json, and then their objects with them."""
    data, s3 = tmp_path / "data", ceph.bucket()
    sections: dict[str, Any] = {"storage": {"kind": "s3", "s3": s3}, "gallery": {**GALLERY, "trash_days": 1}}
    async with run_proxy(data, UPSTREAM, **sections):
        pass
    (bob,) = outside.rows(data, "SELECT id, name FROM users WHERE name = 'bob'")
    calls = old_calls(3, 2, days=100, owner=(bob["id"], bob["name"]))
    index = await open_sqlite(data / "pixie.db", lock_path=data / "pixie.lock")
    await add_rows(index, calls)
    await index.close()
    bucket = Bucket(S3Settings(**s3))
    for call in calls:
        for ref, content in files(call):
            await bucket.put(ref, content, attributes={})
    async with run_proxy(data, UPSTREAM, **sections) as proxy:
        await eventually(lambda: (len(outside.rows(data, TRASH)), outside.rows(data, LAGGING)) == (6, []))
        for call in calls:
            state = b"".join([piece async for piece in bucket.read(f"{folder_ref(call.call.id)}/state.json")])
            assert orjson.loads(state)["images"].keys() == {image.id for image in call.images}
        assert await proxy.get("/v1/images", key=ADMIN_KEY) | {"data": []} == {
            "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
        }  # fmt: skip
    with closing(sqlite3.connect(data / "pixie.db", timeout=10)) as db, db:
        db.execute("UPDATE images SET deleted_us = 1")
    async with run_proxy(data, UPSTREAM, **sections):
        await eventually(lambda: not outside.rows(data, "SELECT id FROM images"))
        await eventually(lambda: not outside.rows(data, LAGGING))
    assert [file.ref async for page in bucket.walk("") for file in page] == [SENTINEL]
