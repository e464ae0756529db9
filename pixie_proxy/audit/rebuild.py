"""Rebuild the index from storage: rows that it lacks come from request.json and state.json.

Only adds. A row that is there stays as it is, for it may be newer; a call that is under way is left to its process, and
what was purged stays gone. Who may see an image is not guessed: where its state.json can't be read, it is private.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pixie_proxy.audit.contents import Contents, Folder, digest, folders, read_contents
from pixie_proxy.errors import ConfigError
from pixie_proxy.gallery.state import ImageState
from pixie_proxy.index import Index, Tx, accounts, audit, erasure, images, ledger, tags, users
from pixie_proxy.index import settings as stored
from pixie_proxy.index.audit import Kept
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import TEAM, CallRecord, StoredImage, id_time_us, period
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import SENTINEL, ObjectMissing, Storage, folder_ref, sentinel
from pixie_proxy.storage.claim import claim_fault

PAGE_ROWS = 200
"""Most rows that one transaction adds: a server beside us waits for no longer than that takes."""

_PAGE_FOLDERS = 64
_READERS = 16
_MAX_NAME = 64

Progress = Callable[[int, int], None]
"""Told of images that are done, and of their bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A folder that rows can be made from. `damage` is what is wrong with an image's bytes, by image id."""

    contents: Contents
    manifest: Manifest
    images: tuple[StoredImage, ...]
    damage: dict[str, str]

    def state(self, image: StoredImage) -> ImageState:
        """Give what had changed about an image; links of before are worthless where that can't be known."""
        if self.contents.state_fault is not None:
            return ImageState(
                visibility="private", deleted_us=None, expires_us=None, link_epoch=int(time.time())
            )
        unchanged = ImageState(
            visibility=self.manifest.visibility, deleted_us=None, expires_us=None, link_epoch=0
        )
        state = self.contents.state
        return unchanged if state is None else state.images.get(image.id, unchanged)


@dataclass(slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild has read and added, or would add."""

    folders: int = 0
    images: int = 0
    added_requests: int = 0
    added_images: int = 0
    added_users: dict[str, str] = field(default_factory=dict)
    """Names of users that nobody knew, by id. They are disabled, and have no key."""
    missing: int = 0
    """Images whose files are not there."""
    damaged: int = 0
    private: int = 0
    """Images that are private because their state.json can't be read."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders that can't be understood, each with the reason."""

    def add(self, other: Rebuilt) -> None:
        """Add up."""
        self.added_requests += other.added_requests
        self.added_images += other.added_images
        self.added_users.update(other.added_users)
        self.damaged += other.damaged
        self.private += other.private


async def check_pair(index: Index, storage: Storage, *, may_be_new: bool = False) -> str:
    """See that index and storage belong together, and give the storage's id. Raises ConfigError.

    `may_be_new` is for an index that knows no storage yet, to be rebuilt from this one.
    """
    found = await sentinel(storage)
    known = await index.read(lambda tx: stored.get(tx, "storage_id"))
    return check_ids(found, known, may_be_new=may_be_new)


def check_ids(found: str | None, known: str | None, *, may_be_new: bool = False) -> str:
    """Compare the id that a storage has with the one that an index knows, as `check_pair` does."""
    if found is None:
        raise ConfigError(f"storage: it has no {SENTINEL} file: is it mounted? Nothing was changed")
    fault = None if known is None and may_be_new else claim_fault(known, found)
    if fault is not None:
        raise ConfigError(f"{fault[0]}: {fault[1]}. Nothing was changed")
    return found


async def rebuild(
    index: Index, storage: Storage, *, applies: bool, hashes: bool, progress: Progress
) -> Rebuilt:
    """Add what the index lacks, or only tell it; then the two belong together. Raises ConfigError, ProxyError."""
    storage_id = await check_pair(index, storage, may_be_new=True)
    total = Rebuilt()
    run = index.write if applies else index.read
    work = restore if applies else compare
    async for page in _pages(folders(storage)):
        found = await _read_page(storage, page, total, hashes=hashes)
        for batch in _batches(found):
            total.add(await run(partial(work, found=batch)))
            progress(
                sum(len(each.images) for each in batch),
                sum(image.size_bytes for each in batch for image in each.images),
            )
    if applies:  # last, so that no server starts on half of it
        await index.write(lambda tx: stored.put_if_absent(tx, "storage_id", storage_id))
    return total


async def find(storage: Storage, contents: Contents, *, hashes: bool) -> Found | None:
    """Say what rows a folder can bring; None if its manifest can't be read."""
    manifest = contents.manifest
    if manifest is None:
        return None
    there = tuple(
        image
        for image in manifest.images
        if image.file in contents.folder.files and image.id not in contents.purged
    )
    damage = {}
    for image in there:
        if contents.folder.files[image.file].size_bytes != image.size_bytes:
            damage[image.id] = "wrong_size"
        elif hashes and await _digest(storage, f"{contents.folder.ref}/{image.file}") != image.sha256:
            damage[image.id] = "rotten"
    return Found(contents=contents, manifest=manifest, images=there, damage=damage)


def compare(tx: Tx, found: Sequence[Found]) -> Rebuilt:
    """Tell what `restore` would add."""
    result = Rebuilt()
    for each in found:
        _count(result, tx, each, _lacking(tx, each, audit.kept(tx, each.manifest.call.id)))
    return result


def restore(tx: Tx, found: Sequence[Found]) -> Rebuilt:
    """Add the rows that the index lacks."""
    accounts.lock(tx, [TEAM])  # nobody else adds any meanwhile
    result = Rebuilt()
    for each in found:
        kept = audit.kept(tx, each.manifest.call.id)
        lacking = _lacking(tx, each, kept)
        _count(result, tx, each, lacking)
        if lacking:
            _add_owner(tx, each.manifest)
            if kept.row is None:
                _add_request(tx, each)
            _add_images(tx, each, lacking)
    return result


def placeholder_name(name: str, user_id: str) -> str:
    """Name a user whose own name is somebody else's by now."""
    suffix = f" ({user_id[-6:]})"
    return name[: _MAX_NAME - len(suffix)] + suffix


def _lacking(tx: Tx, found: Found, kept: Kept) -> tuple[StoredImage, ...]:
    """Give the images to add; none of a call under way, none whose purge is, and none of a user who was deleted."""
    if kept.is_open or (kept.pending is not None and kept.pending.is_doomed):
        return ()
    if erasure.is_deleted(tx, found.manifest.call.user_id):
        return ()
    known = {record.id for record in kept.images} | {*(kept.pending.purged if kept.pending else ())}
    return tuple(image for image in found.images if image.id not in known)


def _count(result: Rebuilt, tx: Tx, found: Found, lacking: Sequence[StoredImage]) -> None:
    if not lacking:
        return
    call = found.manifest.call
    result.added_requests += ledger.get(tx, call.id) is None
    result.added_images += len(lacking)
    result.damaged += sum(image.id in found.damage for image in lacking)
    result.private += len(lacking) if found.contents.state_fault is not None else 0
    if users.get_user(tx, call.user_id) is None:
        result.added_users[call.user_id] = _free_name(tx, found.manifest)


def _free_name(tx: Tx, manifest: Manifest) -> str:
    is_taken = users.get_user_by_name(tx, manifest.owner_name) is not None
    return placeholder_name(manifest.owner_name, manifest.call.user_id) if is_taken else manifest.owner_name


def _add_owner(tx: Tx, manifest: Manifest) -> None:
    """Make a user that nobody knows, who may do nothing until an admin says so."""
    user_id = manifest.call.user_id
    if users.get_user(tx, user_id) is None:
        owner = StoredUser(
            id=user_id,
            name=_free_name(tx, manifest),
            role="member",
            created_us=id_time_us(user_id),
            limits={},
            disabled=True,
        )
        users.add_user(tx, owner)


def _add_request(tx: Tx, found: Found) -> None:
    """Add a settled row, and charge it: a budget must not be fresh again because the index was lost."""
    call, end = _with_own_key(tx, found.manifest.call), found.manifest.settlement
    ledger.insert(tx, call, "sent")
    # An answer is given again with all of its images, or not at all.
    ledger.settle(tx, replace(end, skeleton=None) if found.contents.purged else end)
    accounts.lock(tx, call.accounts)
    booked = period(call.created_us)
    accounts.move(tx, call.accounts, booked, spent_micros=end.cost_micros, images=call.images_asked)


def _with_own_key(tx: Tx, call: CallRecord) -> CallRecord:
    """Let the newest call have an idempotency key that several used one after the other."""
    if call.idempotency_key is None:
        return call
    holder = ledger.find_by_idempotency_key(tx, call.user_id, call.kind, call.idempotency_key)
    if holder is None:
        return call
    if holder.call.created_us >= call.created_us:
        return replace(call, idempotency_key=None)
    ledger.free_idempotency_key(tx, call.user_id, call.kind, call.idempotency_key)
    return call


def _add_images(tx: Tx, found: Found, lacking: Sequence[StoredImage]) -> None:
    call = found.manifest.call
    images.insert(
        tx,
        lacking,
        request_id=call.id,
        owner_id=call.user_id,
        folder=folder_ref(call.id),
        kind=call.kind,
        model=call.model,
        visibility="private",
        created_us=found.manifest.settlement.settled_us,
        siblings=len(found.manifest.images),
    )
    for image in lacking:
        state = found.state(image)
        images.set_state(
            tx,
            image.id,
            visibility=state.visibility,
            deleted_us=state.deleted_us,
            expires_us=state.expires_us,
            link_epoch=state.link_epoch,
        )
        tags.put(tx, image.id, state.tags)
        if image.id in found.damage:
            audit.note_damage(tx, image.id, found.damage[image.id], time.time_ns() // 1000)


async def _read_page(storage: Storage, page: list[Folder], total: Rebuilt, *, hashes: bool) -> list[Found]:
    """Read folders, some at a time, in their order; those that can't be understood are told in `total`."""
    slots = asyncio.Semaphore(_READERS)

    async def read(folder: Folder) -> tuple[Contents, Found | None]:
        async with slots:
            contents = await read_contents(storage, folder)
            return contents, await find(storage, contents, hashes=hashes)

    found = []
    for contents, each in await asyncio.gather(*[read(folder) for folder in page]):
        total.folders += 1
        if each is None:
            total.unreadable.append((contents.folder.ref, contents.manifest_fault or ""))
            continue
        total.images += len(each.images)
        gone = {image.id for image in each.manifest.images} - contents.purged
        total.missing += len(gone - {image.id for image in each.images})
        found.append(each)
    return found


async def _digest(storage: Storage, ref: str) -> str:
    try:
        return await digest(storage, ref)
    except ObjectMissing:
        return ""


async def _pages(walk: AsyncIterator[Folder]) -> AsyncIterator[list[Folder]]:
    page: list[Folder] = []
    async for folder in walk:
        page.append(folder)
        if len(page) == _PAGE_FOLDERS:
            yield page
            page = []
    if page:
        yield page


def _batches(found: list[Found]) -> Iterator[list[Found]]:
    """Cut into batches of so many rows as one transaction may add: one a request, one an image."""
    batch: list[Found] = []
    rows = 0
    for each in found:
        more = 1 + len(each.images)
        if batch and rows + more > PAGE_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(each)
        rows += more
    if batch:
        yield batch
