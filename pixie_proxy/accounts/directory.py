"""Who calls: keys to users, from memory. The whole digest is the key of the look-up, so no two keys can be confused."""

from __future__ import annotations

import time
from dataclasses import replace

from pixie_proxy.accounts.keys import digest
from pixie_proxy.config import LimitSettings
from pixie_proxy.errors import InvalidApiKey
from pixie_proxy.index import Index, accounts
from pixie_proxy.index.accounts import Credential
from pixie_proxy.records import Limits, User


class Directory:
    """All credentials of the index, read at the start and again on `load`."""

    def __init__(self, index: Index, limits: LimitSettings) -> None:
        """Give users without limits of their own those of `limits`."""
        self._index = index
        self._general = limits.model_dump()
        self._known: dict[str, tuple[Credential, User]] = {}

    async def load(self) -> None:
        """Read the credentials anew."""
        credentials = await self._index.read(accounts.all_credentials)
        self._known = {found.digest: (found, self._user(found)) for found in credentials}

    def find(self, key: str) -> User:
        """Give the user of a key. Raises InvalidApiKey, in one way for every reason."""
        found = self._known.get(digest(key))
        if found is not None:
            credential, user = found
            now_us = time.time_ns() // 1000
            is_live = credential.revoked_us is None and (
                credential.expires_us is None or now_us < credential.expires_us
            )
            if is_live and not user.disabled:
                return user
        raise InvalidApiKey(
            f"Incorrect API key provided: {_masked(key)}. Ask the admin of this proxy for a key."
        )

    def _user(self, credential: Credential) -> User:
        own = credential.user
        return User(
            id=own.id,
            name=own.name,
            role=own.role,
            disabled=own.disabled,
            key_id=credential.key_id,
            limits=replace(Limits(**self._general), **own.limits),
        )


def _masked(key: str) -> str:
    """Show the first 3 and last 4 characters, the form that LiteLLM and people look for; a short key shows none."""
    printable = "".join(character if character.isprintable() else "?" for character in key)
    return f"{printable[:3]}***{printable[-4:]}" if len(printable) >= 16 else "***"
