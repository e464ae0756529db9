"""Who calls: keys to users, from memory, never more than a second behind what any process changed.

The whole digest is the key of the look-up, so no two keys can be confused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace

from pixie_proxy.accounts.keys import digest
from pixie_proxy.accounts.version import version
from pixie_proxy.config import LimitSettings, TeamSettings
from pixie_proxy.errors import IndexUnavailable, InvalidApiKey
from pixie_proxy.index import Index, Tx, users
from pixie_proxy.index.users import Credential, StoredUser
from pixie_proxy.records import Limits, User

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
"""How often the accounts' version is looked at: a revoked key must be dead everywhere within two seconds."""

_NOTE_USE_EVERY_S = 30.0
_NEVER_US = 1 << 62
_NOBODY = (
    Credential(
        key_id="",
        digest="",
        expires_us=None,
        revoked_us=0,
        user=StoredUser(id="", name="", role="viewer", created_us=0, limits={}),
    ),
    User(id="", name="", role="viewer", disabled=True),
)
"""Whom a key belongs to that is nobody's."""


class Directory:
    """All credentials of the index, read at the start and again whenever their version has changed."""

    def __init__(self, index: Index, limits: LimitSettings, team: TeamSettings) -> None:
        """Give users without limits of their own those of `limits`; `team` is for all of them together."""
        self._index = index
        self._team = Limits(**team.model_dump())
        self._general = limits.model_dump()
        self._known: dict[str, tuple[Credential, User]] = {}
        self._by_key_id: dict[str, tuple[Credential, User]] = {}
        self._version = -1
        self._used_us: dict[str, int] = {}
        self._noted_at = time.monotonic()

    async def load(self) -> None:
        """Read the credentials anew."""
        self._version, credentials = await self._index.read(
            lambda tx: (version(tx), users.all_credentials(tx))
        )
        self._known = {found.digest: (found, self._user(found)) for found in credentials}
        self._by_key_id = {found[0].key_id: found for found in self._known.values()}

    async def watch(self) -> None:
        """Follow what any process changes, and note when keys were used; runs until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if await self._index.read(version) != self._version:
                    await self.load()
                if time.monotonic() - self._noted_at >= _NOTE_USE_EVERY_S:
                    await self._note_use()
            except IndexUnavailable as exc:
                # Who was known stays known: without the index no paid call is admitted anyway.
                log.warning("the users can't be read", extra={"reason": exc.message})

    def find(self, key: str) -> User:
        """Give the user of a key. Raises InvalidApiKey, in one way for every reason."""
        user = _live_user(self._known.get(digest(key), _NOBODY))
        if user is not None:
            if user.key_id is not None:
                self._used_us[user.key_id] = time.time_ns() // 1000
            return user
        raise InvalidApiKey(
            f"Incorrect API key provided: {_masked(key)}. Ask the admin of this proxy for a key."
        )

    def user_of_key(self, key_id: str) -> User | None:
        """Give the user of a key by the key's id, while both are good: what a session asks at every request."""
        return _live_user(self._by_key_id.get(key_id, _NOBODY))

    async def _note_use(self) -> None:
        """Write down when each key was last used: now and then, for it is a nicety and each write costs an fsync."""
        used, self._used_us, self._noted_at = self._used_us, {}, time.monotonic()
        if used:
            await self._index.write(lambda tx: _touch_keys(tx, used))

    def _user(self, credential: Credential) -> User:
        own = credential.user
        return User(
            id=own.id,
            name=own.name,
            role=own.role,
            disabled=own.disabled,
            key_id=credential.key_id,
            limits=replace(Limits(**self._general), **own.limits),
            key_limits=Limits(**credential.limits),
            key_models=credential.models,
            team_limits=self._team,
        )


def _live_user(found: tuple[Credential, User]) -> User | None:
    """Give the user of a credential that is neither revoked nor expired nor a disabled user's.

    Every look takes the same steps, an unknown key's as well: how long it took tells nobody that there was such a key.
    """
    credential, user = found
    expires_us = _NEVER_US if credential.expires_us is None else credential.expires_us
    faults = (credential.revoked_us is not None, time.time_ns() // 1000 >= expires_us, user.disabled)
    return None if any(faults) else user


def _touch_keys(tx: Tx, used_us: Mapping[str, int]) -> None:
    for key_id, at_us in used_us.items():
        users.touch_key(tx, key_id, at_us)


def _masked(key: str) -> str:
    """Show the first 3 and last 4 characters, the form that LiteLLM and people look for; a short key shows none."""
    printable = "".join(character if character.isprintable() else "?" for character in key)
    return f"{printable[:3]}***{printable[-4:]}" if len(printable) >= 16 else "***"
