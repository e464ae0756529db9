"""Shares: links to a page with one image for people without an account, which expire, end, and count their views.

The token is 192 random bits, shown once; the index knows its digest. A share is looked up at every request, so what
ends it ends it at once, everywhere. It depends on no key: whoever shared may rotate theirs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from pixie_proxy.errors import IndexUnavailable, InvalidValue, NotFound, PermissionDenied
from pixie_proxy.gallery.library import may_change
from pixie_proxy.gallery.passwords import Passwords
from pixie_proxy.index import Index, Tx, images
from pixie_proxy.index import shares as stored
from pixie_proxy.index.shares import Share
from pixie_proxy.records import ImageRecord, User, is_id, new_id
from pixie_proxy.tasks import TaskKeeper

MOST = 100
"""Shares of one image; a new one takes the place of the oldest that has ended."""

PASSWORD_CHARACTERS = (8, 128)
UNLOCKED_S = 3600
"""How long a password opens its link to a browser."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
_PROOF = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewShare:
    """A share that was just made, with what is never told again."""

    share: Share
    token: str = field(repr=False)


class Shares:
    """Makes, lists, ends and opens shares."""

    def __init__(self, index: Index, secret: bytes, tasks: TaskKeeper) -> None:
        """Keep shares in `index`; `secret` signs what an unlocked link is known by, `tasks` count views."""
        self._index = index
        self._secret = secret
        self._tasks = tasks
        self._views: Counter[str] = Counter()
        self._is_counting = False
        self.passwords = Passwords()

    async def make(
        self,
        record: ImageRecord,
        viewer: User,
        *,
        lifetime_s: int | None,
        password: str | None,
        shows_prompt: bool,
    ) -> NewShare:
        """Share an image. Raises PermissionDenied, InvalidValue, and NotFound if it is gone meanwhile."""
        if not may_change(record, viewer):
            message = "Only an image's owner and admins may share it."
            raise PermissionDenied(message)
        hashed = None if password is None else await self.passwords.make(_checked(password))
        token, now_us = secrets.token_urlsafe(24), _now_us()
        share = Share(
            id=new_id("shr"),
            image_id=record.id,
            password=hashed,
            shows_prompt=shows_prompt,
            expires_us=None if lifetime_s is None else now_us + lifetime_s * 1_000_000,
        )

        def work(tx: Tx) -> None:
            images.lock(tx, record.id)
            found = images.get(tx, record.id)
            if found is None or found.deleted_us is not None:
                message = "This image does not exist."
                raise NotFound(message)
            _make_room(stored.of_image(tx, record.id), tx, now_us)
            stored.insert(tx, share, _digest(token))

        await self._index.write(work)
        return NewShare(share=share, token=token)

    async def of_image(self, record: ImageRecord, viewer: User) -> list[Share]:
        """Give the shares of an image, newest first. Raises PermissionDenied."""
        if not (viewer.is_admin or record.owner_id == viewer.id):
            message = "Only an image's owner and admins may see its links."
            raise PermissionDenied(message)
        return await self._index.read(lambda tx: stored.of_image(tx, record.id))

    async def revoke(self, record: ImageRecord, viewer: User, share_id: str) -> Share:
        """End a share; twice is no fault. Raises PermissionDenied, and NotFound if the image has none such."""
        if not may_change(record, viewer):
            message = "Only an image's owner and admins may end its links."
            raise PermissionDenied(message)

        def work(tx: Tx) -> Share | None:
            known = {share.id: share for share in stored.of_image(tx, record.id)}
            if share_id in known:
                stored.revoke(tx, share_id, _now_us())
            return known.get(share_id)

        share = await self._index.write(work) if is_id(share_id, "shr") else None
        if share is None:
            message = "This share does not exist."
            raise NotFound(message)
        return share

    async def open(self, token: str) -> tuple[Share, ImageRecord]:
        """Find what a link leads to. Raises NotFound: unknown, expired, revoked and deleted are one."""

        def work(tx: Tx) -> tuple[Share, ImageRecord] | None:
            share = stored.by_digest(tx, _digest(token))
            record = None if share is None else images.get(tx, share.image_id)
            return None if share is None or record is None else (share, record)

        found = await self._index.read(work) if _TOKEN.fullmatch(token) else None
        if found is None or not found[0].is_live(_now_us()) or found[1].deleted_us is not None:
            raise dead_link()
        return found

    def proof(self, share: Share) -> str:
        """Sign that a browser gave the password of this share, and of no other, just now."""
        expires_s = _now_us() // 1_000_000 + UNLOCKED_S
        return f"{expires_s}.{self._sign(share, expires_s)}"

    def is_unlocked(self, share: Share, proof: str | None) -> bool:
        """Tell whether a share may be shown: it has no password, or the browser proves that it gave it."""
        if share.password is None:
            return True
        match = _PROOF.fullmatch(proof or "")
        if match is None or not _now_us() // 1_000_000 < int(match[1]):
            return False
        return hmac.compare_digest(match[2], self._sign(share, int(match[1])))

    def count_view(self, share: Share) -> None:
        """Count a look at a share. Many together are one write, and none waits for it."""
        self._views[share.id] += 1
        if not self._is_counting:
            self._is_counting = True
            self._tasks.spawn(self._count(), "views of shares")

    async def _count(self) -> None:
        try:
            while self._views:
                views, self._views = self._views, Counter()
                try:
                    await self._index.write(partial(stored.add_views, views=views))
                except IndexUnavailable:
                    self._views.update(views)  # the next look takes them along
                    return
        finally:
            self._is_counting = False

    def _sign(self, share: Share, expires_s: int) -> str:
        return hmac.digest(
            self._secret, f"unlocked/{share.id}/{share.password}/{expires_s}".encode(), "sha256"
        ).hex()


def dead_link() -> NotFound:
    """Make the answer of every link that opens nothing."""
    message = "This link does not exist."
    return NotFound(message)


def _checked(password: str) -> str:
    least, most = PASSWORD_CHARACTERS
    if not least <= len(password) <= most:
        message = f"'password' must have {least} to {most} characters."
        raise InvalidValue(message, param="password")
    return password


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _make_room(known: list[Share], tx: Tx, now_us: int) -> None:
    """Forget the oldest share that has ended where an image has as many as it may. Raises InvalidValue."""
    if len(known) < MOST:
        return
    ended = [share for share in known if not share.is_live(now_us)]
    if not ended:
        message = f"This image has {MOST} links that are live. Revoke one of them first."
        raise InvalidValue(message)
    stored.remove(tx, ended[-1].id)


def _now_us() -> int:
    return time.time_ns() // 1000
