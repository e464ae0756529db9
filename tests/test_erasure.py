"""Somebody is deleted: every trace but the anonymous ledger goes, and nobody else loses a byte (R89)."""

from __future__ import annotations

import asyncio
import io
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from pixie_proxy.accounts import erasing, people
from pixie_proxy.gallery.thumbnail_worker import Thumbnail
from pixie_proxy.index import Tx
from pixie_proxy.index.copying import open_beside
from pixie_proxy.index.usage import Billed, billed
from pixie_proxy.records import ImageRecord
from tests.cli.running import pixie_here
from tests.support import outside
from tests.support.figures import RecordFigure
from tests.support.person import GENERATIONS, USERS, Person
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, RunningProxy, run_proxy, spawn_proxy
from tests.support.upstream import ScriptedUpstream, image_json, pause
from tests.support.waiting import eventually
from tests.web.browsing import sign_in

LEFT = (
    "SELECT id FROM users WHERE deleted_us IS NOT NULL AND erased_us IS NULL"
    " UNION SELECT request_id FROM states_to_write"
)


def bill(data: Path) -> list[Billed]:
    """Give what `pixie usage reconcile` holds against the provider's bill."""
    with open_beside(data / "pixie.db") as tx:
        return list(billed(tx, since_us=0, until_us=2**60))


def belongings(data: Path, user_id: str) -> list[Any]:
    """Give all rows of somebody, and all files in storage byte for byte."""
    kept = [
        outside.rows(data, f"{select} = '{user_id}' ORDER BY id")
        for select in (
            "SELECT * FROM users WHERE id",
            "SELECT * FROM requests WHERE user_id",
            "SELECT * FROM images WHERE owner_id",
            "SELECT * FROM corrections WHERE user_id",
            "SELECT * FROM acts WHERE user_id",
        )
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
    "kills", [pytest.param(1, id="one"), pytest.param(60, id="many", marks=pytest.mark.torture)]
)
async def test_a_kill_in_the_middle_leaves_no_half(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure, kills: int
) -> None:
    """Killed at any instant, a deletion that was begun comes to its end at the next start; nothing half is shown."""
    dice, interrupted = random.Random(seed := 89), 0
    for number in range(kills):
        data = tmp_path / f"data{number}"
        async with spawn_proxy(data, upstream.base_url) as proxy:
            person, other = await Person.join(proxy, number), await Person.join(proxy, 1000 + number)
            await person.live(proxy, upstream)
            await other.live(proxy, upstream)
            untouched = belongings(data, other.id)
            deleting = asyncio.ensure_future(_told(proxy, person))
            await asyncio.sleep(dice.random() * 0.08)
            await outside.kill(proxy)
            was_told = await deleting
        interrupted += bool(outside.rows(data, LEFT))
        async with spawn_proxy(data, upstream.base_url) as proxy:
            if await no_half(proxy, person):
                assert not was_told
                assert (await person.delete(proxy))[0] == 200
            await is_erased(data)
        assert person.traces(data) == []
        assert belongings(data, other.id) == untouched
    record_figure("R89", users=kills, kills=kills, interrupted=interrupted, violations=0, seed=seed)


async def _told(proxy: RunningProxy, person: Person) -> bool:
    with suppress(aiohttp.ClientError, ConnectionError):
        return (await person.delete(proxy))[0] == 200
    return False


async def refused(proxy: RunningProxy, path: str, key: str = ADMIN_KEY) -> tuple[int, str]:
    status, _, answer = await proxy.request("DELETE", f"{USERS}/{path}", key=key)
    return status, "" if status == 200 else orjson.loads(answer)["error"]["message"]


async def test_who_may_not_be_deleted(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Not without the name, by nobody but an admin, not oneself, none of the settings, none with calls under way."""
    person = await Person.join(proxy, 1)
    where = f"{person.id}?confirm={person.name}"
    assert await refused(proxy, person.name) == (
        400,
        "Give 'confirm', the name of the user to delete for good.",
    )
    status, said = await refused(proxy, f"{person.name}?confirm={person.name.upper()}")
    assert (status, f"'{person.name}'" in said) == (400, True)
    assert (await refused(proxy, f"{where}&cascade=1"))[0] == 400
    assert (await refused(proxy, "nobody?confirm=nobody"))[0] == 404
    for key in (MEMBER_KEY, person.key):
        assert (await refused(proxy, where, key))[0] == 403
    assert (await refused(proxy, "alice?confirm=alice"))[0] == 403
    status, said = await refused(proxy, "bob?confirm=bob")
    assert (status, "remove it there first" in said) == (400, True)

    may_end = asyncio.Event()
    upstream.script(pause(may_end), image_json(1))
    told = {"prompt": "a fox"}
    call = asyncio.ensure_future(proxy.request("POST", GENERATIONS, json=told, key=person.key))
    await upstream.wait_for_requests(1)
    status, said = await refused(proxy, where)
    assert (status, "calls under way (1)" in said) == (400, True)
    may_end.set()
    assert (await call)[0] == 200
    await outside.settled(proxy.data_dir)
    assert await refused(proxy, where) == (200, "")


async def test_an_admin_may_be_deleted_by_another(proxy: RunningProxy) -> None:
    """Not the last one: who that is can't be deleted by anybody else, and not by itself."""
    made = {"name": "amy", "role": "admin"}
    amy = outside.json_of(await proxy.request("POST", USERS, json=made, key=ADMIN_KEY))["first_key"]["key"]
    assert (await refused(proxy, "amy?confirm=amy", amy))[0] == 403
    assert (await refused(proxy, "amy?confirm=amy"))[0] == 200
    assert (await proxy.request("GET", USERS, key=amy))[0] == 401


async def test_who_was_let_in_just_before_buys_nothing(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Another process hears of a deletion half a second later: it is the index that admits a call."""
    person = await Person.join(proxy, 2)
    assert proxy.context is not None

    def delete(tx: Tx) -> None:
        erasing.delete_user(tx, people.find_user(tx, person.name), person.name)

    await proxy.context.index.write(delete)
    told = {"prompt": "a fox"}
    status, _, _ = await proxy.request("POST", GENERATIONS, json=told, key=person.key)
    assert (status, upstream.requests) == (401, [])


async def test_a_thumbnail_that_is_being_made_does_not_stay(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for it gets it; the cache forgets what is gone."""
    person = await Person.join(proxy, 3)
    await person.live(proxy, upstream)
    assert proxy.context is not None
    thumbnails, image_id = proxy.context.thumbnails, person.image_ids[1]
    make = thumbnails._ask

    async def make_while_its_owner_goes(record: ImageRecord, size_px: int) -> Thumbnail:
        made = await make(record, size_px)
        assert (await person.delete(proxy))[0] == 200
        await is_erased(proxy.data_dir)
        return made

    monkeypatch.setattr(thumbnails, "_ask", make_while_its_owner_goes)
    await proxy.request("GET", f"/v1/images/{image_id}/thumbnail?size=512", key=ADMIN_KEY)
    assert person.traces(proxy.data_dir) == []


_NOBODY: dict[str, Any] = {"users": []}


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_the_last_admin_stays(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Who has the machine can't delete it either."""
    data = tmp_path / "data"
    async with run_proxy(data, upstream.base_url, **_NOBODY):
        ended = await pixie_here("user", "delete", "admin", "--yes", "--data", str(data))
        assert (ended.code, "the last admin" in ended.err) == (2, True)


async def test_the_command_does_all_of_it(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a proxy that runs: it asks for the name, refuses without, deletes, and names the older copies."""
    data = tmp_path / "data"
    async with run_proxy(data, upstream.base_url) as proxy:
        person = await Person.join(proxy, 4)
        await person.live(proxy, upstream)
        (data / "pixie.db.before-9").write_bytes(b"")
        delete = ("user", "delete", person.name, "--data", str(data))
        ended = await pixie_here(*delete)
        assert (ended.code, "--yes" in ended.err) == (2, True)
        monkeypatch.setattr("sys.stdin", _Terminal("amy\n"))
        ended = await pixie_here(*delete)
        assert (ended.code, "'confirm' must be" in ended.err) == (2, True)
        for name, why in (("bob", "declared in the settings"), ("nobody", "there is no user")):
            ended = await pixie_here("user", "delete", name, "--yes", "--data", str(data))
            assert (ended.code, why in ended.err) == (2, True), ended
        ended = await pixie_here(*delete, "--yes")
        assert (ended.code, "with 5 images" in ended.out) == (0, True), ended
        assert str(data / "pixie.db.before-9") in ended.out
        assert person.traces(data) == []
        await eventually(lambda: _is_shut_out(proxy, person))


async def _is_shut_out(proxy: RunningProxy, person: Person) -> bool:
    return (await proxy.request("GET", "/v1/me", key=person.key))[0] == 401
