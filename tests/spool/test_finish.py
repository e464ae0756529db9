"""Bringing calls home: each part is tried until it is done, and done once."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.index import Index, accounts, images, ledger
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from pixie_proxy.records import StoredImage, new_id, to_datetime
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import Storage, folder_ref
from pixie_proxy.storage.local import LocalStorage
from tests.support.calls import ANN, a_call, a_manifest, admit, an_end
from tests.support.pictures import png
from tests.support.waiting import eventually

DAY = f"{to_datetime(a_call().created_us):%Y-%m-%d}"
"""When calls of these tests are admitted."""
IMAGE = StoredImage(
    id=new_id("img"),
    position=0,
    file="0.png",
    mime="image/png",
    size_bytes=len(png()),
    sha256="0" * 64,
    width=8,
    height=8,
)


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqliteIndex]:
    """Open an index that gives up on a lock soon."""
    opened = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock", busy_timeout_ms=50)
    yield opened
    await opened.close()


def sealed(spool: Spool, manifest: Manifest) -> str:
    folder = spool.folder / manifest.call.id
    folder.mkdir()
    (folder / "0.png").write_bytes(png())
    (folder / "request.json").write_bytes(manifest.to_json())
    return str(folder)


async def test_a_locked_index_is_waited_for(
    spool: Spool, index: Index, storage: LocalStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Storage gets the images at once, the index when it can; the log says what is waited for."""
    caplog.set_level(logging.WARNING)
    manifest = a_manifest(a_call(), (IMAGE,))
    await admit(index, manifest.call)
    holder = sqlite3.connect(tmp_path / "pixie.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    keeping = asyncio.ensure_future(Finisher(index, storage).keep(manifest, sealed(spool, manifest)))
    await eventually(lambda: "index" in [record.__dict__.get("waits_for") for record in caplog.records])
    assert await storage.size(f"{folder_ref(manifest.call.id)}/0.png") == len(png())
    assert not keeping.done()
    holder.close()
    await asyncio.wait_for(keeping, 10)
    assert await index.read(lambda tx: images.get(tx, IMAGE.id)) is not None


async def test_a_call_is_settled_once(spool: Spool, index: Index, storage: LocalStorage) -> None:
    """However often it is brought home: the slot comes back once, and the cost counts once."""
    manifest = a_manifest(a_call(), (IMAGE,))
    await admit(index, manifest.call, a_call())
    finisher, folder = Finisher(index, storage), sealed(spool, manifest)
    for _ in range(2):
        await finisher.keep(manifest, folder)
    await finisher.settle(manifest.call, an_end(manifest.call, "unknown"))
    account = await index.read(lambda tx: accounts.get(tx, ANN.id))
    assert (account.in_flight, account.held_micros, account.spent_life_micros) == (1, 500, 300)


@pytest.mark.parametrize("cost", [200, 500, 900])
async def test_an_unknown_outcome_that_turns_out_done_books_the_difference(
    spool: Spool, index: Index, storage: LocalStorage, cost: int
) -> None:
    """Slot and hold came back before, and the hold was charged: what is left is the difference, once."""
    call = a_call()
    settlement = replace(an_end(call), cost_micros=cost)
    manifest = replace(a_manifest(call, (IMAGE,)), settlement=settlement)
    await admit(index, call, a_call())
    finisher = Finisher(index, storage)
    await finisher.settle(call, replace(an_end(call, "unknown"), cost_micros=500))
    folder = sealed(spool, manifest)
    for _ in range(2):
        await finisher.keep(manifest, folder)
        await finisher.settle(call, replace(an_end(call, "unknown"), cost_micros=500))
    row = await index.read(lambda tx: ledger.get(tx, call.id))
    account = await index.read(lambda tx: accounts.get(tx, ANN.id))
    assert row is not None
    assert (row.state, row.cost_micros) == ("done", cost)
    assert (account.in_flight, account.held_micros) == (1, 500)
    assert (account.spent_day_micros, account.spent_month_micros, account.spent_life_micros) == (cost,) * 3


class Flaky:
    """A storage that is away for as long as a test likes; `tries` counts who asked."""

    def __init__(self, storage: LocalStorage) -> None:
        self._storage = storage
        self.away: set[str] = set()
        self.tries: Counter[str] = Counter()

    async def adopt(self, folder: str, ref: str) -> None:
        request = Path(folder).name
        self.tries[request] += 1
        if request in self.away:
            raise StorageUnavailable("away")
        await self._storage.adopt(folder, ref)


@pytest.fixture
def flaky(storage: LocalStorage) -> Flaky:
    return Flaky(storage)


async def wait_long(spool: Spool, index: Index, flaky: Flaky, calls: int) -> tuple[Finisher, list[Any]]:
    """Let calls wait until none of them would look again for seconds."""
    manifests = [a_manifest(a_call(), (replace(IMAGE, id=new_id("img")),)) for _ in range(calls)]
    await admit(index, *[manifest.call for manifest in manifests])
    flaky.away = {manifest.call.id for manifest in manifests}
    finisher = Finisher(index, cast("Storage", flaky))
    keeping = [
        asyncio.ensure_future(finisher.keep(manifest, sealed(spool, manifest))) for manifest in manifests
    ]
    await eventually(lambda: all(flaky.tries[request] >= 3 for request in flaky.away))
    return finisher, keeping


async def test_a_nudge_wakes_all_that_wait(
    spool: Spool, index: Index, flaky: Flaky, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, not when its turn would come; each has told the log once what it waits for."""
    finisher, keeping = await wait_long(spool, index, flaky, 3)
    told = [record.__dict__["request_id"] for record in caplog.records if "waits" in record.message]
    assert sorted(told) == sorted(flaky.away)
    flaky.away = set()
    finisher.nudge()
    await asyncio.wait_for(asyncio.gather(*keeping), 0.5)


async def test_one_that_gets_through_wakes_the_others(spool: Spool, index: Index, flaky: Flaky) -> None:
    """A new call finds storage back before anybody has said so."""
    finisher, keeping = await wait_long(spool, index, flaky, 3)
    flaky.away = set()
    manifest = a_manifest(a_call(), (replace(IMAGE, id=new_id("img")),))
    await index.write(lambda tx: ledger.insert(tx, manifest.call, "sent"))
    await finisher.keep(manifest, sealed(spool, manifest))
    await asyncio.wait_for(asyncio.gather(*keeping), 0.5)


async def test_a_trouble_of_its_own_is_not_tried_at_every_answer(
    spool: Spool, index: Index, flaky: Flaky
) -> None:
    """One call that storage won't take costs the others nothing, and the disk little."""
    finisher, (keeping,) = await wait_long(spool, index, flaky, 1)
    (stuck,) = flaky.away
    before = flaky.tries[stuck]
    for _ in range(20):
        await finisher.settle(a_call(), an_end(a_call(), "unknown"))
    assert flaky.tries[stuck] <= before + 1
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(keeping, 0.5)


async def test_whoever_stops_does_not_wait_for_storage(spool: Spool, index: Index, flaky: Flaky) -> None:
    """The folder stays in the spool for the next start, and nothing goes on behind the back of the one who stops."""
    _, keeping = await wait_long(spool, index, flaky, 2)
    for one in keeping:
        one.cancel()
    done, waiting = await asyncio.wait(keeping, timeout=1)
    assert (len(done), waiting) == (2, set())
    before = dict(flaky.tries)
    await asyncio.sleep(0.6)
    assert dict(flaky.tries) == before
    assert all((spool.folder / request / "0.png").exists() for request in flaky.away)


async def test_a_fault_of_ours_is_not_tried_for_ever(
    spool: Spool, index: Index, storage: LocalStorage
) -> None:
    """It goes to the caller; here, a call of a user that the index does not know."""
    manifest = a_manifest(a_call(user_id=new_id("usr")), (IMAGE,))
    with pytest.raises(sqlite3.IntegrityError):
        await asyncio.wait_for(Finisher(index, storage).keep(manifest, sealed(spool, manifest)), 5)


async def test_a_folder_that_somebody_deleted_is_not_waited_for(
    spool: Spool, index: Index, storage: LocalStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing brings it back: it is told, and a drain does not wait for it."""
    manifest = a_manifest(a_call(), (IMAGE,))
    await admit(index, manifest.call)
    await asyncio.wait_for(Finisher(index, storage).keep(manifest, str(spool.folder / "req_gone")), 5)
    assert ["gone from the spool" in record.message for record in caplog.records] == [True]


async def test_a_call_that_brought_nothing_is_settled(index: Index, storage: LocalStorage) -> None:
    """Its row, its slot and its hold; a refusal costs nothing."""
    call = a_call()
    await admit(index, call)
    await Finisher(index, storage).settle(
        call, replace(an_end(call, "failed"), cost_micros=0, error="400 no")
    )
    row = await index.read(lambda tx: ledger.get(tx, call.id))
    account = await index.read(lambda tx: accounts.get(tx, ANN.id))
    assert row is not None
    assert (row.state, row.cost_micros, row.error) == ("failed", 0, "400 no")
    assert (account.in_flight, account.held_micros, account.spent_life_micros) == (0, 0, 0)
