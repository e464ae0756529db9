"""What `pixie verify` finds, and that it finds nothing else (R6, R7)."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pixie_proxy.audit.contents import folder_of, read_contents
from pixie_proxy.audit.judging import judge
from pixie_proxy.audit.verify import LEFTOVER_AFTER_S
from pixie_proxy.errors import ConfigError
from pixie_proxy.gallery.state import FolderState
from pixie_proxy.index import Tx, images, states
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import MANIFEST, STATE, folder_ref
from tests.audit.conftest import House, damaged, findings
from tests.support.calls import ANN
from tests.support.pictures import png


def flip(path: Path, at: int = 0, bit: int = 1) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


def age(path: Path) -> None:
    """Let a file be older than any write that is still under way."""
    then = time.time() - LEFTOVER_AFTER_S - 5
    os.utime(path, (then, then))


async def test_a_sound_house_is_clean(house: House) -> None:
    """Whatever its calls have been through: deleted, private, purged, unknown, under way."""
    await house.keep(3)
    changed = await house.keep(2)

    def change(tx: Tx) -> None:
        images.delete(tx, changed.images[0].id, 5)
        images.set_visibility(tx, changed.images[1].id, "private", raises_epoch=True)

    await house.index.write(change)
    records = (await house.known(changed)).images
    state = FolderState.of(changed, records, ())
    await house.storage.put(f"{folder_ref(changed.call.id)}/{STATE}", state.to_json())
    await house.admit()
    report = await house.verify()
    assert (report.is_clean, findings(report)) == (True, [])
    assert (report.folders, report.images) == (2, 5)


async def test_a_flipped_bit_is_found_and_noted(house: House) -> None:
    """One finding, and the index knows that these bytes are not to be served; the neighbours are good."""
    manifest = await house.keep(3)
    flip(house.path(manifest, "1.png"), 7)
    assert findings(await house.verify()) == [("rotten", "1.png")]
    assert [each.damage for each in (await house.known(manifest)).images] == [None, "rotten", None]


async def test_what_is_restored_is_good_again(house: House) -> None:
    """The next run clears the note; a quick one, which reads no bytes, does not."""
    manifest = await house.keep()
    path = house.path(manifest, "0.png")
    good = path.read_bytes()
    flip(path)
    for _ in range(2):
        assert findings(await house.verify()) == [("rotten", "0.png")]
    path.write_bytes(good)
    assert (await house.verify(hashes=False)).is_clean
    assert (await house.known(manifest)).images[0].damage == "rotten"
    assert (await house.verify()).is_clean
    assert (await house.known(manifest)).images[0].damage is None


async def test_every_bit_of_a_manifest_counts(house: House) -> None:
    """Whichever bit of request.json flips, it is found: by its form, or by what the index says."""
    manifest = await house.keep(2)
    path, known = house.path(manifest, MANIFEST), await house.known(manifest)
    folder, good = await folder_of(house.storage, manifest.call.id), path.read_bytes()
    unseen = []
    for at in random.Random(4).sample(range(len(good)), 200):
        flip(path, at, 1 << at % 8)
        contents = await read_contents(house.storage, folder)
        if not judge(contents, known, {}, old_before_us=0):
            unseen.append(path.read_bytes()[at - 20 : at + 20])
        path.write_bytes(good)
    assert unseen == []


def leave(path: Path, *, is_old: bool = True) -> None:
    """Leave a temporary file, older than any write that is still under way unless it `is_old` not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    if is_old:
        age(path)


Seed = Callable[[House, Manifest], object]

WRONG: dict[str, tuple[Seed, list[tuple[str, str]]]] = {
    "an image that was cut": (
        lambda house, manifest: os.truncate(house.path(manifest, "0.png"), 10),
        [("wrong_size", "0.png")],
    ),
    "an image that is gone": (
        lambda house, manifest: house.path(manifest, "1.png").unlink(),
        [("dangling", "1.png")],
    ),
    "a whole folder that is gone": (
        lambda house, manifest: shutil.rmtree(house.path(manifest)),
        [("dangling", "0.png"), ("dangling", "1.png")],
    ),
    "a manifest that is gone": (
        lambda house, manifest: house.path(manifest, MANIFEST).unlink(),
        [("bad_manifest", MANIFEST)],
    ),
    "a manifest that is none": (
        lambda house, manifest: house.path(manifest, MANIFEST).write_text("{}"),
        [("bad_manifest", MANIFEST)],
    ),
    "a manifest of another image": (
        lambda house, manifest: house.path(manifest, MANIFEST).write_bytes(
            damaged(manifest, sha256="0" * 64).to_json()
        ),
        [("mismatch", MANIFEST)],
    ),
    "a state that is none": (
        lambda house, manifest: house.path(manifest, STATE).write_text("{"),
        [("bad_manifest", STATE)],
    ),
    "a file that nobody knows": (
        lambda house, manifest: house.path(manifest, "7.png").write_bytes(b"x"),
        [("orphan", "7.png")],
    ),
    "a folder of nobody's": (
        lambda house, manifest: house.path(manifest).rename(house.path(manifest).with_name("mine")),
        [("dangling", "0.png"), ("dangling", "1.png"), ("orphan", "mine")],
    ),
    "a write that never ended": (
        lambda house, manifest: leave(house.path(manifest, ".state.json.part")),
        [("leftover", ".state.json.part")],
    ),
    "a write that is under way": (
        lambda house, manifest: leave(house.path(manifest, ".state.json.part"), is_old=False),
        [],
    ),
    "a copy that never ended": (
        lambda house, manifest: leave(house.data / "storage" / ".incoming" / manifest.call.id / "0.png"),
        [("leftover", "0.png")],
    ),
}


@pytest.mark.parametrize("fault", WRONG)
async def test_each_fault_is_one_finding(house: House, fault: str) -> None:
    """Found as what it is, once, and the sound call beside it is not touched."""
    await house.keep(2)
    manifest = await house.keep(2)
    seed, expected = WRONG[fault]
    seed(house, manifest)
    assert findings(await house.verify()) == expected


async def test_rows_that_say_something_else_are_found(house: House) -> None:
    """An owner, a cost, a state.json: the finding names what differs."""
    manifest = await house.keep()
    await house.index.write(lambda tx: tx.run("UPDATE requests SET cost_micros = 7"))
    await house.index.write(
        lambda tx: images.set_visibility(tx, manifest.images[0].id, "private", raises_epoch=False)
    )
    (found,) = [each for each, _ in (await house.verify()).listed if each.kind == "mismatch"]
    assert found.detail == f"they differ in cost_micros, {STATE}"


async def test_an_account_that_is_not_its_ledgers_sum_is_found_and_mended(house: House) -> None:
    """Calls of before and of now are what each account has spent and holds: the team's, ann's, and her key's."""
    await house.keep(key_id="key_1")
    await house.admit(key_id="key_1")
    assert (await house.verify()).is_clean
    right = await house.index.read(lambda tx: [dict(row) for row in tx.all(_ACCOUNTS)])
    assert [row["subject"] for row in right] == ["key_1", "team", ANN.id]
    wrong = "UPDATE accounts SET held_micros = held_micros + 1, spent_life_micros = 0"
    await house.index.write(lambda tx: tx.run(wrong))
    expected = [("account", row["subject"]) for row in right]
    assert findings(await house.verify()) == expected
    report = await house.verify(fixes=True)
    assert (findings(report), report.is_clean) == (expected, True)
    assert (await house.verify()).is_clean
    assert await house.index.read(lambda tx: [dict(row) for row in tx.all(_ACCOUNTS)]) == right


_ACCOUNTS = "SELECT subject, in_flight, held_micros, spent_life_micros FROM accounts ORDER BY subject"


async def test_calls_under_way_are_not_reported(house: House) -> None:
    """In the spool, in storage before its row, or with rows before its folder: each is on its way."""
    house.spool.open()
    in_spool, unrecorded, unadopted = [await house.admit(2) for _ in range(3)]
    house.folder(house.spool.folder, in_spool)
    folder = house.folder(house.spool.folder, unrecorded)
    await house.storage.adopt(str(folder), folder_ref(unrecorded.call.id))
    kept = await house.keep()
    house.path(kept).rename(house.spool.folder / kept.call.id)
    house.folder(house.spool.folder, unadopted)
    assert findings(await house.verify()) == []
    house.spool.close(keeps_folder=True)


async def test_partial_images_hide_nothing(house: House) -> None:
    """They lie in the spool under their call's id long after it came home."""
    manifest = await house.keep()
    (house.spool.root / "partials" / manifest.call.id).mkdir(parents=True)
    house.path(manifest, "0.png").unlink()
    assert findings(await house.verify()) == [("dangling", "0.png")]


async def test_a_purge_is_not_reported(house: House) -> None:
    """Rows go first, files follow: what lies between is noted in the index."""
    part, whole = await house.keep(2), await house.keep(2)

    def purge(tx: Tx) -> None:
        for manifest, count in ((part, 1), (whole, 2)):
            for image in manifest.images[:count]:
                tx.run("DELETE FROM images WHERE id = :id", id=image.id)
            gone = {image.id: image.file for image in manifest.images[:count]}
            states.mark(tx, manifest.call.id, gone)

    await house.index.write(purge)
    assert findings(await house.verify(fixes=True)) == []
    assert await house.count() == 1


async def test_fix_mends_what_is_safe_and_deletes_nothing(house: House) -> None:
    """Rows come back, temporary files go; what only a backup can mend stays and is told again."""
    orphan, rotten, gone, bare = [await house.keep(2) for _ in range(4)]
    await house.index.write(lambda tx: tx.run("DELETE FROM images WHERE request_id = :id", id=orphan.call.id))
    leave(house.path(rotten, ".state.json.part"))
    flip(house.path(rotten, "0.png"))
    house.path(gone, "1.png").unlink()
    await house.index.write(lambda tx: tx.run("DELETE FROM images WHERE request_id = :id", id=bare.call.id))
    house.path(bare, MANIFEST).unlink()
    before = {path: path.read_bytes() for path in (house.data / "storage").rglob("*.png")}
    report = await house.verify(fixes=True)
    assert {kind for kind, count in report.fixed.items() if count} == {"orphan", "leftover"}
    left = await house.verify(fixes=True)
    assert findings(left) == [("dangling", "1.png"), ("orphan", bare.call.id), ("rotten", "0.png")]
    assert left.fixed.total() == 0
    assert {path: path.read_bytes() for path in (house.data / "storage").rglob("*.png")} == before
    assert await house.count() == 6


async def test_stale_spools_are_found_and_brought_home(house: House) -> None:
    """A folder of a dead process, uploads of one that is gone, and a start that died; not those of the living."""
    house.spool.open()
    manifest = await house.admit(2)
    root = house.spool.root
    house.folder(root / "0123456789abcdef", manifest)
    (root / "uploads" / "fedcba9876543210").mkdir(parents=True)
    (root / ".0011223344556677").mkdir()
    age(root / ".0011223344556677")
    (root / "partials" / manifest.call.id).mkdir(parents=True)
    wanted = [
        ("leftover", ".0011223344556677"),
        ("leftover", "fedcba9876543210"),
        ("stale_spool", "0123456789abcdef"),
    ]
    assert findings(await house.verify()) == wanted
    report = await house.verify(fixes=True)
    assert (findings(report), report.is_clean) == (wanted, True)
    assert (await house.verify()).is_clean
    assert await house.count() == 2
    house.spool.close()


async def test_a_spool_that_can_not_be_recovered_stays(house: House) -> None:
    """It may hold somebody's image: it is told every time, and never removed."""
    folder = house.spool.root / "0123456789abcdef" / "req_06gvqknr6dobnf7s5j385kjufk"
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(png())
    report = await house.verify(fixes=True)
    assert (findings(report), report.is_clean) == ([("stale_spool", "0123456789abcdef")], False)
    assert (folder / "0.png").read_bytes() == png()


@pytest.mark.parametrize("gone", ["sentinel", "storage"])
async def test_a_storage_that_is_not_mounted_condemns_no_image(house: House, gone: str) -> None:
    """Refused, and no row is changed: an empty folder tells nothing about images (R9)."""
    manifest = await house.keep(2)
    (house.data / "storage").rename(house.data / "elsewhere")
    (house.data / "storage").mkdir()
    if gone == "sentinel":
        shutil.copytree(house.data / "elsewhere" / "images", house.data / "storage" / "images")
    with pytest.raises(ConfigError, match="is it mounted"):
        await house.verify(fixes=True)
    assert [each.damage for each in (await house.known(manifest)).images] == [None, None]


async def test_a_storage_that_goes_away_meanwhile_condemns_no_image(house: House) -> None:
    """The second look asks for the storage's id before it believes that anything is missing."""
    manifests = [await house.keep() for _ in range(3)]

    def unmount(_images: int, _size_bytes: int) -> None:
        if (house.data / "storage").exists():
            (house.data / "storage").rename(house.data / "elsewhere")

    with pytest.raises(ConfigError, match="is it mounted"):
        await house.verify(progress=unmount)
    known = [await house.known(manifest) for manifest in manifests]
    assert [each.images[0].damage for each in known] == [None] * 3
