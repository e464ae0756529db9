"""What a run of `pixie backup` copies, keeps and removes, and what moves under its hands meanwhile (R95)."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.backup import target as places
from pixie_proxy.backup.making import make_backup
from pixie_proxy.backup.record import INDEX, SPOOL, STATE_PREFIX, Record, read_sums
from pixie_proxy.backup.restoring import damage
from pixie_proxy.backup.target import Source, check_place
from pixie_proxy.errors import ConfigError
from pixie_proxy.gallery.retention import _purge
from pixie_proxy.index import images
from pixie_proxy.index.places import SqlitePlace
from pixie_proxy.records import new_id
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import MANIFEST, STATE, Storage, StoredFile, folder_ref
from tests.audit.conftest import House, an_image, pixels
from tests.support.calls import ANN, a_call, a_manifest
from tests.support.mounts import fill, small_disk, unfill

QUIET = lambda _images, _bytes: None  # noqa: E731


class Meanwhile:
    """A house's storage; something happens when a backup begins to walk through it."""

    def __init__(self, storage: Storage, happens: Callable[[], Awaitable[object]]) -> None:
        self._storage = storage
        self._happens: Callable[[], Awaitable[object]] | None = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def walk(self, ref: str) -> AsyncIterator[list[StoredFile]]:
        happens, self._happens = self._happens, None
        if happens is not None:
            await happens()
        async for page in self._storage.walk(ref):
            yield page


def source_of(house: House, happens: Callable[[], Awaitable[object]] | None = None) -> Source:
    storage: Any = house.storage if happens is None else Meanwhile(house.storage, happens)
    return Source(
        index=SqlitePlace(house.data / "pixie.db"),
        spool=house.data / "spool",
        storage=storage,
        has_images=True,
    )


async def back_up(house: House, happens: Callable[[], Awaitable[object]] | None = None) -> Record:
    return await make_backup(source_of(house, happens), house.data / "bak", QUIET)


def kept(house: House) -> dict[str, str]:
    """The files of the backup, each by its path within the run or in images/, with its digest as it lies there."""
    target = house.data / "bak"
    record = Record.read(target)
    assert record is not None
    found = {
        each.path.removeprefix(f"{record.run}/"): hashlib.sha256(
            (target / each.path).read_bytes()
        ).hexdigest()
        for each in read_sums(target, record)
    }
    there = [path for path in target.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert len(there) == len(found) + 2, "something lies there that the sums do not name"
    return found


def rows(house: House, sql: str) -> list[Any]:
    (path,) = (house.data / "bak").glob(f"2*/{INDEX}")
    database = sqlite3.connect(path)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def refs(manifest: Manifest) -> set[str]:
    folder = folder_ref(manifest.call.id)
    return {f"{folder}/{name}" for name in [*[image.file for image in manifest.images], MANIFEST]}


def written(path: Path) -> tuple[int, int, int]:
    """Tell what a write changes of a file, and a look at it does not."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


async def test_a_second_run_copies_only_what_is_new(house: House) -> None:
    """Images that are there are not even read again; the index is new each time."""
    old = await house.keep(2)
    first = await back_up(house)
    before = {path: written(path) for path in (house.data / "bak" / "images").rglob("*.png")}
    house.path(old, "0.png").write_bytes(b"?" * house.path(old, "0.png").stat().st_size)  # rots in storage
    new = await house.keep(1)
    second = await back_up(house)
    assert kept(house).keys() == {*refs(old), *refs(new), INDEX}
    assert {path: written(path) for path in before} == before
    assert (first.images, second.images, second.damaged) == (2, 3, 0)
    assert await damage(house.data / "bak", second, QUIET) == []


async def test_what_was_deleted_for_good_leaves_the_backup_and_what_was_lost_stays(house: House) -> None:
    """Only the index can tell the one from the other."""
    lost, purged = await house.keep(1), await house.keep(1)
    await back_up(house)
    shutil.rmtree(house.path(lost))
    shutil.rmtree(house.path(purged))
    await house.index.write(lambda tx: images.remove(tx, purged.images[0].id, purged.call.id))
    record = await back_up(house)
    assert kept(house).keys() == {*refs(lost), INDEX}
    assert (record.images, record.missing) == (1, 0)


async def test_what_is_missing_or_rotten_is_told(house: House) -> None:
    """It is copied as it is, for there is no better one; the rest of the backup is whole."""
    missing, rotten, good = await house.keep(1), await house.keep(1), await house.keep(1)
    house.path(missing, "0.png").unlink()
    house.path(rotten, "0.png").write_bytes(b"?")
    record = await back_up(house)
    assert (record.images, record.missing, record.damaged) == (3, 1, 1)
    assert kept(house).keys() == {*refs(missing), *refs(rotten), *refs(good), INDEX} - {
        f"{folder_ref(missing.call.id)}/0.png"
    }


async def test_a_call_that_moves_home_meanwhile_is_found(house: House) -> None:
    """It was in the spool when the spool was looked at, or is in storage when storage is."""
    house.spool.open()
    spooled, moving = await house.admit(1), await house.admit(2)
    for manifest in (spooled, moving):
        house.folder(house.spool.folder, manifest)

    async def move() -> None:
        await house.storage.adopt(str(house.spool.folder / moving.call.id), folder_ref(moving.call.id))

    record = await back_up(house, move)
    found = kept(house)
    of = {name.rpartition("/")[0].rpartition("/")[2] for name in found if name.startswith(SPOOL)}
    assert of >= {spooled.call.id}
    assert (
        found[f"{folder_ref(moving.call.id)}/1.png"] == hashlib.sha256(pixels(moving.call.id, 1)).hexdigest()
    )
    assert record.missing == 0
    house.spool.close(keeps_folder=True)


async def test_a_call_that_goes_back_into_the_spool_is_found(house: House) -> None:
    """A disk that could not make the move durable takes it back: storage has lost it when it is looked at."""
    house.spool.open()
    manifest = await house.keep(1)

    async def take_back() -> None:
        house.path(manifest).rename(house.spool.folder / manifest.call.id)

    record = await back_up(house, take_back)
    assert record.missing == 0
    assert f"{SPOOL}/{house.spool.process}/{manifest.call.id}/0.png" in kept(house)
    house.spool.close(keeps_folder=True)


async def test_a_call_that_began_meanwhile_is_left_for_the_next_run(house: House) -> None:
    """The index copy does not know it: in the backup it would be a folder without a row."""
    old = await house.keep(1)
    new: list[Manifest] = []

    async def call() -> None:
        new.append(await house.keep(1))

    await back_up(house, call)
    assert kept(house).keys() == {*refs(old), INDEX}
    await back_up(house)
    assert kept(house).keys() == {*refs(old), *refs(new[0]), INDEX}


async def test_a_folder_that_no_index_knows_is_kept(house: House) -> None:
    """It may be somebody's paid image: the index was lost once."""
    await back_up(house)
    call = a_call(id=new_id("req"))
    orphan = house.folder(house.data / "seeding", a_manifest(call, (an_image(call.id, 0),)))
    await house.storage.adopt(str(orphan), folder_ref(orphan.name))
    await back_up(house)
    assert f"{folder_ref(orphan.name)}/0.png" in kept(house)


async def test_an_image_that_was_purged_meanwhile_has_no_row(house: House) -> None:
    """Its file may be gone before it was copied; and nothing waits for a folder that is not there."""
    alone, one_of_two = await house.keep(1), await house.keep(2)

    async def purge() -> None:
        for manifest in (alone, one_of_two):
            await house.index.write(lambda tx, each=manifest: images.delete(tx, each.images[0].id, 1))  # type: ignore[misc]
        await house.index.write(lambda tx: _purge(tx, before_us=time.time_ns() // 1000, most=9))
        house.path(one_of_two, "0.png").unlink()
        shutil.rmtree(house.path(alone))

    record = await back_up(house, purge)
    assert (record.images, record.missing) == (1, 0)
    assert rows(house, "SELECT id FROM images") == [(one_of_two.images[1].id,)]
    assert rows(house, "SELECT request_id FROM states_to_write") == [(one_of_two.call.id,)]


async def test_a_folder_whose_state_changed_meanwhile_follows_the_copy(house: House) -> None:
    """state.json is of another moment than the index: a restored proxy writes it anew."""
    manifest = await house.keep(1)
    image_id = manifest.images[0].id

    async def change() -> None:
        await house.index.write(lambda tx: images.delete(tx, image_id, 5))
        await house.storage.put(f"{folder_ref(manifest.call.id)}/{STATE}", b"{}")

    await back_up(house, change)
    assert rows(house, "SELECT deleted_us FROM images") == [(None,)]
    assert rows(house, "SELECT request_id FROM states_to_write") == [(manifest.call.id,)]


async def test_a_state_of_the_earlier_backup_is_never_written_over(house: House) -> None:
    """Each has a name of its own, so the earlier backup stays whole until the next one is."""
    manifest = await house.keep(1)
    ref = f"{folder_ref(manifest.call.id)}/{STATE}"
    names = []
    for text in (b"one", b"two"):
        await house.storage.put(ref, text)
        await back_up(house)
        (name,) = [each for each in kept(house) if STATE_PREFIX in each]
        assert (house.data / "bak" / name).read_bytes() == text
        names.append(name)
    assert len(set(names)) == 2


async def test_sessions_stay_out(house: House) -> None:
    """Who had a browser signed in signs in again; nothing else is dropped."""
    await house.keep(1)
    await house.index.write(
        lambda tx: [
            tx.run(
                "INSERT INTO keys (id, user_id, digest, prefix, name, created_us) VALUES ('k', :u, 'd', 'p', 'n', 1)",
                u=ANN.id,
            ),
            tx.run("INSERT INTO sessions VALUES ('digest-of-a-cookie', :u, 'k', 1, 1)", u=ANN.id),
        ]
    )
    await back_up(house)
    assert rows(house, "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM keys)") == [(0, 1)]
    (path,) = (house.data / "bak").glob(f"2*/{INDEX}")
    assert b"digest-of-a-cookie" not in path.read_bytes()


async def test_an_index_of_an_older_version_is_copied_as_it_is(house: House) -> None:
    """A backup before an upgrade can be read by the version that it is a way back to."""
    await house.keep(1)
    await house.index.close()
    database = sqlite3.connect(house.data / "pixie.db")
    database.executescript("DROP TABLE sessions; DROP TABLE states_to_write; PRAGMA user_version = 1;")
    database.close()
    record = await back_up(house)
    assert (record.schema, record.images) == (1, 1)
    assert rows(house, "PRAGMA user_version") == [(1,)]


async def test_everything_is_for_its_owner_only(house: House) -> None:
    """Folders 0700, files 0600: digests of keys, prompts and images lie there."""
    await house.keep(1)
    await back_up(house)
    target = house.data / "bak"
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in [target, *target.rglob("*")]}
    assert modes == {(True, 0o700), (False, 0o600)}


async def test_places_that_are_no_place_for_a_backup(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the house, around it, somebody else's folder, another house's backup, a disk without room."""
    data, target = house.data / "data", house.data / "bak"
    for wrong in (data, data / "bak", house.data):
        with pytest.raises(ConfigError, match="must lie outside"):
            check_place(wrong, [data])
    check_place(target, [data])
    target.mkdir()
    (target / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty, and not a backup"):
        await back_up(house)
    (target / "letter.txt").unlink()
    (target / ".pixie-backup").write_text("another storage\n")
    with pytest.raises(ConfigError, match="another installation"):
        await back_up(house)
    (target / ".pixie-backup").unlink()
    await house.keep(1)
    monkeypatch.setattr(places, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(ConfigError, match="no room for the backup"):
        await back_up(house)
    assert [path.name for path in target.iterdir()] == [".pixie-backup"]


async def test_a_disk_that_fills_up_leaves_the_earlier_backup_whole(house: House, tmp_path: Path) -> None:
    """And the next run goes on from what came before."""
    with small_disk(tmp_path / "disk", megabytes=100) as disk:
        (disk / "bak").mkdir()
        (house.data / "bak").symlink_to(disk / "bak")
        await house.keep(1)
        before = await back_up(house)
        for _ in range(5):
            await house.keep(2)

        async def fill_up() -> None:
            fill(disk)

        with pytest.raises(OSError, match="No space left"):
            await back_up(house, fill_up)
        assert Record.read(disk / "bak") == before
        assert await damage(disk / "bak", before, QUIET) == []
        unfill(disk)
        assert (await back_up(house)).images == 11


async def test_two_runs_do_not_share_a_folder(house: House) -> None:
    """The second one says so and leaves the first alone."""
    told: list[str] = []

    async def again() -> None:
        with pytest.raises(ConfigError) as refused:
            await back_up(house)
        told.append(str(refused.value))

    await house.keep(1)
    await back_up(house, again)
    assert "another pixie backup writes to it now" in told[0]


async def test_a_damaged_index_does_not_take_the_place_of_a_good_one(house: House) -> None:
    """The earlier backup is what its owner will need now."""
    for _ in range(30):
        await house.keep(3)
    before = await back_up(house)
    await house.index.close()
    path = house.data / "pixie.db"
    data = bytearray(path.read_bytes())
    for page in range(3, len(data) // 4096, 2):
        data[page * 4096 : page * 4096 + 64] = b"?" * 64
    path.write_bytes(data)
    with pytest.raises(Exception, match="damaged"):
        await back_up(house)
    assert Record.read(house.data / "bak") == before
    assert await damage(house.data / "bak", before, QUIET) == []


def test_a_record_of_a_newer_version_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    """The one wants another pixie, the other one another backup."""
    (tmp_path / "backup.json").write_text(json.dumps({"object": "pixie.backup", "version": 2}))
    with pytest.raises(ConfigError, match="newer version of pixie"):
        Record.read(tmp_path)
    (tmp_path / "backup.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        Record.read(tmp_path)
