"""Waiting for something to become true, no longer than it takes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

EVERY_S = 0.01


async def eventually(check: Callable[[], object | Awaitable[object]], timeout_s: float = 15) -> None:
    """Return once `check` is true; fail with TimeoutError if it never is."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = check()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(EVERY_S)
