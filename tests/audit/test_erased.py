"""What turns up of a user who was deleted: it is not listed, and its folder goes (R89)."""

from __future__ import annotations

import time

from pixie_proxy.gallery.upkeep import Upkeep
from pixie_proxy.index import erasure, images, ledger, states
from pixie_proxy.spool.finish import Finisher, settle_kept
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.tasks import TaskKeeper
from tests.audit.conftest import House


async def erase(house: House, manifest: Manifest) -> None:
    """Delete who made a call."""
    user_id = manifest.call.user_id
    await house.index.write(lambda tx: erasure.begin(tx, user_id, "deleted-x", time.time_ns() // 1000))


async def test_a_call_that_was_still_in_the_spool_leaves_nothing(house: House) -> None:
    """Its row is settled as anonymous as the others; the folder is deleted once it is in storage, not before."""
    manifest = await house.admit(2, idempotency_key="a key")
    await erase(house, manifest)
    folder = house.folder(house.spool.root / "a process", manifest)
    upkeep = Upkeep(house.index, house.storage, TaskKeeper(), is_spooled=house.spool.holds)
    await house.index.write(lambda tx: settle_kept(tx, manifest))
    assert (await upkeep.sweep())[0] == 1
    await Finisher(house.index, house.storage).keep(manifest, str(folder))
    assert house.path(manifest).is_dir()
    assert await upkeep.sweep() == (0, None)
    assert not house.path(manifest).exists()
    row = await house.index.read(lambda tx: ledger.get(tx, manifest.call.id))
    assert row is not None
    assert (row.state, row.cost_micros) == ("done", manifest.settlement.cost_micros)
    told = (row.skeleton, row.error, row.upstream_request_id, row.call.requested_model)
    assert told == (None, None, None, manifest.call.requested_model)  # what was there goes page by page
    assert await house.index.read(lambda tx: images.of_request(tx, manifest.call.id)) == []


async def test_reindex_brings_nobody_back(house: House) -> None:
    """A folder that an old backup of the storage brought back is not listed, under no name."""
    kept = await house.keep(2)
    await erase(house, kept)
    await house.index.write(lambda tx: erasure.erase_images(tx, kept.call.user_id, 10))
    await house.index.write(lambda tx: tx.run("DELETE FROM states_to_write"))
    assert (await house.reindex()).added_images == 0
    assert await house.count() == 0


async def test_a_folder_that_nobody_understands_goes_as_well(house: House) -> None:
    """Its manifest is damaged: whose it is the index knows."""
    manifest = await house.keep(1)
    house.path(manifest, "request.json").write_bytes(b"?")
    await erase(house, manifest)
    assert await house.index.write(lambda tx: erasure.erase_images(tx, manifest.call.user_id, 10)) == 1
    assert await house.index.read(lambda tx: states.waiting(tx, "", 10)) == [manifest.call.id]
    assert (await Upkeep(house.index, house.storage, TaskKeeper()).sweep())[0] == 0
    assert not house.path(manifest).exists()
