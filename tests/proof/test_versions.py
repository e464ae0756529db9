"""Two versions of the program on one PostgreSQL, and back: nobody notices, and each reads what the other wrote (R96).

The newer version is this one with a further step of the schema, of each kind that may be added, in a folder of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

import pixie_proxy
from pixie_proxy.gallery.collections import MAX_COLLECTIONS
from pixie_proxy.index.migrate import newest_schema
from tests.support import outside
from tests.support.callers import Receipt, orders, place
from tests.support.figures import RecordFigure
from tests.support.ledgers import compare
from tests.support.postgres import Server
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, RunningProxy, spawn_proxy
from tests.support.studio import Studio
from tests.support.waiting import eventually

SEED = 96
LONGEST_S = 2.0
"""So long may the upstream take."""
READERS = 4
_TRIES = 10
NEXT = newest_schema() + 1

ADDS = """
CREATE TABLE ratings (
    image_id TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    stars    BIGINT NOT NULL
);
ALTER TABLE images
    ADD COLUMN origin TEXT COLLATE "C" NOT NULL DEFAULT 'proxy',
    ADD COLUMN rating BIGINT;
ALTER TABLE requests ADD COLUMN reason TEXT COLLATE "C";
ALTER TABLE accounts ADD COLUMN bonus_micros BIGINT NOT NULL DEFAULT 0;
CREATE INDEX images_by_rating ON images (rating, id);
CREATE FUNCTION ratings_follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ratings (image_id, stars) VALUES (new.id, 3);
    RETURN NULL;
END $$;
CREATE TRIGGER ratings_follow AFTER INSERT ON images FOR EACH ROW EXECUTE FUNCTION ratings_follow();
"""
BREAKS = f"""-- Breaks programs before schema {NEXT}: they read requests.skeleton.
ALTER TABLE requests DROP COLUMN skeleton;
"""
UNRATED = "SELECT id FROM images WHERE id NOT IN (SELECT image_id FROM ratings)"


def version(folder: Path, step: str) -> Path:
    """Make a version of the program that has one more step; give the folder that it is in."""
    package = Path(pixie_proxy.__file__).parent
    shutil.copytree(package, folder / package.name)
    for migrations in ("index/migrations", "index/postgres/migrations"):
        (folder / package.name / migrations / f"{NEXT:04d}_later.sql").write_text(step)
    return folder


class Host:
    """A place where one version or the other runs, with a data directory of its own."""

    def __init__(self, data: Path, storage: Path, upstream_url: str) -> None:
        self.data = data
        self._storage, self._upstream_url = storage, upstream_url
        self._running = AsyncExitStack()

    async def start(self, program: Path | None) -> RunningProxy:
        """Start this version, or another."""
        spawned = spawn_proxy(
            self.data,
            self._upstream_url,
            program=program,
            storage={"kind": "local", "path": str(self._storage)},
            server={"public_url": "http://pixie.test"},  # both say the same of themselves
            gallery={"add_url": False},
        )
        self.proxy = await self._running.enter_async_context(spawned)
        return self.proxy

    async def stop(self) -> None:
        assert await outside.terminate(self.proxy, 60) == 0
        await self._running.aclose()

    async def end(self) -> None:
        await self._running.aclose()


@asynccontextmanager
async def two_hosts(folder: Path, upstream_url: str, server: Server) -> AsyncIterator[tuple[Host, Host]]:
    a, b = (Host(folder / name, folder / "a" / "storage", upstream_url) for name in ("a", "b"))
    server.keep_index(a.data)
    server.share_index(a.data, b.data)
    try:
        yield a, b
    finally:
        await asyncio.gather(a.end(), b.end())


class Load:
    """Callers who buy at one host, and read and change at another; at whichever are open. Nobody asks twice."""

    def __init__(self, callers: int) -> None:
        self._callers = callers
        self.receipts: list[Receipt] = []
        self.failures: Counter[str] = Counter()
        self.acts = 0
        self._random = Random(SEED)
        self._numbers = count()
        self._collections = iter(range(MAX_COLLECTIONS))
        self._open: dict[str, RunningProxy] = {}
        self._busy: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._is_over = False

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Begin; at the end let all calls end."""
        self._is_over = False
        callers = [asyncio.ensure_future(self._call()) for _ in range(self._callers)]
        try:
            yield
        finally:
            self._is_over = True
            await asyncio.gather(*callers)

    def open(self, proxy: RunningProxy) -> None:
        """Call this host, too."""
        proxy.sdk()
        self._open[proxy.url] = proxy

    async def leave(self, proxy: RunningProxy) -> None:
        """Call it no more, as a front proxy does before a host is stopped."""
        del self._open[proxy.url]
        await eventually(lambda: not self._busy[proxy.url], 60)

    async def go_on(self, calls: int, for_s: float = 0) -> None:
        """Wait until so many more are answered at each open host, and this time has passed."""
        before = self._answered.copy()
        await asyncio.gather(
            asyncio.sleep(for_s),
            eventually(
                lambda: all(self._answered[url] >= before[url] + calls for url in self._open), 60 + for_s
            ),
        )

    @asynccontextmanager
    async def _door(self) -> AsyncIterator[RunningProxy]:
        await eventually(lambda: self._open, 60)
        proxy = self._random.choice([*self._open.values()])
        self._busy[proxy.url] += 1
        try:
            yield proxy
        finally:
            self._busy[proxy.url] -= 1
        self._answered[proxy.url] += 1

    async def _call(self) -> None:
        while not self._is_over:
            number = next(self._numbers)
            label = f"word{number}"
            (order,) = orders(1, SEED * 10_000 + number, label=label)
            async with self._door() as door:
                receipt = await place(door.clients[0], order)
            self.receipts.append(receipt)
            if receipt.error is not None:
                self.failures[receipt.error] += 1
            else:
                await self._act(label, receipt)

    async def _act(self, label: str, receipt: Receipt) -> None:
        """Find the images of a call by what was asked for, read them, and change something about each."""
        found = await self._listed(label, len(receipt.images))
        for image in found:
            path = f"/v1/images/{image['id']}"
            content = await self._ask("GET", f"{path}/content", tries=_TRIES)
            if hashlib.sha256(content).hexdigest() not in receipt.images:
                self.failures["other bytes"] += 1
            await self._ask("POST", path, json={"tags": [label, "fox"], "visibility": "private"})
            await self._ask("POST", f"{path}/shares", json={"show_prompt": True})
            await self._ask("POST", f"{path}/favorite")
            if next(self._collections, None) is not None:
                made = orjson.loads(await self._ask("POST", "/v1/collections", json={"name": label}))
                if "id" in made:
                    await self._ask(
                        "POST", f"/v1/collections/{made['id']}/images", json={"add": [image["id"]]}
                    )

    async def _listed(self, label: str, images: int) -> list[dict[str, Any]]:
        for _ in range(100):
            found: list[dict[str, Any]] = orjson.loads(await self._ask("GET", f"/v1/images?q={label}"))[
                "data"
            ]
            if len(found) == images:
                return found
            await asyncio.sleep(0.1)
        self.failures["not found"] += 1
        return []

    async def _ask(self, method: str, path: str, *, tries: int = 1, **options: Any) -> bytes:
        """Ask for something; bytes that are still in the other host's spool may be asked for again."""
        while True:
            async with self._door() as door:
                status, _, body = await door.request(method, path, **options)
            self.acts += 1
            tries -= 1
            if status != 503 or not tries:
                break
            await asyncio.sleep(1)
        if status not in {200, 201}:
            self.failures[f"{method} {path.partition('?')[0].rpartition('/')[2]}: {status}"] += 1
            return b'{"data": []}'
        return body


Place = tuple[str, str]
"""An address, and whose key it is asked with."""


async def everything(proxy: RunningProxy) -> dict[Place, bytes]:
    """Read all that there is, as bob has it and as an admin has it: the bytes of each answer."""
    read: dict[Place, bytes] = {}
    turns = asyncio.Semaphore(READERS)

    async def get(path: str, key: str = ADMIN_KEY) -> bytes:
        async with turns:
            status, _, body = await proxy.request("GET", path, key=key)
        if status == 200:
            read[path, key] = body
        return body

    async def walk(path: str, key: str = ADMIN_KEY) -> list[str]:
        ids: list[str] = []
        after = ""
        while True:
            page = orjson.loads(await get(f"{path}?order=asc&limit=100{after}", key))
            ids += [each["id"] for each in page["data"]]
            if not page["has_more"]:
                return ids
            after = f"&after={ids[-1]}"

    for path in ("/v1/admin/users", "/v1/admin/keys", "/v1/usage", "/v1/credits/balance"):
        await get(path)
    images, requests = await walk("/v1/images"), await walk("/v1/requests")
    collections = await walk("/v1/collections", MEMBER_KEY)
    await walk("/v1/images", MEMBER_KEY)
    await asyncio.gather(
        *(get(f"/v1/images/{each}{part}") for each in images for part in ("", "/content", "/shares")),
        *(get(f"/v1/requests/{each}") for each in requests),
        *(get(f"/v1/images?collection={each}", MEMBER_KEY) for each in collections),
    )
    return read


def unreadable(read: dict[Place, bytes], data: Path) -> list[str]:
    """Name the rows that nobody could read."""
    wanted = [
        *(f"/v1/images/{row['id']}{part}" for row in outside.rows(data, "SELECT id FROM images")
          for part in ("", "/content", "/shares")),
        *(f"/v1/requests/{row['id']}" for row in outside.rows(data, "SELECT id FROM requests")),
    ]  # fmt: skip
    return [path for path in wanted if (path, ADMIN_KEY) not in read]


async def told_otherwise(told: dict[Place, bytes], one: RunningProxy, other: RunningProxy) -> list[str]:
    """Name what one host has told and the other does not. An image's placeholder may have come meanwhile: ask again."""
    there = await everything(other)
    differing = [each for each in told.keys() | there.keys() if told.get(each) != there.get(each)]
    for _ in range(_TRIES):
        differing = [each for each in differing if await _answer(one, each) != await _answer(other, each)]
        if not differing:
            break
        await asyncio.sleep(1)
    return [path for path, _ in differing]


async def _answer(proxy: RunningProxy, place: Place) -> tuple[int, bytes]:
    status, _, body = await proxy.request("GET", place[0], key=place[1])
    return status, body


def knowledge(data: Path) -> set[int]:
    """Give the newest schemas that those who share an index know."""
    return {row["schema"] for row in outside.rows(data, "SELECT schema FROM processes")}


async def at_rest(*hosts: Host) -> None:
    """Wait until every call has ended, and every change is in storage."""
    for host in hosts:
        await eventually(lambda host=host: outside.is_settled(host.data), 60)  # type: ignore[misc]
    await eventually(lambda: not outside.rows(hosts[0].data, "SELECT 1 FROM states_to_write"), 60)


@pytest.mark.parametrize(
    ("callers", "for_s", "calls"), [(2, 0, 2), pytest.param(6, 300, 100, marks=pytest.mark.torture)]
)
async def test_two_versions_side_by_side_and_back(
    tmp_path: Path, postgres: Server, record_figure: RecordFigure, callers: int, for_s: int, calls: int
) -> None:
    """The newer migrates beside the older, which may restart; then the older goes on alone, and may restart."""
    newer = version(tmp_path / "newer", ADDS)
    load = Load(callers)
    async with Studio(SEED) as studio, two_hosts(tmp_path, studio.base_url, postgres) as (a, b):
        studio.takes_s = lambda prompt: Random(prompt).uniform(0, LONGEST_S)

        async def restart(host: Host) -> None:
            await load.leave(host.proxy)
            await host.stop()
            load.open(await host.start(None))

        load.open(await a.start(None))
        async with load.under_way():
            await load.go_on(calls)
            load.open(await b.start(newer))
            assert outside.rows(a.data, "SELECT version FROM schema_version") == [{"version": NEXT}]
            assert knowledge(a.data) == {NEXT - 1, NEXT}
            unrated = len(outside.rows(a.data, UNRATED))
            await load.go_on(calls)
            await restart(a)
            await load.go_on(calls, for_s)
        await at_rest(a, b)
        told = await everything(a.proxy)
        violations = [*unreadable(told, a.data), *await told_otherwise(told, a.proxy, b.proxy)]
        async with load.under_way():
            await load.leave(b.proxy)
            await b.stop()
            await load.go_on(calls)
            await restart(a)
            await load.go_on(calls, for_s // 5)
        await at_rest(a)
        violations += unreadable(await everything(a.proxy), a.data)
        is_kept_up = len(outside.rows(a.data, UNRATED)) == unrated
        report = compare(a.data, sales=studio.sales, receipts=load.receipts, once=True, others=[b.data])
    record_figure(
        "R96",
        seed=SEED,
        **report.figures,
        other_requests=load.acts,
        rows_read_at_both=len(told),
        failed_without_any_retry=load.failures.total(),
        violations=len(violations) + len(report.violations),
    )
    report.assert_clean(SEED)
    assert not load.failures
    assert not violations
    assert is_kept_up, "the older one's images lack what the newer one keeps of each by a trigger"


@pytest.mark.torture
async def test_a_version_that_breaks_the_one_before_waits_for_its_end(
    tmp_path: Path, postgres: Server, upstream: Any
) -> None:
    """While that one runs it does not start, and names it; when it has migrated, the other does not start any more."""
    newer = version(tmp_path / "newer", BREAKS)
    async with two_hosts(tmp_path, upstream.base_url, postgres) as (a, b):
        await a.start(None)
        (runs,) = outside.rows(a.data, "SELECT id FROM processes")
        with pytest.raises(
            AssertionError, match=rf"would break programs .*\(processes {runs['id']}\): stop them"
        ):
            await b.start(newer)
        assert await outside.is_ready(a.proxy)
        await a.stop()
        await b.start(newer)
        with pytest.raises(AssertionError, match=r"can't use the database any more, .*run the newer version"):
            await a.start(None)
