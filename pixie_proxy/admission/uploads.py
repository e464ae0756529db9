"""How many bodies one user may be sending: no more than it may run calls, known before a body is read.

An upload costs disk and time before its call is admitted. This is each process's own count, for a body has one reader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from pixie_proxy.admission.gate import concurrency_refusal
from pixie_proxy.records import User


class UploadSlots:
    """Bodies on their way in, by user."""

    def __init__(self) -> None:
        """Count none yet."""
        self._reading: Counter[str] = Counter()

    @contextmanager
    def hold(self, user: User) -> Iterator[None]:
        """Hold a slot while a body is read. Raises ConcurrencyLimitExceeded before any of it is."""
        slots = user.limits.concurrent_requests
        if slots is not None and self._reading[user.id] >= slots:
            raise concurrency_refusal(self._reading[user.id], slots)
        self._reading[user.id] += 1
        try:
            yield
        finally:
            self._reading[user.id] -= 1
            if not self._reading[user.id]:
                del self._reading[user.id]
