"""The library: find, open and change images under the visibility rules. What one may not see does not exist."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from pixie_proxy.errors import NotFound, PermissionDenied, ProxyError
from pixie_proxy.gallery.retention import DAY_US
from pixie_proxy.gallery.sharing import LinkSigner, parse_link
from pixie_proxy.gallery.tagging import normal_all
from pixie_proxy.gallery.upkeep import Upkeep
from pixie_proxy.index import Index, Tx, favorites, images, states
from pixie_proxy.index import tags as tagged
from pixie_proxy.media import EXTENSIONS
from pixie_proxy.records import VISIBILITIES, ImageRecord, User, Visibility, is_id
from pixie_proxy.spool.kept import KeptFile, KeptFiles, KeptImage

LINK_S = 60
"""How long an address of the storage's own can be used to begin a download."""

_HARMLESS = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})

Act = Literal["delete", "restore", "visibility", "tag", "untag", "favorite", "unfavorite"]
"""What can be done to many images at once."""


class _Change(NamedTuple):
    """What to do to an image, for somebody; `work` may give a ProxyError in place of doing it.

    `finds_deleted`: it may lie in the trash, where its owner and admins alone see it.
    `is_anyones`: whoever sees it may do that.
    """

    work: Callable[[Tx, ImageRecord, User], object]
    finds_deleted: bool = False
    is_anyones: bool = False


_DELETING = _Change(
    lambda tx, record, _: images.delete(tx, record.id, time.time_ns() // 1000), finds_deleted=True
)
_LIKING = _Change(lambda tx, record, viewer: favorites.add(tx, viewer.id, record.id), is_anyones=True)
_NOT_LIKING = _Change(lambda tx, record, viewer: favorites.remove(tx, viewer.id, record.id), is_anyones=True)


class Library:
    """The team's images."""

    def __init__(
        self,
        index: Index,
        kept: KeptFiles,
        links: LinkSigner,
        upkeep: Upkeep,
        retention_days: int | None = None,
    ) -> None:
        """Look images up in the index, and read them wherever they lie."""
        self._index = index
        self._kept = kept
        self._links = links
        self._upkeep = upkeep
        self._retention_days = retention_days

    async def get(self, image_id: str, viewer: User) -> ImageRecord:
        """Find an image that `viewer` may see. Raises NotFound for any other, whether or not it exists."""
        record = await self._find(image_id)
        if record is None or record.deleted_us is not None or not may_see(record, viewer):
            raise _not_found("This image")
        return record

    async def get_by_link(self, name: str) -> ImageRecord:
        """Find the image of a link. Raises NotFound when the link is not (or no longer) good."""
        parsed = parse_link(name)
        record = await self._find(parsed[0]) if parsed else None
        if parsed is None or record is None or record.deleted_us is not None:
            raise _not_found("This link")
        is_valid = self._links.is_valid(record.id, parsed[1], record.link_epoch)
        if not is_valid or not name.endswith(f".{EXTENSIONS[record.mime]}"):
            raise _not_found("This link")
        return record

    async def get_public(self, image_id: str) -> ImageRecord:
        """Find an image that anyone may see. Raises NotFound for any other, whether or not it exists."""
        record = await self._find(image_id)
        if record is None or record.deleted_us is not None or record.visibility != "public":
            raise _not_found("This image")
        return record

    async def open(self, record: ImageRecord) -> KeptFile:
        """Find an image's bytes. Raises StorageUnavailable when they are missing, or not what they were."""
        image = KeptImage(record.ref, record.size_bytes, record.sha256, record.damage)
        return await self._kept.open(image)

    def read(self, file: KeptFile, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of `[start, stop)`. Raises StorageUnavailable where they are not the ones that were kept."""
        return self._kept.read(file, start, stop)

    async def link(self, record: ImageRecord, file: KeptFile) -> str | None:
        """Give a short-lived address of the storage's own for an image, where storage gives such and it is safe.

        Only for what no browser runs: our headers, which make everything else harmless, do not go out with it.
        """
        return await self._kept.link(file, LINK_S) if record.mime in _HARMLESS else None

    async def change(
        self,
        record: ImageRecord,
        viewer: User,
        *,
        visibility: Visibility | None = None,
        revokes_url: bool = False,
        tags: Sequence[str] | None = None,
    ) -> ImageRecord:
        """Change who may see an image and its tags, or end its links; narrowing does that too.

        Raises PermissionDenied, NotFound.
        """
        show = _showing(visibility, revokes_url=revokes_url)

        def work(tx: Tx, found: ImageRecord, viewer: User) -> None:
            show.work(tx, found, viewer)
            if tags is not None and tuple(tags) != found.tags:
                tagged.put(tx, found.id, tags)

        change = _Change(work)
        return await self._change(record, viewer, change)

    async def delete(self, record: ImageRecord, viewer: User) -> None:
        """Put an image into the trash, its links made worthless. Raises PermissionDenied, NotFound."""
        await self._change(record, viewer, _DELETING)

    async def restore(self, record: ImageRecord, viewer: User) -> ImageRecord:
        """Take an image out of the trash; its old links stay dead. Raises PermissionDenied, NotFound.

        Where old images are deleted, it has its days anew: it would be back in the trash in minutes.
        """
        return await self._change(record, viewer, self._restoring)

    async def like(self, record: ImageRecord, viewer: User, *, likes: bool) -> None:
        """Note whether `viewer` likes an image, for themselves alone. Raises NotFound."""
        change = _LIKING if likes else _NOT_LIKING
        changed = await self._index.write(lambda tx: _apply(tx, record.id, viewer, change))
        if isinstance(changed, ProxyError):
            raise changed

    async def change_all(
        self,
        image_ids: Sequence[str],
        viewer: User,
        act: Act,
        visibility: Visibility | None = None,
        tags: Sequence[str] = (),
    ) -> dict[str, ProxyError | None]:
        """Do the same to some images, in one transaction, by the rules for each; say what was in the way, by id.

        Their folders follow in their own time. Raises IndexUnavailable, and then nothing was done.
        """
        change = {
            "delete": _DELETING,
            "restore": self._restoring,
            "visibility": _showing(visibility),
            "tag": _tagging(lambda known: {*known, *tags}),
            "untag": _tagging(lambda known: {*known} - {*tags}),
            "favorite": _LIKING,
            "unfavorite": _NOT_LIKING,
        }[act]

        def commit(tx: Tx) -> dict[str, ProxyError | None]:
            done = {image_id: _apply(tx, image_id, viewer, change) for image_id in image_ids}
            return {name: what if isinstance(what, ProxyError) else None for name, what in done.items()}

        done = await self._index.write(commit)
        self._upkeep.nudge()
        return done

    async def find(self, image_id: str, viewer: User) -> ImageRecord:
        """Find an image that `viewer` may see, or that lies in the trash and is theirs to restore. Raises NotFound."""
        record = await self._find(image_id)
        if record is None or not may_see(record, viewer):
            raise _not_found("This image")
        if record.deleted_us is not None and not may_change(record, viewer):
            raise _not_found("This image")
        return record

    async def look_up(self, image_id: str) -> ImageRecord | None:
        """Give an image for the house's own work, if it is still there for anybody, if only in the trash."""
        return await self._find(image_id)

    async def _change(self, record: ImageRecord, viewer: User, change: _Change) -> ImageRecord:
        """Commit a change, then let the folder follow it. Raises PermissionDenied, and NotFound if it was purged."""
        changed = await self._index.write(lambda tx: _apply(tx, record.id, viewer, change))
        if isinstance(changed, ProxyError):
            raise changed
        await self._upkeep.follow(record.request_id)
        return changed

    @property
    def _restoring(self) -> _Change:
        days = self._retention_days
        expires_us = None if days is None else time.time_ns() // 1000 + days * DAY_US
        return _Change(lambda tx, record, _: images.restore(tx, record.id, expires_us), finds_deleted=True)

    def url(self, record: ImageRecord) -> str:
        """Give the link of an image, as it is good now."""
        return self._links.url(record.id, record.mime, record.link_epoch)

    async def _find(self, image_id: str) -> ImageRecord | None:
        if not is_id(image_id, "img"):
            return None
        return await self._index.read(lambda tx: images.get(tx, image_id))


def _apply(tx: Tx, image_id: str, viewer: User, change: _Change) -> ImageRecord | ProxyError:
    """Change an image, and note that its folder is to follow; or say why not."""
    images.lock(tx, image_id)
    before = images.get(tx, image_id) if is_id(image_id, "img") else None
    if before is None or not may_see(before, viewer):
        return _not_found("This image")
    if before.deleted_us is not None and not (change.finds_deleted and may_change(before, viewer)):
        return _not_found("This image")
    if not change.is_anyones and not may_change(before, viewer):
        return PermissionDenied("Only an image's owner and admins may change it.")
    fault = change.work(tx, before, viewer)
    if isinstance(fault, ProxyError):
        return fault
    after = images.get(tx, image_id)
    if after is not None and after != before:
        states.mark(tx, before.request_id)
    return after or before


def _showing(visibility: Visibility | None, *, revokes_url: bool = False) -> _Change:
    """Change who may see an image, or end its links; narrowing does both."""

    def work(tx: Tx, record: ImageRecord, _: User) -> None:
        wanted = visibility or record.visibility
        narrows = VISIBILITIES.index(wanted) < VISIBILITIES.index(record.visibility)
        if wanted != record.visibility:
            images.set_visibility(tx, record.id, wanted, raises_epoch=narrows or revokes_url)
        elif revokes_url:
            images.raise_link_epoch(tx, record.id)

    return _Change(work)


def _tagging(new: Callable[[Iterable[str]], Iterable[str]]) -> _Change:
    """Give an image other tags, which are made of those that it has."""

    def work(tx: Tx, record: ImageRecord, _: User) -> ProxyError | None:
        try:
            tags = normal_all(new(record.tags))
        except ProxyError as exc:
            return exc
        if tags != record.tags:
            tagged.put(tx, record.id, tags)
        return None

    return _Change(work)


def may_see(record: ImageRecord, viewer: User) -> bool:
    """Apply the visibility rule: private for owner and admins, team and public for everyone who is signed in."""
    return viewer.is_admin or record.owner_id == viewer.id or record.visibility != "private"


def may_change(record: ImageRecord, viewer: User) -> bool:
    """Apply the rule for changes: an image is its owner's and the admins'; viewers only look."""
    return viewer.is_admin or (record.owner_id == viewer.id and viewer.role != "viewer")


def _not_found(what: str) -> NotFound:
    message = f"{what} does not exist."
    return NotFound(message)
