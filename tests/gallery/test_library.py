"""The library: who sees which image, and that its bytes are the right ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pixie_proxy.errors import NotFound, StorageUnavailable
from pixie_proxy.gallery.library import Library, may_see
from pixie_proxy.gallery.sharing import LinkSigner
from pixie_proxy.gallery.upkeep import Upkeep
from pixie_proxy.index import Tx, images
from pixie_proxy.index.sqlite import open_sqlite
from pixie_proxy.records import ROLES, CallRecord, ImageRecord, StoredImage, User, Visibility, new_id
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.kept import KeptFiles
from pixie_proxy.storage import PIECE_BYTES, folder_ref
from pixie_proxy.storage.memory import MemoryStorage
from pixie_proxy.tasks import TaskKeeper
from pixie_proxy.threads import WorkerThreads
from tests.support.calls import ANN, a_call, admit
from tests.support.pictures import png

OWNER = User(id=ANN.id, name="ann", role="member")
ADMIN, MEMBER, VIEWER = [User(id=new_id("usr"), name=role, role=role) for role in ROLES]
PICTURE = png(size_bytes=700_001)
LINKS = LinkSigner(b"secret", "http://x")


class Rooms:
    """A library over an index, a storage in memory and a spool."""

    def __init__(self, library: Library, storage: MemoryStorage, spool: Spool, root: Path) -> None:
        self.library = library
        self.storage = storage
        self.spool = spool
        self.root = root

    async def add(self, visibility: Visibility = "team", *, is_stored: bool = True) -> str:
        """Add an image of ann's, in storage or still in the spool; give its id."""
        call = a_call()
        index = self.library._index
        await admit(index, call)
        image = StoredImage(
            id=new_id("img"),
            position=0,
            file="0.png",
            mime="image/png",
            size_bytes=len(PICTURE),
            sha256=hashlib.sha256(PICTURE).hexdigest(),
            width=8,
            height=8,
        )
        await index.write(lambda tx: _insert(tx, call, image, visibility))
        if is_stored:
            await self.storage.put(f"{folder_ref(call.id)}/0.png", PICTURE)
        else:
            (self.spool.folder / call.id).mkdir()
            (self.spool.folder / call.id / "0.png").write_bytes(PICTURE)
        return image.id

    async def read(self, record: ImageRecord, start: int = 0, stop: int = len(PICTURE)) -> list[bytes]:
        opened = await self.library.open(record)
        return [piece async for piece in self.library.read(opened, start, stop)]


def _insert(tx: Tx, call: CallRecord, image: StoredImage, visibility: Visibility) -> None:
    images.insert(
        tx,
        (image,),
        request_id=call.id,
        owner_id=call.user_id,
        folder=folder_ref(call.id),
        kind=call.kind,
        model=call.model,
        visibility=visibility,
        created_us=call.created_us,
    )


@pytest.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[Rooms]:
    index = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock")
    writers = WorkerThreads(1, "durable")
    spool = Spool(tmp_path / "spool", writers)
    spool.open()
    storage = MemoryStorage()
    tasks = TaskKeeper()
    upkeep = Upkeep(index, storage, tasks)
    yield Rooms(Library(index, KeptFiles(storage, spool), LINKS, upkeep), storage, spool, tmp_path)
    await tasks.close()
    spool.close()
    await asyncio.to_thread(writers.close)
    await index.close()


async def refused(rooms: Rooms, image_id: str, viewer: User) -> str:
    with pytest.raises(NotFound) as raised:
        await rooms.library.get(image_id, viewer)
    return raised.value.message.replace(image_id, "…")


@pytest.mark.parametrize(
    ("visibility", "viewers"),
    [
        ("private", [OWNER, ADMIN]),
        ("team", [OWNER, ADMIN, MEMBER, VIEWER]),
        ("public", [OWNER, ADMIN, MEMBER, VIEWER]),
    ],
)
async def test_visibility_decides_who_sees_an_image(
    rooms: Rooms, visibility: Visibility, viewers: list[User]
) -> None:
    """For everyone else it is as if it did not exist."""
    image_id = await rooms.add(visibility)
    for viewer in (OWNER, ADMIN, MEMBER, VIEWER):
        if viewer in viewers:
            record = await rooms.library.get(image_id, viewer)
            assert may_see(record, viewer)
        else:
            assert await refused(rooms, image_id, viewer) == await refused(rooms, new_id("img"), viewer)


@pytest.mark.parametrize("image_id", ["", "img_", "../../x", "img_" + "w" * 26, "req_" + "0" * 26, "img_\0"])
async def test_what_is_no_id_does_not_exist(rooms: Rooms, image_id: str) -> None:
    """No such text reaches a query or a path."""
    await refused(rooms, image_id, ADMIN)


async def test_a_deleted_image_is_gone_for_everyone(rooms: Rooms) -> None:
    """By its id and by its link."""
    image_id = await rooms.add()
    link = rooms.library.url(await rooms.library.get(image_id, OWNER)).rsplit("/", 1)[-1]
    await rooms.library._index.write(
        lambda tx: tx.run("UPDATE images SET deleted_us = 1 WHERE id = :id", id=image_id)
    )
    for viewer in (OWNER, ADMIN):
        await refused(rooms, image_id, viewer)
    with pytest.raises(NotFound):
        await rooms.library.get_by_link(link)


async def test_a_link_opens_its_image_until_its_epoch_ends(rooms: Rooms) -> None:
    """A private one too: whoever was given the link may see it. All refusals are alike."""
    image_id = await rooms.add("private")
    record = await rooms.library.get(image_id, OWNER)
    link = rooms.library.url(record).rsplit("/", 1)[-1]
    assert (await rooms.library.get_by_link(link)).id == image_id
    await rooms.library._index.write(
        lambda tx: tx.run("UPDATE images SET link_epoch = 1 WHERE id = :id", id=image_id)
    )
    other = LINKS.url(new_id("img"), "image/png").rsplit("/", 1)[-1]
    forged = f"{image_id}-{'0' * 26}.png"
    messages = set()
    for name in (link, other, forged, "x"):
        with pytest.raises(NotFound) as raised:
            await rooms.library.get_by_link(name)
        messages.add(raised.value.message)
    assert len(messages) == 1
    again = rooms.library.url(await rooms.library.get(image_id, OWNER)).rsplit("/", 1)[-1]
    assert (await rooms.library.get_by_link(again)).id == image_id


@pytest.mark.parametrize("is_stored", [True, False])
async def test_an_image_is_read_wherever_it_is(rooms: Rooms, is_stored: bool) -> None:
    """From storage or, until that has it, from the spool; in bounded pieces, and any part of it."""
    record = await rooms.library.get(await rooms.add(is_stored=is_stored), OWNER)
    pieces = await rooms.read(record)
    assert b"".join(pieces) == PICTURE
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert b"".join(await rooms.read(record, 100, 300_000)) == PICTURE[100:300_000]
    assert await rooms.read(record, 5, 5) == []


@pytest.mark.parametrize("way", ["to storage", "back"])
async def test_an_image_that_moves_while_it_is_opened_is_found(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Behind the look into the spool the finisher may come by, or a disk take back what it could not make durable."""
    is_back = way == "back"
    record = await rooms.library.get(await rooms.add(is_stored=is_back), OWNER)
    spooled = rooms.spool.folder / record.request_id / "0.png"
    find = rooms.spool.find

    def moves(request_id: str, file: str) -> Path | None:
        found = find(request_id, file)
        if is_back:
            rooms.storage.files.pop(record.ref, None)
            spooled.parent.mkdir(exist_ok=True)
            spooled.write_bytes(PICTURE)
        else:
            rooms.storage.files[record.ref] = PICTURE
            spooled.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(rooms.spool, "find", moves)
    assert b"".join(await rooms.read(record)) == PICTURE


async def test_nobody_waits_for_a_storage_that_is_away(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the spool still has is served without a question."""
    record = await rooms.library.get(await rooms.add(is_stored=False), OWNER)

    async def is_away(ref: str) -> int:
        raise StorageUnavailable(ref)

    monkeypatch.setattr(rooms.storage, "size", is_away)
    assert b"".join(await rooms.read(record)) == PICTURE


@pytest.mark.parametrize("at", [0, PIECE_BYTES, len(PICTURE) - 1])
async def test_other_bytes_are_never_given_out_as_whole(rooms: Rooms, at: int) -> None:
    """Of the right size, one of them flipped: the reader is told before the last piece."""
    record = await rooms.library.get(await rooms.add(), OWNER)
    rooms.storage.files[record.ref] = PICTURE[:at] + bytes([PICTURE[at] ^ 1]) + PICTURE[at + 1 :]
    reading = rooms.library.read(await rooms.library.open(record), 0, len(PICTURE))
    for _ in range(len(PICTURE) // PIECE_BYTES):
        await anext(reading)
    with pytest.raises(StorageUnavailable, match="is damaged"):
        await anext(reading)


@pytest.mark.parametrize("data", [None, PICTURE[:-1], PICTURE + b"x", b""])
async def test_a_damaged_image_is_never_served(rooms: Rooms, data: bytes | None) -> None:
    """Missing, cut or grown: the reader is told, and sent to the admin."""
    record = await rooms.library.get(await rooms.add(), OWNER)
    if data is None:
        del rooms.storage.files[record.ref]
    else:
        rooms.storage.files[record.ref] = data
    with pytest.raises(StorageUnavailable, match="tell the admin"):
        await rooms.library.open(record)


async def test_an_image_that_is_opened_can_be_read_to_its_end(rooms: Rooms) -> None:
    """Also when storage takes it over meanwhile: the spool's file stays open."""
    record = await rooms.library.get(await rooms.add(is_stored=False), OWNER)
    opened = await rooms.library.open(record)
    reading = rooms.library.read(opened, 0, len(PICTURE))
    first = await anext(reading)
    assert opened.spooled is not None
    opened.spooled.parent.rename(rooms.root / "moved")
    assert first + b"".join([piece async for piece in reading]) == PICTURE


async def test_an_image_that_moves_before_it_is_read_is_read_from_storage(rooms: Rooms) -> None:
    """It was looked for in the spool, and is in storage by now."""
    record = await rooms.library.get(await rooms.add(is_stored=False), OWNER)
    opened = await rooms.library.open(record)
    assert opened.spooled is not None
    rooms.storage.files[record.ref] = opened.spooled.read_bytes()
    opened.spooled.unlink()
    assert b"".join([piece async for piece in rooms.library.read(opened, 3, 9)]) == PICTURE[3:9]


def test_the_rule_itself() -> None:
    """Owner and admins always; others unless it is private."""
    record = ImageRecord(
        id="i", request_id="r", position=0, owner_id=OWNER.id, owner_name="ann", ref="x", mime="image/png",
        size_bytes=1, width=1, height=1, sha256="", revised_prompt=None, visibility="private", link_epoch=0,
        created_us=0, deleted_us=None, kind="generation", model="m", prompt=None, params={}, cost_micros=None,
        siblings=1,
    )  # fmt: skip
    assert [may_see(record, viewer) for viewer in (OWNER, ADMIN, MEMBER, VIEWER)] == [
        True,
        True,
        False,
        False,
    ]
    assert may_see(replace(record, visibility="team"), VIEWER)
