"""A call whose images are in the spool of another host: they are not missing, and what was purged never comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pixie_proxy.audit.findings import Report
from pixie_proxy.audit.verify import Verification
from pixie_proxy.gallery.upkeep import Upkeep
from pixie_proxy.index import Tx, erasure, images, processes, states
from pixie_proxy.index import settings as stored
from pixie_proxy.index.postgres import PostgresIndex, open_postgres
from pixie_proxy.records import new_id
from pixie_proxy.spool import presence
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.finish import Finisher, settle_kept
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.spool.presence import Presence
from pixie_proxy.spool.recovery import Recovery
from pixie_proxy.storage import MANIFEST, SENTINEL, folder_ref
from pixie_proxy.storage.local import LocalStorage
from pixie_proxy.tasks import TaskKeeper
from pixie_proxy.threads import WorkerThreads
from tests.support.calls import a_call, a_manifest, a_picture, admit
from tests.support.postgres import Server

PIXELS = b"pixels"


class Host:
    """A process of a host: a spool of its own, and what works over it."""

    def __init__(self, folder: Path, index: PostgresIndex, writers: WorkerThreads) -> None:
        folder.mkdir(exist_ok=True)
        storage_dir = folder.parent / "storage"
        self.index = index
        self.storage = LocalStorage(storage_dir, writers)
        self.spool = Spool(folder / "spool", writers)
        self.presence = Presence(index, self.spool)
        self._writers = writers

    async def begin(self) -> Host:
        self.spool.open()
        await self.presence.begin()
        return self

    def die(self) -> None:
        """Let go of the lock, and leave all else as it is."""
        self.spool.close(keeps_folder=True)

    async def beat(self, times: int = 2) -> None:
        for _ in range(times):
            await self.presence._beat()

    async def admit(self, count: int = 1) -> Manifest:
        """Begin a call, and say what it will bring."""
        call = a_call(id=new_id("req"), process=self.spool.process)
        await admit(self.index, call)
        return a_manifest(call, tuple(a_picture(PIXELS, position) for position in range(count)))

    async def keep(self, count: int = 1, admitted: Manifest | None = None) -> Manifest:
        """Bring in a call of some images that storage does not take yet."""
        manifest = admitted or await self.admit(count)
        folder = self.spool.folder / manifest.call.id
        folder.mkdir()
        for image in manifest.images:
            (folder / image.file).write_bytes(PIXELS)
        (folder / MANIFEST).write_bytes(manifest.to_json())
        await self.index.write(lambda tx: settle_kept(tx, manifest))
        return manifest

    async def bring_home(self, manifest: Manifest) -> None:
        await self.storage.adopt(str(self.spool.folder / manifest.call.id), folder_ref(manifest.call.id))

    async def recover(self) -> int:
        finisher = Finisher(self.index, self.storage)
        return await Recovery(
            self.spool, self.index, self.storage, finisher, self._writers, self.presence
        ).once()

    async def verify(self) -> Report:
        return await Verification(
            self.index,
            self.storage,
            self.spool,
            recover=self.recover,
            progress=lambda _images, _bytes: None,
            is_elsewhere=self.presence.may_hold_elsewhere,
        ).run()

    async def upkeep(self) -> tuple[int, int]:
        """Sweep once; give how many folders wait for storage, and how many for another host."""
        upkeep = Upkeep(
            self.index,
            self.storage,
            TaskKeeper(),
            is_spooled=self.spool.holds,
            is_elsewhere=self.presence.may_hold_elsewhere,
        )
        left, _ = await upkeep.sweep()
        return left, upkeep.elsewhere


@pytest.fixture
async def hosts(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Host, Host]]:
    """Two hosts over one index and one storage. A call is in the ledger as soon as it has an id."""
    monkeypatch.setattr(presence, "ADMISSION_S", -0.001)
    index = await open_postgres(postgres.database(), connections=6)
    writers = WorkerThreads(2, "durable")
    (tmp_path / "storage").mkdir()
    a, b = [await Host(tmp_path / name, index, writers).begin() for name in ("a", "b")]
    await a.storage.put(SENTINEL, b"both\n")
    await index.write(lambda tx: stored.put(tx, "storage_id", "both"))
    yield a, b
    for host in (a, b):
        host.spool.close()
    await index.close()
    writers.close()


async def rows(host: Host) -> int:
    return await host.index.read(images.count)


def stored_files(host: Host) -> list[str]:
    root = host.spool.root.parent.parent / "storage" / "images"
    return sorted(path.name for path in root.rglob("*") if path.is_file()) if root.exists() else []


async def test_what_another_host_has_is_not_missing(hosts: tuple[Host, Host]) -> None:
    """It is counted apart, and served when it comes; what has come and is gone then is missing."""
    a, b = hosts
    old, new = await a.keep(), await a.keep(2)
    for _ in range(3):  # whenever its heart has beaten last
        report = await b.verify()
        assert (report.is_clean, report.elsewhere, report.images) == (True, 3, 3)
        await a.beat(1)
    assert not await b.index.read(lambda tx: tx.all("SELECT id FROM images WHERE damage IS NOT NULL"))
    await a.bring_home(old)
    await a.beat()
    assert (await b.verify()).elsewhere == 2
    await a.bring_home(new)
    await a.beat()
    report = await b.verify()
    assert (report.is_clean, report.elsewhere) == (True, 0)
    await b.storage.delete(folder_ref(old.call.id))
    report = await b.verify()
    assert (dict(report.counts), report.elsewhere) == ({"dangling": 1}, 0)


async def test_a_call_that_took_long_is_not_missing_the_moment_it_ends(hosts: tuple[Host, Host]) -> None:
    """Hearts have beaten since it began, and none since it was kept."""
    a, b = hosts
    admitted = await a.admit()
    await a.beat(3)
    await a.keep(admitted=admitted)
    report = await b.verify()
    assert (report.is_clean, report.elsewhere) == (True, 1)


async def test_damage_is_told_whatever_another_host_has(hosts: tuple[Host, Host]) -> None:
    """Only what is not there can still come."""
    a, b = hosts
    manifest = await a.keep()
    await a.bring_home(manifest)
    path = b.spool.root.parent.parent / "storage" / folder_ref(manifest.call.id) / "0.png"
    path.chmod(0o600)
    path.write_bytes(b"pixelS")
    assert dict((await b.verify()).counts) == {"rotten": 1}


async def test_what_a_dead_host_has_is_not_missing(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it is dead; when it has come home by another process of its host, nothing is known of it."""
    a, b = hosts
    monkeypatch.setattr(presence, "DEAD_AFTER_BEATS", 2)
    manifest = await a.keep()
    await a.beat()
    a.die()
    await b.beat(6)
    report = await b.verify()
    assert (report.is_clean, report.elsewhere) == (True, 1)
    successor = await Host(a.spool.root.parent, a.index, a._writers).begin()
    assert await successor.recover() == 1
    named = await b.index.read(processes.every)
    assert named.keys() == {b.spool.process, successor.spool.process}
    await b.storage.delete(folder_ref(manifest.call.id))
    assert dict((await b.verify()).counts) == {"dangling": 1}
    successor.spool.close()


async def test_a_dead_host_whose_calls_are_home_is_forgotten(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else hosts that come and go would be kept for ever."""
    a, b = hosts
    monkeypatch.setattr(presence, "DEAD_AFTER_BEATS", 2)
    await a.bring_home(await a.keep())
    await a.beat()
    a.die()
    await b.beat(6)
    assert (await b.index.read(processes.every)).keys() == {b.spool.process}


def purge(manifest: Manifest, *positions: int) -> object:
    """Do what retention does to images, or what a user's deletion does to all."""
    gone = {image.id: image.file for image in manifest.images if image.position in positions}

    def work(tx: Tx) -> None:
        for image_id in gone:
            images.remove(tx, image_id, manifest.call.id)
        if len(gone) == len(manifest.images):
            erasure.doom(tx, manifest.call.id, gone)
        else:
            states.mark(tx, manifest.call.id, gone)

    return work


@pytest.mark.parametrize("has_stored", [False, True])
@pytest.mark.parametrize("purged", [(0,), (0, 1)])
async def test_what_was_purged_meanwhile_does_not_come_back(
    hosts: tuple[Host, Host], purged: tuple[int, ...], *, has_stored: bool
) -> None:
    """Neither file nor row, though its host was dead all the while; whether or not storage had it before it died."""
    a, b = hosts
    manifest = await a.keep(2)
    folder = a.spool.folder / manifest.call.id
    if has_stored:  # it died before it had cleared its spool
        for path in folder.iterdir():
            await b.storage.put(f"{folder_ref(manifest.call.id)}/{path.name}", path.read_bytes())
    await a.beat()
    a.die()
    await b.index.write(purge(manifest, *purged))  # type: ignore[arg-type]
    for _ in range(2):
        left, waiting = await b.upkeep()
        assert left + waiting == 1
    assert await rows(b) == 2 - len(purged)
    successor = await Host(a.spool.root.parent, a.index, a._writers).begin()
    assert await successor.recover() == 1
    assert await rows(b) == 2 - len(purged)
    assert await b.upkeep() == (0, 0)
    assert await successor.upkeep() == (0, 0)
    kept = [] if len(purged) == 2 else ["1.png", "request.json", "state.json"]
    assert stored_files(b) == kept
    report = await b.verify()
    assert (report.is_clean, report.elsewhere) == (True, 0)
    successor.spool.close()


async def test_a_living_host_clears_up_itself(hosts: tuple[Host, Host]) -> None:
    """Its own spool tells it when a call is home, long before the other may know."""
    a, b = hosts
    manifest = await a.keep(2)
    await b.index.write(purge(manifest, 0, 1))  # type: ignore[arg-type]
    assert await b.upkeep() == (0, 1)
    assert (await a.upkeep())[0] == 1
    await a.bring_home(manifest)
    assert stored_files(a) != []
    assert await a.upkeep() == (0, 0)
    assert stored_files(a) == []
    assert await b.upkeep() == (0, 0)


async def test_a_process_that_ends_in_order_says_what_it_leaves(hosts: tuple[Host, Host]) -> None:
    """With nothing in its spool it is forgotten at once; else when that is home."""
    a, b = hosts
    manifest = await a.keep()
    await a.presence.end()
    assert a.spool.process in await b.index.read(processes.every)
    await a.bring_home(manifest)
    await a.presence.end()
    assert a.spool.process not in await b.index.read(processes.every)
