"""Passwords of shares: scrypt, off the loop and one at a time, so that nobody can fill memory or cores with tries."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pixie_proxy.errors import RateLimitExceeded

LOG2_N, BLOCKS, LANES = 14, 8, 1
"""16 MiB and some 50 ms a password: OWASP's least is twice that, for passwords that are not limited to 10 tries."""

MOST_WAITING = 50
"""Passwords that wait for their turn: two or three seconds' worth."""

_SALT_BYTES = 16


class Passwords:
    """Makes and checks hashes: `scrypt$<log2 N>$<r>$<p>$<salt>$<hash>`, salt and hash in hex."""

    def __init__(self) -> None:
        """Have nobody waiting."""
        self._lock = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the turn that `check` wants; who counts tries looks at the count within it.

        Raises RateLimitExceeded where too many wait already.
        """
        if self._waiting >= MOST_WAITING:
            message = "Too many passwords are being checked right now. Try again in a moment."
            raise RateLimitExceeded(message, headers={"Retry-After": "3"})
        self._waiting += 1
        try:
            async with self._lock:
                yield
        finally:
            self._waiting -= 1

    async def make(self, password: str) -> str:
        """Hash a new password. Raises RateLimitExceeded."""
        async with self.turn():
            salt = secrets.token_bytes(_SALT_BYTES)
            made = await asyncio.to_thread(_scrypt, password, salt, LOG2_N, BLOCKS, LANES)
        return f"scrypt${LOG2_N}${BLOCKS}${LANES}${salt.hex()}${made.hex()}"

    async def check(self, password: str, stored: str) -> bool:
        """Compare in constant time; the caller has its `turn`."""
        _, log2_n, blocks, lanes, salt, known = stored.split("$")
        made = await asyncio.to_thread(
            _scrypt, password, bytes.fromhex(salt), int(log2_n), int(blocks), int(lanes)
        )
        return hmac.compare_digest(made, bytes.fromhex(known))


def _scrypt(password: str, salt: bytes, log2_n: int, blocks: int, lanes: int) -> bytes:
    n = 1 << log2_n
    return hashlib.scrypt(
        password.encode("utf-8", "surrogateescape"),
        salt=salt,
        n=n,
        r=blocks,
        p=lanes,
        maxmem=2 * 128 * n * blocks,
        dklen=32,
    )
