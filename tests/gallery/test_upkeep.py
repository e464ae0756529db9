"""The folders follow the index: at once, later, after a crash; and files go only where they were purged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from pixie_proxy.index import Tx, images, states
from pixie_proxy.records import Visibility
from pixie_proxy.storage import STATE, folder_ref
from tests.gallery.conftest import House, holds


def hide(image_id: str, request_id: str) -> Callable[[Tx], None]:
    def work(tx: Tx) -> None:
        images.set_visibility(tx, image_id, "private", raises_epoch=True)
        states.mark(tx, request_id)

    return work


async def waiting(house: House) -> list[str]:
    return await house.index.read(lambda tx: states.waiting(tx, "", 100))


async def test_a_change_is_written_beside_the_manifest(house: House) -> None:
    """Only the image that has changed is named, with all that may change; then nothing waits any more."""
    manifest = await house.call(2)
    second = manifest.images[1]
    await house.index.write(hide(second.id, manifest.call.id))
    await house.upkeep().follow(manifest.call.id)
    assert house.state(manifest.call) == {
        "object": "pixie.state",
        "version": 1,
        "id": manifest.call.id,
        "images": {
            second.id: {"visibility": "private", "deleted_us": None, "expires_us": None, "link_epoch": 1}
        },
        "purged": [],
    }
    assert await waiting(house) == []


async def test_what_is_as_it_was_has_no_state(house: House) -> None:
    """Neither before a change, nor when it was taken back; and what did not change is not written twice."""
    manifest = await house.call()
    (image,), call, upkeep = manifest.images, manifest.call, house.upkeep()
    puts = house.storage.puts
    await house.index.write(lambda tx: states.mark(tx, call.id))
    await upkeep.follow(call.id)
    assert (house.state(call), house.storage.puts) == (None, puts)

    def show(tx: Tx, visibility: Visibility) -> None:
        images.set_visibility(tx, image.id, visibility, raises_epoch=False)
        states.mark(tx, call.id)

    steps: tuple[Visibility, ...] = ("public", "public", "team")
    for visibility in steps:
        await house.index.write(partial(show, visibility=visibility))
        await upkeep.follow(call.id)
        assert (house.state(call) is None) == (visibility == "team")
    assert house.storage.puts == puts + 1


async def test_an_absent_storage_is_waited_for(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The change is answered at once; the file comes when storage does."""
    manifest = await house.call()
    upkeep = house.upkeep()
    house.tasks.spawn(upkeep.run(), "upkeep")
    house.storage.is_away = True
    await house.index.write(hide(manifest.images[0].id, manifest.call.id))
    async with asyncio.timeout(1):
        await upkeep.follow(manifest.call.id)
    assert (house.state(manifest.call), await waiting(house)) == (None, [manifest.call.id])
    house.storage.is_away = False
    await holds(lambda: house.state(manifest.call) is not None)


async def test_a_hanging_storage_does_not_hold_the_answer(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A little is waited for it, no more."""
    manifest = await house.call()
    go = asyncio.Event()
    put = house.storage.put

    async def slow(ref: str, data: bytes) -> None:
        await go.wait()
        await put(ref, data)

    monkeypatch.setattr(house.storage, "put", slow)
    monkeypatch.setattr("pixie_proxy.gallery.upkeep.ANSWER_WAIT_S", 0.1)
    await house.index.write(hide(manifest.images[0].id, manifest.call.id))
    async with asyncio.timeout(1):
        await house.upkeep().follow(manifest.call.id)
    assert house.state(manifest.call) is None
    go.set()
    await holds(lambda: house.state(manifest.call) is not None)


async def test_a_call_that_is_still_in_the_spool_is_waited_for(house: House) -> None:
    """Its folder would be taken for adopted if a state.json were there first."""
    manifest = await house.call(is_adopted=False)
    upkeep = house.upkeep()
    house.tasks.spawn(upkeep.run(), "upkeep")
    await house.index.write(hide(manifest.images[0].id, manifest.call.id))
    await upkeep.follow(manifest.call.id)
    await asyncio.sleep(0.3)
    assert house.names(manifest.call) == []
    house.adopt(manifest)
    await holds(lambda: house.state(manifest.call) is not None)


async def test_a_dead_process_is_made_up_for(house: House) -> None:
    """What was committed and not written is written by the next start; also behind the first page."""
    calls = [await house.call() for _ in range(3)]
    for manifest in calls:
        await house.index.write(hide(manifest.images[0].id, manifest.call.id))
    house.tasks.spawn(house.upkeep().run(), "upkeep")
    await holds(lambda: all(house.state(manifest.call) for manifest in calls))


async def test_pages_that_fail_do_not_stop_the_others(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that can't be brought into line stays; those behind it are."""
    monkeypatch.setattr("pixie_proxy.gallery.upkeep._PAGE", 1)
    calls = [await house.call(is_adopted=n > 0) for n in range(3)]
    for manifest in calls:
        await house.index.write(hide(manifest.images[0].id, manifest.call.id))
    left, reason = await house.upkeep().sweep()
    assert (left, "ObjectMissing" in (reason or "")) == (1, True)
    assert await waiting(house) == [calls[0].call.id]


async def test_a_change_while_the_file_is_written_is_not_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes looks once more when he is done."""
    manifest = await house.call(2)
    first, second = manifest.images
    put = house.storage.put

    async def interrupted(ref: str, data: bytes) -> None:
        monkeypatch.setattr(house.storage, "put", put)
        await house.index.write(hide(second.id, manifest.call.id))
        await put(ref, data)

    monkeypatch.setattr(house.storage, "put", interrupted)
    await house.index.write(hide(first.id, manifest.call.id))
    await house.upkeep().follow(manifest.call.id)
    state = house.state(manifest.call)
    assert state is not None
    assert set(state["images"]) == {first.id, second.id}


async def test_two_processes_end_with_what_the_index_says(house: House) -> None:
    """However their writing interleaves."""
    manifest = await house.call(8)
    one, two = house.upkeep(), house.upkeep()

    async def change(n: int) -> None:
        await house.index.write(hide(manifest.images[n].id, manifest.call.id))
        await (one if n % 2 else two).follow(manifest.call.id)

    await asyncio.gather(*[change(n) for n in range(8)])
    state = house.state(manifest.call)
    assert state is not None
    assert len(state["images"]) == 8
    assert await waiting(house) == []


async def test_one_of_two_images_is_purged(house: House) -> None:
    """Its file goes and is remembered as gone on purpose, whatever changes later; the other image stays."""
    manifest = await house.call(2)
    first, second = manifest.images

    def purge(tx: Tx) -> None:
        tx.run("DELETE FROM images WHERE id = :id", id=first.id)
        states.mark(tx, manifest.call.id, {first.id: first.file})

    await house.index.write(purge)
    upkeep = house.upkeep()
    await upkeep.follow(manifest.call.id)
    assert house.names(manifest.call) == ["1.png", "request.json", "state.json"]
    await house.index.write(hide(second.id, manifest.call.id))
    await upkeep.follow(manifest.call.id)
    state = house.state(manifest.call)
    assert state is not None
    assert (state["purged"], list(state["images"])) == ([first.id], [second.id])
    assert house.forgotten == [first.id]


async def test_rows_that_the_index_lacks_delete_nothing(house: House) -> None:
    """An index from a backup may not know an image; only what was purged on purpose goes."""
    manifest = await house.call(3)
    first, second, _ = manifest.images

    def work(tx: Tx) -> None:
        tx.run("DELETE FROM images WHERE request_id = :id", id=manifest.call.id)
        states.mark(tx, manifest.call.id, {first.id: first.file, second.id: second.file})

    await house.index.write(work)
    await house.upkeep().follow(manifest.call.id)
    assert house.names(manifest.call) == ["2.png", "request.json", "state.json"]


async def test_a_folder_half_deleted_is_deleted_by_the_next_start(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the manifest went first, which says what the folder held."""
    manifest = await house.call()
    (image,) = manifest.images
    folder = folder_ref(manifest.call.id)

    def work(tx: Tx) -> None:
        tx.run("DELETE FROM images WHERE id = :id", id=image.id)
        states.mark(tx, manifest.call.id, {image.id: image.file})

    async def half(ref: str) -> None:
        assert ref == folder
        del house.storage.files[f"{folder}/request.json"]
        house.storage.is_away = True
        monkeypatch.undo()
        await house.storage.delete(ref)

    monkeypatch.setattr(house.storage, "delete", half)
    await house.index.write(work)
    await house.upkeep().follow(manifest.call.id)
    assert house.names(manifest.call) == ["0.png"]
    house.storage.is_away = False
    house.tasks.spawn(house.upkeep().run(), "upkeep")
    await holds(lambda: house.names(manifest.call) == [])
    await holds(lambda: house.forgotten == [image.id])


async def test_a_state_of_a_newer_version_is_left_alone(house: House) -> None:
    """It may say more than we can read; the change waits."""
    manifest = await house.call()
    ref = f"{folder_ref(manifest.call.id)}/{STATE}"
    house.storage.files[ref] = newer = b'{"version": 2}'
    await house.index.write(hide(manifest.images[0].id, manifest.call.id))
    await house.upkeep().follow(manifest.call.id)
    assert house.storage.files[ref] == newer
    assert await waiting(house) == [manifest.call.id]
