"""How often wrong keys and passwords may be tried: for each address, or each link, and by all together."""

from __future__ import annotations

import ipaddress

from pixie_proxy.admission.rate import take

PER_ADDRESS = 10
"""Wrong keys a minute from one address (IPv6: from one /64, which one person may own)."""

OVERALL = 300
"""Wrong keys a minute from everywhere."""

_MOST_ADDRESSES = 10_000


class Attempts:
    """Buckets of wrong keys, in memory. A right key takes nothing, so a whole office may sign in at nine."""

    def __init__(self) -> None:
        """Begin with full buckets."""
        self._tats_us: dict[str, int] = {}
        self._overall_tat_us = 0

    def wait_s(self, address: str, now_us: int) -> int:
        """Give how long to wait before the next try, in whole seconds; 0 is now. `address`: or a link's id."""
        waits_us = (
            take(self._tats_us.get(_network(address), 0), now_us, PER_ADDRESS, 1).wait_us,
            take(self._overall_tat_us, now_us, OVERALL, 1).wait_us,
        )
        return -(-max(waits_us) // 1_000_000)

    def note_failure(self, address: str, now_us: int) -> None:
        """Take one from both buckets."""
        if len(self._tats_us) >= _MOST_ADDRESSES:
            # Those that are full again say nothing; if none is, who floods us from so many is stopped by OVERALL.
            self._tats_us = {known: tat for known, tat in self._tats_us.items() if tat > now_us}
        known = _network(address)
        self._tats_us[known] = take(self._tats_us.get(known, 0), now_us, PER_ADDRESS, 1).tat_us
        self._overall_tat_us = take(self._overall_tat_us, now_us, OVERALL, 1).tat_us


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
