"""How often wrong keys and passwords may be tried: for each address, or each link, and by all together.

The buckets are in the index, so that more processes are not more tries. Who tries is there as a digest only.
"""

from __future__ import annotations

import hashlib
import ipaddress

from pixie_proxy.admission.rate import take
from pixie_proxy.index import Index, Tx
from pixie_proxy.index import attempts as buckets

PER_ADDRESS = 10
"""Wrong keys a minute from one address (IPv6: from one /64, which one person may own)."""

OVERALL = 300
"""Wrong keys a minute from everywhere. So many rows there are at most, and so many writes a minute."""


class Attempts:
    """Buckets of wrong keys. A right key takes nothing, so a whole office may sign in at nine."""

    def __init__(self, index: Index, kind: str, secret: bytes) -> None:
        """Keep in `index` what is tried of a `kind` of thing; `secret` makes digests that nobody else can make."""
        self._index = index
        self._kind = kind
        self._secret = secret

    async def wait_s(self, address: str, now_us: int) -> int:
        """Give how long to wait before the next try, in whole seconds; 0 is now. `address`: or a link's id."""
        limits = self._limits(address)
        return await self._index.read(lambda tx: _wait_s(tx, limits, now_us))

    async def note_failure(self, address: str, now_us: int) -> int:
        """Take one from both buckets. Where others were faster nothing is taken, and this says how long to wait."""
        limits = self._limits(address)

        def work(tx: Tx) -> int:
            for subject in limits:
                buckets.lock(tx, subject)
            wait_s = _wait_s(tx, limits, now_us)
            if not wait_s:
                buckets.sweep(tx, now_us)
                for subject, limit in limits.items():
                    buckets.save(tx, subject, take(buckets.tat_us(tx, subject), now_us, limit, 1).tat_us)
            return wait_s

        return await self._index.write(work)

    def _limits(self, address: str) -> dict[str, int]:
        """Give the buckets with their limits; the common one first, for that is the one that all lock first."""
        return {self._subject(): OVERALL, self._subject(_network(address)): PER_ADDRESS}

    def _subject(self, *names: str) -> str:
        text = "\n".join((self._kind, *names)).encode()
        return hashlib.blake2b(text, key=self._secret, digest_size=16).hexdigest()


def _wait_s(tx: Tx, limits: dict[str, int], now_us: int) -> int:
    waits_us = [
        take(buckets.tat_us(tx, subject), now_us, limit, 1).wait_us for subject, limit in limits.items()
    ]
    return -(-max(waits_us) // 1_000_000)


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
