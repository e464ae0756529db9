"""What `pixie reindex` brings back, and that it only ever adds (R53)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pixie_proxy.audit.rebuild import placeholder_name
from pixie_proxy.errors import ConfigError
from pixie_proxy.gallery.state import FolderState
from pixie_proxy.index import Tx, accounts, images, ledger, states, tags, users
from pixie_proxy.index import settings as stored
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import StoredImage, accounts_of, new_id
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import SENTINEL, STATE, folder_ref
from tests.audit.conftest import House, damaged
from tests.support.calls import ANN

TABLES = ("requests", "parents", "images", "image_tags", "users", "accounts", "settings", "states_to_write")


async def dump(house: House) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the index."""
    return await house.index.read(
        lambda tx: {
            table: sorted((tuple(row) for row in tx.all(f"SELECT * FROM {table}")), key=repr)  # noqa: S608
            for table in TABLES
        }
    )


async def change(house: House, manifest: Manifest, work: Callable[[Tx, StoredImage], object]) -> None:
    """Change a call's images, and let state.json follow."""
    await house.index.write(lambda tx: [work(tx, image) for image in manifest.images])
    records = (await house.known(manifest)).images
    state = FolderState.of(manifest, records, ())
    await house.storage.put(f"{folder_ref(manifest.call.id)}/{STATE}", state.to_json())


async def test_a_lost_index_comes_back_as_it_was(house: House) -> None:
    """Images, requests with their answers and parents, tags, accounts and the storage's id: row by row."""
    day_us = 86_400_000_000
    for number in range(60):
        await house.keep(
            1 + number % 4,
            created_us=1_795_000_000_000_000 + number * day_us,
            idempotency_key=f"key-{number}" if number % 3 == 0 else None,
            parents=(new_id("img"), new_id("img"))[: number % 3],
        )
    unknown = await house.keep()
    await change(house, unknown, lambda tx, image: images.delete(tx, image.id, 77))
    shared = await house.keep(2)
    await change(
        house, shared, lambda tx, image: images.set_visibility(tx, image.id, "public", raises_epoch=True)
    )
    await change(house, shared, lambda tx, image: tags.put(tx, image.id, ["fox", "owl"]))
    before = await dump(house)
    await house.lose_index()
    result = await house.reindex()
    after = await dump(house)
    rebuilt = ("requests", "parents", "images", "image_tags", "settings", "states_to_write")
    assert {name: after[name] for name in rebuilt} == {name: before[name] for name in rebuilt}
    assert (result.added_images, result.added_requests) == (len(before["images"]), len(before["requests"]))
    assert list(result.added_users.values()) == ["ann"]
    report = await house.verify()
    assert (report.is_clean, report.counts) == (True, {})


async def test_spending_comes_back_with_the_calls(house: House) -> None:
    """For life, and for the day and month that it is: a lost index is no new budget, for user, key and team."""
    first = 1_795_000_000_000_000
    for number in range(3):
        await house.keep(created_us=first + number * 60_000_000, key_id="key_1")
    await house.keep(created_us=first - 90 * 86_400_000_000, key_id="key_1")
    await house.lose_index()
    await house.reindex()
    for account in await house.index.read(lambda tx: accounts.read(tx, accounts_of(ANN.id, None), first)):
        spent = (account.spent_life_micros, account.spent_month_micros, account.spent_day_micros)
        assert spent == (1200, 900, 900)
        assert (account.images_day, account.in_flight, account.held_micros) == (6, 0, 0)
    key = await house.index.read(lambda tx: accounts.get(tx, "key_1"))
    assert (key.spent_life_micros, key.held_micros) == (1200, 0)


async def test_owners_come_back_shut_out(house: House) -> None:
    """With id and name, so that their images are theirs; without a key, until an admin gives one."""
    await house.keep()
    await house.lose_index()
    await house.reindex()
    user = await house.index.read(lambda tx: users.get_user(tx, ANN.id))
    assert user is not None
    assert (user.name, user.role, user.disabled) == ("ann", "member", True)


async def test_a_name_that_is_taken_gives_nobody_anothers_images(house: House) -> None:
    """Who has the name by now may be somebody else: the owner of before comes back under a longer one."""
    manifest = await house.keep()
    await house.lose_index()
    other = StoredUser(id=new_id("usr"), name="ann", role="member", created_us=1, limits={})
    await house.index.write(lambda tx: users.add_user(tx, other))
    await house.reindex()
    (record,) = (await house.known(manifest)).images
    assert (record.owner_id, record.owner_name) == (ANN.id, placeholder_name("ann", ANN.id))
    assert (await house.verify()).is_clean


async def test_a_dry_run_tells_the_same_and_writes_nothing(house: House) -> None:
    """Not even the storage's id."""
    await house.keep(3)
    await house.lose_index()
    before = await dump(house)
    told = await house.reindex(applies=False)
    assert await dump(house) == before
    assert told == await house.reindex()
    assert told.added_images == 3


async def test_what_is_there_is_never_changed(house: House) -> None:
    """Rows that are newer than their manifests, users, accounts: a second run adds nothing."""
    manifest = await house.keep(2)
    await house.index.write(
        lambda tx: images.set_visibility(tx, manifest.images[0].id, "private", raises_epoch=True)
    )
    before = await dump(house)
    result = await house.reindex()
    assert (await dump(house), result.added_images, result.added_users) == (before, 0, {})


async def test_a_row_that_is_missing_joins_its_siblings(house: House) -> None:
    """An index that is a little older than storage gets what it lacks."""
    manifest = await house.keep(3)
    before = await dump(house)
    await house.index.write(lambda tx: tx.run("DELETE FROM images WHERE id = :id", id=manifest.images[1].id))
    assert (await house.reindex()).added_images == 1
    assert await dump(house) == before


async def test_what_was_purged_stays_gone(house: House) -> None:
    """Whether state.json says so, or the index that a purge is still under way."""
    told, under_way = await house.keep(2), await house.keep(2)
    first, second = told.images[0], under_way.images[0]
    await house.index.write(lambda tx: tx.run("DELETE FROM images WHERE position = 0"))
    state = FolderState(request_id=told.call.id, images={}, purged=(first.id,))
    await house.storage.put(f"{folder_ref(told.call.id)}/{STATE}", state.to_json())
    await house.index.write(lambda tx: states.mark(tx, under_way.call.id, {second.id: second.file}))
    result = await house.reindex()
    assert (result.added_images, result.missing, await house.count()) == (0, 0, 2)


async def test_an_answer_with_purged_images_is_not_given_again(house: House) -> None:
    """The purge took it out of the ledger, and the rebuilt ledger has it no more than that."""
    manifest = await house.keep(2)
    first = manifest.images[0]
    state = FolderState(request_id=manifest.call.id, images={}, purged=(first.id,))
    await house.storage.put(f"{folder_ref(manifest.call.id)}/{STATE}", state.to_json())
    await house.lose_index()
    await house.reindex()
    row = (await house.known(manifest)).row
    assert row is not None
    assert row.skeleton is None


async def test_a_call_under_way_is_left_to_its_process(house: House) -> None:
    """Its row is open: who runs it, or recovers it, writes the rest."""
    manifest = await house.admit()
    await house.storage.adopt(
        str(house.folder(house.data / "seeding", manifest)), folder_ref(manifest.call.id)
    )
    assert (await house.reindex()).added_images == 0
    row = (await house.known(manifest)).row
    assert row is not None
    assert row.state == "sent"


async def test_what_can_not_be_known_is_private(house: House) -> None:
    """Without its state.json nobody knows whether an image was hidden or its links were ended: both, then."""
    manifest = await house.keep()
    house.path(manifest, STATE).write_text("{")
    await house.lose_index()
    result = await house.reindex()
    (record,) = (await house.known(manifest)).images
    assert (result.private, record.visibility) == (1, "private")
    assert record.link_epoch > time.time() - 60


async def test_damaged_and_missing_images_are_told(house: House) -> None:
    """One of another size is listed and not served, one that is gone is not listed; a digest only with --hash."""
    manifest = await house.keep(3)
    house.path(manifest, "0.png").write_bytes(b"short")
    house.path(manifest, "1.png").unlink()
    data = bytearray(house.path(manifest, "2.png").read_bytes())
    data[3] ^= 1
    house.path(manifest, "2.png").write_bytes(data)
    await house.lose_index()
    told = await house.reindex(applies=False)
    assert (told.missing, told.damaged) == (1, 1)
    result = await house.reindex(hashes=True)
    assert (result.missing, result.damaged) == (1, 2)
    records = (await house.known(manifest)).images
    assert [(record.position, record.damage) for record in records] == [(0, "wrong_size"), (2, "rotten")]


async def test_folders_that_can_not_be_understood_are_told(house: House) -> None:
    """Each by name and reason, and the others come back."""
    good = await house.keep()
    torn, lying = await house.keep(), await house.keep()
    house.path(torn, "request.json").write_text("{")
    other = damaged(replace(lying, call=replace(lying.call, id=good.call.id)))
    house.path(lying, "request.json").write_bytes(other.to_json())
    await house.lose_index()
    result = await house.reindex()
    assert [ref for ref, _ in result.unreadable] == [folder_ref(torn.call.id), folder_ref(lying.call.id)]
    assert (result.added_images, await house.count()) == (1, 1)


async def test_the_newest_call_has_an_idempotency_key_that_was_used_twice(house: House) -> None:
    """A day apart: the older call had given it up before."""
    older = await house.admit(idempotency_key="k", created_us=1_795_000_000_000_000)
    await house.index.write(lambda tx: ledger.free_idempotency_key(tx, ANN.id, older.call.kind, "k"))
    folder = house.folder(house.data / "seeding", older)
    await house.storage.adopt(str(folder), folder_ref(older.call.id))
    newer = await house.keep(idempotency_key="k", created_us=1_795_100_000_000_000)
    await house.lose_index()
    await house.reindex()
    keys = [(await house.known(each)).row for each in (older, newer)]
    assert [row.call.idempotency_key for row in keys if row] == [None, "k"]
    assert (await house.verify()).is_clean


@pytest.mark.parametrize("wrong", ["absent", "another"])
async def test_a_wrong_storage_is_refused(house: House, wrong: str) -> None:
    """Not mounted, or somebody else's: no row is changed (R9)."""
    await house.keep()
    before = await dump(house)
    if wrong == "absent":
        (house.data / "storage" / SENTINEL).unlink()
    else:
        await house.storage.put(SENTINEL, b"another")
    with pytest.raises(ConfigError, match="Nothing was changed"):
        await house.reindex()
    assert await dump(house) == before


async def test_an_index_is_claimed_only_when_all_of_it_is_there(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that dies half-way leaves an index that no server starts on; the next run ends it."""
    manifests = [await house.keep() for _ in range(3)]
    await house.lose_index()
    with pytest.raises(RuntimeError):
        await rebuild_until(house, fails_after=1)
    assert await house.index.read(lambda tx: stored.get(tx, "storage_id")) is None
    await house.reindex()
    assert await house.index.read(lambda tx: stored.get(tx, "storage_id")) == "the storage"
    assert await house.count() == len(manifests)


async def rebuild_until(house: House, fails_after: int) -> None:
    from pixie_proxy.audit.rebuild import rebuild

    seen = 0

    def die(images: int, _size_bytes: int) -> None:
        nonlocal seen
        seen += images
        if seen >= fails_after:
            raise RuntimeError

    await rebuild(house.index, house.storage, applies=True, hashes=False, progress=die)
