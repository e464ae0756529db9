"""Somebody is deleted: every trace but the anonymous ledger goes, at any instant of it, and nobody else loses a byte (R89)."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pixie_proxy.index.copying import open_beside
from pixie_proxy.index.usage import Billed, billed
from tests.cli.running import pixie_here
from tests.support import outside
from tests.support.figures import RecordFigure
from tests.support.person import EDITS, GENERATIONS, USERS, Person
from tests.support.pictures import png
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, RunningProxy, run_proxy, spawn_proxy
from tests.support.upstream import ScriptedUpstream, image_json, image_json_bytes, body, head, pause
from tests.support.waiting import eventually
from tests.web.browsing import sign_in

ERASED = "SELECT id FROM users WHERE deleted_us IS NOT NULL AND erased_us IS NULL"
LEFT = f"{ERASED} UNION SELECT request_id FROM states_to_write"


def bill(data: Path) -> list[Billed]:
    """Give what `pixie usage reconcile` holds against the provider's bill."""
    with open_beside(data / "pixie.db") as tx:
        return list(billed(tx, since_us=0, until_us=2**60))


def belongings(data: Path, user_id: str) -> list[Any]:
    """Give all rows of somebody, and all files in storage byte for byte."""
    tables = {
        "users": "id",
        "requests": "user_id",
        "images": "owner_id",
        "corrections": "user_id",
        "acts": "user_id",
    }
    kept = [
        outside.rows(data, f"SELECT * FROM {table} WHERE {column} = '{user_id}'")
        for table, column in tables.items()
    ]
    folders = {row["id"] for row in kept[1]}
    files = sorted((data / "storage" / "images").rglob("*.*"))
    return [*kept, [(path.name, path.read_bytes()) for path in files if path.parent.name in folders]]


async def usage(proxy: RunningProxy, by: str) -> Any:
    """Give the sums of all time."""
    said = await proxy.get(f"/v1/usage?by={by}&since=2020-01-01", ADMIN_KEY)
    return said["total"], said["data"]


async def is_erased(data: Path) -> None:
    await eventually(lambda: not outside.rows(data, LEFT))


async def test_nothing_is_left_but_the_anonymous_ledger(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure
) -> None:
    """No word of the user is in any byte of index, log of the index, spool, storage, thumbnails and the proxy's log.

    Another user's rows and files stay as they are, and the sums of the ledger to the micro.
    """
    data, log = tmp_path / "data", tmp_path / "log"
    async with spawn_proxy(data, upstream.base_url) as proxy:
        person, other = await Person.join(proxy, 89), await Person.join(proxy, 90)
        await person.live(proxy, upstream)
        await other.live(proxy, upstream)
        browser = await sign_in(proxy, person.key)
        found = {what for _, what in person.traces(data)}
        assert len(person.canaries) >= 20
        assert set(person.canaries) - found <= {"key", "file name", "user parameter", "bytes of an input"}
        untouched = belongings(data, other.id)
        before = (
            bill(data),
            await usage(proxy, "model"),
            await usage(proxy, "day"),
            outside.rows(data, "SELECT * FROM accounts"),
        )
        users = await usage(proxy, "user")

        status, said = await person.delete(proxy)
        assert (status, said) == (200, {"id": person.id, "object": "user", "deleted": True, "images": 5})
        for path in ("/v1/me", "/v1/images"):
            assert (await proxy.request("GET", path, key=person.key))[0] == 401
        assert (await browser.get("/"))[0] == 303
        for link in person.links:
            assert (await proxy.request("GET", link, key=None))[0] == 404
        for image_id in person.image_ids:
            assert (await proxy.request("GET", f"/v1/images/{image_id}", key=ADMIN_KEY))[0] == 404
        assert (await proxy.request("GET", f"{USERS}/{person.id}", key=ADMIN_KEY))[0] == 404
        assert (await person.delete(proxy))[0] == 404
        await is_erased(data)

        assert person.traces(data) == []
        assert before == (
            bill(data),
            await usage(proxy, "model"),
            await usage(proxy, "day"),
            outside.rows(data, "SELECT * FROM accounts"),
        )
        assert belongings(data, other.id) == untouched
        acts = (await proxy.get(f"/v1/admin/acts?user={person.id}", ADMIN_KEY))["data"]
        assert (acts[0]["action"], acts[0]["details"], acts[-1]["details"]) == (
            "user.delete",
            {"images": 5},
            {},
        )
        nameless = f"deleted-{person.id[-8:]}"
        assert str(await usage(proxy, "user")) == str(users).replace(person.name, nameless)
        assert proxy.process is not None
        proxy.process.terminate()
        _, told = await proxy.process.communicate()
        log.write_bytes(told)
    assert person.traces(data, log) == []
    config = str(tmp_path / "data.yaml")
    for command in (("verify",), ("reindex", "--apply"), ("verify",)):
        ended = await pixie_here(*command, "--config", config)
        assert ended.code == 0, ended
    assert person.traces(data) == []
    assert belongings(data, other.id) == untouched
    record_figure("R89", users=1, traces_before=len(found), violations=0)


async def no_half(proxy: RunningProxy, person: Person) -> bool:
    """See that either all of somebody is shown, or nothing; tell which."""
    users = [user["id"] for user in (await proxy.get(USERS, ADMIN_KEY))["data"]]
    shown = [image for image in await outside.gallery(proxy) if image["id"] in person.image_ids]
    is_there = person.id in users
    assert len(shown) == (len(person.image_ids) - 1 if is_there else 0)
    calls = await proxy.get("/v1/requests?limit=100", ADMIN_KEY)
    assert is_there or not any(word.decode() in str(calls) for word in person.canaries.values())
    assert (await proxy.request("GET", "/v1/me", key=person.key))[0] == (200 if is_there else 401)
    return is_there


@pytest.mark.parametrize(
    "kills", [pytest.param(2, id="few"), pytest.param(60, id="many", marks=pytest.mark.torture)]
)
async def test_a_kill_in_the_middle_leaves_no_half(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure, kills: int
) -> None:
    """Killed at any instant, a deletion that was begun comes to its end at the next start; nothing half is shown."""
    dice = random.Random(seed := 89)
    for number in range(kills):
        data = tmp_path / f"data{number}"
        async with spawn_proxy(data, upstream.base_url) as proxy:
            person, other = await Person.join(proxy, number), await Person.join(proxy, 1000 + number)
            await person.live(proxy, upstream)
            await other.live(proxy, upstream)
            untouched = belongings(data, other.id)
            deleting = asyncio.ensure_future(_told(proxy, person))
            await asyncio.sleep(dice.random() * 0.15)
            await outside.kill(proxy)
            was_told = await deleting
        async with spawn_proxy(data, upstream.base_url) as proxy:
            if await no_half(proxy, person):
                assert not was_told
                assert (await person.delete(proxy))[0] == 200
            await is_erased(data)
        assert person.traces(data) == []
        assert belongings(data, other.id) == untouched
    record_figure("R89", users=kills, kills=kills, violations=0, seed=seed)


async def _told(proxy: RunningProxy, person: Person) -> bool:
    with suppress(aiohttp.ClientError, ConnectionError):
        return (await person.delete(proxy))[0] == 200
    return False
