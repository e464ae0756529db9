"""Sessions: a browser signs in with a key once, and shows a cookie from then on.

The cookie is 256 random bits; the index knows its digest. A session is looked up at every request, in the index and
behind it in the directory, so it ends everywhere with its key, its user, or its time.
"""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass

from pixie_proxy.accounts.directory import Directory
from pixie_proxy.accounts.keys import digest
from pixie_proxy.errors import InvalidApiKey
from pixie_proxy.index import Index, Tx, sessions
from pixie_proxy.index.sessions import StoredSession
from pixie_proxy.records import User

DAY_US = 86_400 * 1_000_000
LIFE_US = 30 * DAY_US
"""How long a session lasts at most."""

IDLE_US = 7 * DAY_US
"""How long a session lasts without being used."""

_NOTED_EVERY_US = 3600 * 1_000_000
"""How exactly a use is noted: a write for every picture of a page would be too many."""

_TOKEN_CHARACTERS = 43


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody who is signed in. `csrf` is the token that each change must carry."""

    user: User
    csrf: str


class Sessions:
    """Begins, finds and ends sessions."""

    def __init__(self, index: Index, directory: Directory) -> None:
        """Keep sessions in `index`; `directory` tells whether their keys are still good."""
        self._index = index
        self._directory = directory

    async def begin(self, user: User, previous: str | None) -> str:
        """Sign in the user of a key and return the cookie; the session that this browser had before ends.

        The cookie is always a new one: whoever planted the old one gains nothing (session fixation).
        """
        token = secrets.token_urlsafe(32)
        now_us = _now_us()
        if user.key_id is None:
            raise InvalidApiKey("A session begins with a key.")
        session = StoredSession(
            digest=digest(token), user_id=user.id, key_id=user.key_id, created_us=now_us, seen_us=now_us
        )

        def work(tx: Tx) -> None:
            sessions.delete_over(tx, created_before_us=now_us - LIFE_US, seen_before_us=now_us - IDLE_US)
            if previous is not None:
                sessions.delete(tx, digest(previous))
            sessions.add(tx, session)

        await self._index.write(work)
        return token

    async def find(self, token: str) -> Session | None:
        """Give the session of a cookie, or None when it is not (or no longer) good."""
        if len(token) != _TOKEN_CHARACTERS:
            return None
        known = digest(token)
        stored = await self._index.read(lambda tx: sessions.get(tx, known))
        now_us = _now_us()
        if stored is None or now_us >= stored.created_us + LIFE_US or now_us >= stored.seen_us + IDLE_US:
            return None
        user = self._directory.user_of_key(stored.key_id)
        if user is None or user.id != stored.user_id:
            return None
        if now_us >= stored.seen_us + _NOTED_EVERY_US:
            await self._index.write(lambda tx: sessions.touch(tx, known, now_us))
        return Session(user=user, csrf=csrf_token(token))

    async def end(self, token: str) -> None:
        """Sign out."""
        known = digest(token)
        await self._index.write(lambda tx: sessions.delete(tx, known))


def csrf_token(token: str) -> str:
    """Derive the token of a session's changes: whoever can't read the cookie can't make it, nor lead back from it."""
    derived = hmac.digest(token.encode("utf-8", "surrogateescape"), b"pixie csrf", "sha256")
    return urlsafe_b64encode(derived[:24]).decode()


def is_csrf_token(session: Session, given: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(session.csrf.encode(), given.encode("utf-8", "surrogateescape"))


def _now_us() -> int:
    return time.time_ns() // 1000
