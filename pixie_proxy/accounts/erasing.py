"""Delete a user for good: at once for everybody who looks, and then row by row and file by file.

What stays is the anonymous ledger: when something was made, with which model, how large, how many, and what it cost.
A deletion that was begun goes on after a crash, for its mark comes with the first transaction.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from pixie_proxy.accounts import people
from pixie_proxy.accounts.acting import COMMAND_LINE, Actor, note
from pixie_proxy.accounts.version import raise_version
from pixie_proxy.errors import InvalidValue, PermissionDenied, ProxyError
from pixie_proxy.index import Index, Tx, accounts, belongings, erasure
from pixie_proxy.index.users import StoredUser
from pixie_proxy.records import accounts_of
from pixie_proxy.spool.partials import Partials

log = logging.getLogger(__name__)

EVERY_S = 300.0
"""How often we look whether another process has begun a deletion, and try again what could not be done."""
_PAGE = 200


class Deleted(NamedTuple):
    """A user who is gone, and how many images are going."""

    id: str
    images: int


def delete_user(tx: Tx, user: StoredUser, confirm: str, *, by: Actor = COMMAND_LINE) -> Deleted:
    """Begin to delete a user: from this transaction on nothing of it is shown. `Erasing` does the rest.

    Raises InvalidValue where it can't be deleted now, or `confirm` is not its name; PermissionDenied.
    """
    raise_version(tx)
    accounts.lock(tx, accounts_of(user.id, None))  # no call is admitted meanwhile
    user = people.find_user(tx, user.name)
    if user.id == by.user_id:
        message = "Another admin must do this: you would delete yourself."
        raise PermissionDenied(message)
    if confirm != user.name:
        message = f"'confirm' must be the user's name, '{user.name}': all of its images go for good."
        raise InvalidValue(message, param="confirm")
    if user.is_declared and not user.disabled:
        message = (
            f"'{user.name}' is declared in the settings: remove it there first; the next start disables it, "
            "and then it can be deleted"
        )
        raise InvalidValue(message, param="user")
    people.keep_an_admin(tx, user)
    if running := accounts.get(tx, user.id).in_flight:
        message = (
            f"'{user.name}' has calls under way ({running}): disable it first, and wait until they have ended"
        )
        raise InvalidValue(message, param="user")
    images = erasure.count_images(tx, user.id)
    erasure.begin(tx, user.id, f"deleted-{user.id[-8:]}", time.time_ns() // 1000)
    note(tx, by, "user.delete", user_id=user.id, details={"images": images})
    return Deleted(user.id, images)


class Erasing:
    """Takes out what is left of deleted users."""

    def __init__(self, index: Index, partials: Partials, followed: Callable[[], None]) -> None:
        """Erase in `index` and `partials`; `followed` is called when folders in storage have to follow."""
        self._index = index
        self._partials = partials
        self._followed = followed
        self._wake = asyncio.Event()

    def nudge(self) -> None:
        """Go on at once: a deletion was begun."""
        self._wake.set()

    async def run(self) -> None:
        """Finish what was begun, by a process that died too, for as long as we live."""
        while True:
            self._wake.clear()
            try:
                await self.finish()
            except ProxyError as exc:
                log.warning("a deleted user can't be erased now", extra={"reason": exc.message})
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), EVERY_S)

    async def finish(self) -> None:
        """Erase all that is left of deleted users, but for what waits for storage. Raises ProxyError.

        Last the database is written anew: only then is nothing of them in its files.
        """
        begun = await self._index.read(erasure.begun)
        if not begun:
            return
        for user_id in begun:
            await self._erase(user_id)
        await self._index.scrub()
        now_us = time.time_ns() // 1000
        await self._index.write(lambda tx: erasure.end(tx, begun, now_us))
        log.info("erased deleted users", extra={"users": len(begun)})

    async def _erase(self, user_id: str) -> None:
        """Erase the rows of a user. Every page may be done twice."""
        while await self._index.write(partial(belongings.drop, user_id=user_id, most=_PAGE)) == _PAGE:
            pass
        while await self._index.write(partial(erasure.erase_images, user_id=user_id, most=_PAGE)):
            self._followed()
        after = ""
        while page := await self._index.write(
            partial(erasure.erase_calls, user_id=user_id, after=after, most=_PAGE)
        ):
            await asyncio.to_thread(self._partials.forget, page)
            after = page[-1]
