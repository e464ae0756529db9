"""What a start makes of the calls that a dead process left, whatever they had come to."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pixie_proxy.index import Index, accounts, ledger
from pixie_proxy.index.ledger import LedgerRow
from pixie_proxy.metrics import Metrics
from pixie_proxy.records import Account, CallRecord, StoredImage, new_id
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.spool.recovery import EVERY_S, Recovery
from pixie_proxy.storage import MANIFEST, folder_ref
from pixie_proxy.storage.local import LocalStorage
from pixie_proxy.threads import WorkerThreads
from tests.spool.conftest import OpenSpool, die
from tests.support.calls import ANN, a_call, a_manifest, a_picture, admit, an_end
from tests.support.pictures import png
from tests.support.waiting import eventually


class Aftermath:
    """A process that died, and the start after it."""

    def __init__(
        self, open_spool: OpenSpool, index: Index, storage: LocalStorage, root: Path, writers: WorkerThreads
    ) -> None:
        self.died, self.spool = open_spool(), open_spool()
        self.index = index
        self.storage = storage
        self.root = root
        self.metrics = Metrics(["gpt-image-2"])
        finisher = Finisher(index, storage, self.metrics.call_ended)
        self.recovery = Recovery(self.spool, index, storage, finisher, writers)

    async def admit(self, **fields: object) -> CallRecord:
        """Open a call of the dead process's."""
        call = a_call(process=self.died.process, **fields)
        await admit(self.index, call)
        return call

    def leave(self, call: CallRecord, *positions: int, **files: bytes) -> Path:
        """Leave images, and other files, in the call's folder."""
        folder = self.died.folder / call.id
        folder.mkdir()
        for position in positions:
            (folder / f"{position}.png").write_bytes(png(seed=position))
        for name, data in files.items():
            (folder / name.replace("_", ".")).write_bytes(data)
        return folder

    async def recover(self) -> int:
        if self.died._lock is not None:
            die(self.died)
        return await self.recovery.once()

    async def row(self, call: CallRecord) -> LedgerRow:
        found = await self.index.read(lambda tx: ledger.get(tx, call.id))
        assert found is not None
        return found

    async def account(self) -> Account:
        return await self.index.read(lambda tx: accounts.get(tx, ANN.id))

    async def gallery(self) -> list[tuple[str, int, bytes]]:
        """Give request, position and stored bytes of every image in the index; hash and size must be right."""
        sql = "SELECT request_id, position, ref, size_bytes, sha256 FROM images ORDER BY request_id, position"
        found = []
        for row in await self.index.read(lambda tx: tx.all(sql)):
            data = (self.root / row["ref"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (row["size_bytes"], row["sha256"])
            found.append((row["request_id"], row["position"], data))
        return found

    def stored(self, call: CallRecord) -> set[str]:
        return {path.name for path in (self.root / folder_ref(call.id)).iterdir()}


@pytest.fixture
def aftermath(
    open_spool: OpenSpool, index: Index, storage: LocalStorage, tmp_path: Path, writers: WorkerThreads
) -> Aftermath:
    return Aftermath(open_spool, index, storage, tmp_path / "storage", writers)


def told(position: int) -> StoredImage:
    """Describe the image of a position as the manifest does."""
    return a_picture(png(seed=position), position)


async def test_a_durable_call_comes_home(aftermath: Aftermath) -> None:
    """Storage, index and bill say what the manifest says, and the process's folder is gone."""
    call = await aftermath.admit()
    manifest = a_manifest(call, (told(0), told(1)))
    aftermath.leave(call, 0, 1, request_json=manifest.to_json())
    assert await aftermath.recover() == 1
    assert await aftermath.gallery() == [(call.id, 0, png(seed=0)), (call.id, 1, png(seed=1))]
    row, account = await aftermath.row(call), await aftermath.account()
    assert (row.state, row.cost_micros, row.skeleton) == ("done", 300, manifest.settlement.skeleton)
    assert (account.in_flight, account.held_micros, account.spent_life_micros) == (0, 0, 300)
    assert not aftermath.died.folder.exists()


async def test_recovering_again_changes_nothing(aftermath: Aftermath) -> None:
    """Whoever dies while recovering is recovered in turn: no image twice, nobody pays twice."""
    call = await aftermath.admit()
    manifest = a_manifest(call, (told(0),)).to_json()
    folder = aftermath.leave(call, 0, request_json=manifest)
    await aftermath.recover()
    before = (await aftermath.gallery(), await aftermath.account(), await aftermath.row(call))
    folder.mkdir(parents=True)
    aftermath_files = {"0.png": png(seed=0), MANIFEST: manifest}
    for name, data in aftermath_files.items():
        (folder / name).write_bytes(data)
    assert await aftermath.recover() == 1
    assert (await aftermath.gallery(), await aftermath.account(), await aftermath.row(call)) == before


async def test_an_image_that_came_whole_after_the_seal_is_kept(aftermath: Aftermath) -> None:
    """A stream is sealed after each image; the third had its name, the manifest did not know it yet."""
    call = await aftermath.admit(is_stream=True, images_asked=4)
    manifest = a_manifest(call, (told(0), told(1)), "unknown")
    parts = {"request_json": manifest.to_json(), "3_part": b"half", "request_json_part": b"{"}
    folder = aftermath.leave(call, 0, 1, 2)
    for name, data in parts.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    await aftermath.recover()
    assert await aftermath.gallery() == [(call.id, position, png(seed=position)) for position in (0, 1, 2)]
    assert aftermath.stored(call) == {"0.png", "1.png", "2.png", MANIFEST}
    ref = aftermath.root / folder_ref(call.id) / MANIFEST
    assert [image.position for image in Manifest.from_json(ref.read_bytes()).images] == [0, 1, 2]


@pytest.mark.parametrize("manifest", [None, b"", b'{"object": "pixie.req'])
async def test_whole_images_of_a_call_that_was_not_durable_are_salvaged(
    aftermath: Aftermath, manifest: bytes | None
) -> None:
    """Without a manifest, or with one that was still being written: the ledger knows whose they are."""
    call = await aftermath.admit(images_asked=4, parents=(new_id("img"), new_id("img")))
    aftermath.leave(call, 0, 2, **{"1_part": b"half", "call_json": b"{}"})
    if manifest is not None:
        (aftermath.died.folder / call.id / MANIFEST).write_bytes(manifest)
    assert await aftermath.recover() == 1
    assert await aftermath.gallery() == [(call.id, 0, png(seed=0)), (call.id, 2, png(seed=2))]
    assert aftermath.stored(call) == {"0.png", "2.png", MANIFEST}
    told = Manifest.from_json((aftermath.root / folder_ref(call.id) / MANIFEST).read_bytes())
    assert told.call.parents == call.parents
    row, account = await aftermath.row(call), await aftermath.account()
    assert (row.state, row.cost_micros) == ("unknown", call.hold_micros)
    assert (account.in_flight, account.held_micros, account.spent_life_micros) == (0, 0, call.hold_micros)


@pytest.mark.parametrize("has_folder", [True, False])
async def test_a_call_that_brought_nothing_is_of_unknown_outcome(
    aftermath: Aftermath, has_folder: bool
) -> None:
    """It may have been charged: so is its user, at the hold, and told."""
    call = await aftermath.admit()
    if has_folder:
        aftermath.leave(call, **{"0_part": b"half", "call_json": b"{}"})
    assert await aftermath.recover() == 1
    row, account = await aftermath.row(call), await aftermath.account()
    assert (row.state, row.cost_micros, row.error) == (
        "unknown", call.hold_micros, "the proxy stopped before the call had ended",
    )  # fmt: skip
    assert (account.in_flight, account.held_micros, account.spent_life_micros) == (0, 0, call.hold_micros)
    assert await aftermath.gallery() == []
    assert not aftermath.died.folder.exists()


async def test_a_call_that_storage_has_already_is_only_recorded(aftermath: Aftermath) -> None:
    """It died between the move and the ledger."""
    call = await aftermath.admit()
    folder = aftermath.leave(call, 0, request_json=a_manifest(call, (told(0),)).to_json())
    await aftermath.storage.adopt(str(folder), folder_ref(call.id))
    assert await aftermath.recover() == 1
    assert await aftermath.gallery() == [(call.id, 0, png(seed=0))]
    assert (await aftermath.row(call)).state == "done"


async def test_a_manifest_is_enough_where_the_index_forgot(aftermath: Aftermath) -> None:
    """An index that was restored from an older backup learns the call from the spool."""
    call = a_call(process=aftermath.died.process)
    await admit(aftermath.index)
    aftermath.leave(call, 0, request_json=a_manifest(call, (told(0),)).to_json())
    assert await aftermath.recover() == 1
    assert await aftermath.gallery() == [(call.id, 0, png(seed=0))]
    assert (await aftermath.row(call)).call == call


async def test_what_nobody_understands_stays(aftermath: Aftermath, caplog: pytest.LogCaptureFixture) -> None:
    """It may be somebody's paid image; the others are recovered all the same, and the next start looks again."""
    good = await aftermath.admit()
    newer, unknown = await aftermath.admit(), a_call()
    text = a_manifest(newer, (told(0),)).to_json()
    left = [
        aftermath.leave(newer, 0, request_json=text.replace(b'"version": 1', b'"version": 2')),
        aftermath.leave(unknown, 0),
    ]
    aftermath.leave(good, 0, request_json=a_manifest(good, (told(0),)).to_json())
    await aftermath.recover()
    assert await aftermath.gallery() == [(good.id, 0, png(seed=0))]
    assert all((folder / "0.png").exists() for folder in left)
    assert sum("can't be recovered" in record.message for record in caplog.records) == 2
    assert (await aftermath.account()).in_flight == 0


async def test_uploads_of_a_dead_process_are_swept(aftermath: Aftermath) -> None:
    """Those of the living are not."""
    for spool in (aftermath.died, aftermath.spool):
        (spool.uploads / "req").mkdir()
    await aftermath.recover()
    assert not aftermath.died.uploads.exists()
    assert (aftermath.spool.uploads / "req").exists()


async def test_a_live_process_is_left_alone(aftermath: Aftermath) -> None:
    """Its calls are its own to end."""
    call = await aftermath.admit()
    folder = aftermath.leave(call, 0)
    assert await aftermath.recovery.once() == 0
    assert (folder / "0.png").exists()
    assert (await aftermath.row(call)).state == "sent"


async def test_recovery_waits_for_a_storage_that_is_away(
    aftermath: Aftermath, caplog: pytest.LogCaptureFixture
) -> None:
    """The index knows the image meanwhile, and the spool has it; the log says so once."""
    call = await aftermath.admit()
    folder = aftermath.leave(call, 0, request_json=a_manifest(call, (told(0),)).to_json())
    (aftermath.root / "images").write_text("in the way")
    for _ in range(2):
        assert await aftermath.recover() == 0
    assert (await aftermath.row(call)).state == "done"
    assert aftermath.spool.find(call.id, "0.png") == folder / "0.png"
    assert [record.message for record in caplog.records] == ["a call waits in the spool"]
    (aftermath.root / "images").unlink()
    assert await aftermath.recover() == 1
    assert await aftermath.gallery() == [(call.id, 0, png(seed=0))]


@pytest.mark.parametrize("found", [b"", png(seed=1)[:-1], bytes(len(png(seed=1))), None])
async def test_an_image_that_is_not_as_its_manifest_says_is_never_taken_for_whole(
    aftermath: Aftermath, found: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Empty, short, of the wrong bytes or gone: its neighbours come home, the call is flagged, the log says so."""
    call = await aftermath.admit()
    manifest = a_manifest(call, (told(0), told(1), told(2)))
    folder = aftermath.leave(call, 0, 2, request_json=manifest.to_json())
    if found is not None:
        (folder / "1.png").write_bytes(found)
    assert await aftermath.recover() == 1
    assert await aftermath.gallery() == [(call.id, position, png(seed=position)) for position in (0, 2)]
    row = await aftermath.row(call)
    assert (row.state, row.cost_micros, row.flags) == ("done", 300, ("damaged",))
    assert aftermath.stored(call) == {"0.png", "2.png", MANIFEST, *(["1.png.damaged"] if found else [])}
    assert "an image in the spool is damaged" in [record.message for record in caplog.records]


@pytest.mark.parametrize("found", [b"", bytes(100)])
async def test_a_name_alone_makes_no_image(aftermath: Aftermath, found: bytes) -> None:
    """Where no manifest vouches for a file its own bytes must: a power cut may leave a name without them."""
    call = await aftermath.admit(images_asked=3)
    folder = aftermath.leave(call, 2)
    (folder / "1.png").write_bytes(found)
    await aftermath.recover()
    assert await aftermath.gallery() == [(call.id, 2, png(seed=2))]
    assert aftermath.stored(call) == {"2.png", MANIFEST}
    assert (await aftermath.row(call)).flags == ("salvaged",)


async def test_what_was_copied_already_counts_and_its_remains_go(aftermath: Aftermath) -> None:
    """Storage on another device: a process died while it removed what it had copied, the manifest first."""
    call = await aftermath.admit()
    manifest = a_manifest(call, (told(0), told(1)))
    folder = aftermath.leave(call, 0, 1, request_json=manifest.to_json())
    shutil.copytree(folder, aftermath.root / folder_ref(call.id))
    (folder / MANIFEST).unlink()
    (folder / "0.png").unlink()
    assert await aftermath.recover() == 1
    assert await aftermath.gallery() == [(call.id, position, png(seed=position)) for position in (0, 1)]
    assert (await aftermath.row(call)).state == "done"
    assert not aftermath.died.folder.exists()


async def test_rows_of_a_process_without_a_folder_are_settled(aftermath: Aftermath) -> None:
    """Somebody has tidied the spool by hand: slots and holds come back all the same. The living keep theirs."""
    gone, ours = await aftermath.admit(), a_call(process=aftermath.spool.process)
    await admit(aftermath.index, ours)
    shutil.rmtree(aftermath.died.folder)
    assert await aftermath.recover() == 1
    assert (await aftermath.row(gone)).state == "unknown"
    assert (await aftermath.row(ours)).state == "sent"
    account = await aftermath.account()
    assert (account.in_flight, account.held_micros) == (1, ours.hold_micros)


async def test_what_comes_home_is_counted_once(aftermath: Aftermath) -> None:
    """By the process that brought it home: one call with two images, and one of unknown outcome."""
    call, _ = await aftermath.admit(), await aftermath.admit()
    aftermath.leave(call, 0, 1, request_json=a_manifest(call, (told(0), told(1))).to_json())
    assert await aftermath.recover() == 2
    await aftermath.recover()
    metrics, model = aftermath.metrics, call.model
    ended = {state: metrics.calls.value(model, state) for state in ("done", "failed", "unknown")}
    assert ended == {"done": 1, "failed": 0, "unknown": 1}
    assert metrics.images_kept.value(model) == 2


async def test_a_fault_in_one_call_stops_no_other(
    aftermath: Aftermath, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays in the spool, is told once a start, and its slot comes back; once mended it comes home as done."""
    calls = [await aftermath.admit() for _ in range(20)]
    bad = calls[10]
    for call in calls:
        settlement = an_end(call, cost_micros=-1 if call is bad else 300)
        manifest = replace(a_manifest(call, (told(0),)), settlement=settlement)
        aftermath.leave(call, 0, request_json=manifest.to_json())
    assert await aftermath.recover() == 20
    assert await aftermath.recover() == 0
    assert sum("can't be recovered" in record.message for record in caplog.records) == 1
    assert len(await aftermath.gallery()) == 19
    assert (await aftermath.row(bad)).state == "unknown"
    account = await aftermath.account()
    spent = 19 * 300 + bad.hold_micros
    assert (account.in_flight, account.held_micros, account.spent_life_micros) == (0, 0, spent)

    mended = a_manifest(bad, (told(0),)).to_json()
    (aftermath.died.folder / bad.id / MANIFEST).write_bytes(mended)
    assert await aftermath.recover() == 1
    assert (await aftermath.row(bad)).state == "done"
    assert (await aftermath.account()).spent_life_micros == 20 * 300
    assert len(await aftermath.gallery()) == 20


async def test_neighbours_that_race_recover_each_call_once(
    aftermath: Aftermath, open_spool: OpenSpool, writers: WorkerThreads
) -> None:
    """Every live process looks after the dead ones: whichever gets the lock, and however often."""
    calls = [await aftermath.admit() for _ in range(30)]
    for call in calls:
        aftermath.leave(call, 0, request_json=a_manifest(call, (told(0),)).to_json())
    index, storage = aftermath.index, aftermath.storage
    others = [Recovery(open_spool(), index, storage, Finisher(index, storage), writers) for _ in range(3)]
    die(aftermath.died)
    counts = await asyncio.gather(*[one.once() for one in [aftermath.recovery, *others] * 2])
    assert sum(counts) == 30
    assert len(await aftermath.gallery()) == 30
    account = await aftermath.account()
    assert (account.in_flight, account.held_micros, account.spent_life_micros) == (0, 0, 30 * 300)


async def test_a_neighbour_that_dies_later_is_recovered_without_a_start(aftermath: Aftermath) -> None:
    """We look every few seconds, and at once when we are told to."""
    call = await aftermath.admit()
    aftermath.leave(call, 0, request_json=a_manifest(call, (told(0),)).to_json())
    finisher = Finisher(aftermath.index, aftermath.storage)
    aftermath.recovery._finisher = finisher
    running = asyncio.ensure_future(aftermath.recovery.run())
    await asyncio.sleep(0.1)
    assert await aftermath.gallery() == []
    die(aftermath.died)
    finisher.nudge()

    async def is_home() -> bool:
        return not aftermath.died.folder.exists() and len(await aftermath.gallery()) == 1

    await eventually(is_home, EVERY_S / 2)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_hundreds_of_calls_take_no_time(aftermath: Aftermath) -> None:
    """Recovery is linear, and every one of them is there in the end."""
    calls = [a_call(process=aftermath.died.process) for _ in range(300)]
    await admit(aftermath.index, *calls)
    for call in calls:
        aftermath.leave(call, 0, request_json=a_manifest(call, (told(0),)).to_json())
    assert await asyncio.wait_for(aftermath.recover(), 10) == 300
    assert [request for request, _, _ in await aftermath.gallery()] == sorted(call.id for call in calls)
    assert (await aftermath.account()).in_flight == 0
