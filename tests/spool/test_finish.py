"""Bringing calls home: each part is tried until it is done, and done once."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.index import Index, accounts, images, ledger
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from pixie_proxy.records import StoredImage, new_id
from pixie_proxy.spool import finish
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import folder_ref
from pixie_proxy.storage.local import LocalStorage
from tests.support.calls import ANN, a_call, a_manifest, admit, an_end
from tests.support.pictures import png
from tests.support.waiting import eventually

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


class AwayStorage(LocalStorage):
    """A storage that can't be written until it is told otherwise."""

    is_away = True
    tries = 0

    async def adopt(self, folder: str, ref: str) -> None:
        self.tries += 1
        if self.is_away:
            raise StorageUnavailable("away")
        await super().adopt(folder, ref)


@pytest.fixture
def away(storage: LocalStorage) -> AwayStorage:
    return AwayStorage(Path(storage._root), storage._writers)


async def test_calls_are_brought_home_at_once_when_storage_is_back(
    spool: Spool, index: Index, away: AwayStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long they have waited by then: somebody who knows that it is back says so."""
    monkeypatch.setattr(finish, "_FIRST_WAIT_S", 600.0)
    monkeypatch.setattr(finish, "_TRIES_A_SECOND", 0.001)
    manifests = [a_manifest(a_call(), ()) for _ in range(5)]
    await admit(index, *[manifest.call for manifest in manifests])
    finisher = Finisher(index, away)
    calls = [
        asyncio.ensure_future(finisher.keep(manifest, sealed(spool, manifest))) for manifest in manifests
    ]
    await eventually(lambda: finisher._waiting == 5)
    away.is_away = False
    finisher.nudge()
    await asyncio.wait_for(asyncio.gather(*calls), 5)
    assert away.tries == 10


async def test_one_call_that_got_through_wakes_the_others(
    spool: Spool, index: Index, away: AwayStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they try a few times a second, so that a storage that comes back is not stormed before."""
    monkeypatch.setattr(finish, "_LONGEST_WAIT_S", 600.0)
    manifests = [a_manifest(a_call(), ()) for _ in range(30)]
    await admit(index, *[manifest.call for manifest in manifests])
    finisher = Finisher(index, away)
    calls = [
        asyncio.ensure_future(finisher.keep(manifest, sealed(spool, manifest))) for manifest in manifests[:-1]
    ]
    await eventually(lambda: away.tries == 4 * 29, 20)
    first = asyncio.ensure_future(finisher.keep(manifests[-1], sealed(spool, manifests[-1])))
    await eventually(lambda: away.tries > 4 * 29)
    away.is_away = False
    await asyncio.wait_for(asyncio.gather(first, *calls), 3)
