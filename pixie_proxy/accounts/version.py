"""The number of changes to users and keys so far, by which every running server learns of them (see `directory`)."""

from __future__ import annotations

from pixie_proxy.index import Tx, settings

_NAME = "accounts_version"


def version(tx: Tx) -> int:
    """Give the number of changes so far."""
    return int(settings.get(tx, _NAME) or 0)


def raise_version(tx: Tx) -> None:
    """Tell every running server that credentials have changed."""
    settings.put(tx, _NAME, str(version(tx) + 1))
