"""The number of changes to users and keys so far, by which every running server learns of them (see `directory`).

It is also what such changes take turns by: each raises it first, and then sees all that others have changed.
"""

from __future__ import annotations

from pixie_proxy.index import Tx, settings

_NAME = "accounts_version"


def version(tx: Tx) -> int:
    """Give the number of changes so far."""
    return int(settings.get(tx, _NAME) or 0)


def raise_version(tx: Tx) -> None:
    """Be alone with users and keys until the transaction ends, and tell every running server that they have changed."""
    settings.count_up(tx, _NAME)
