"""Whether storage and index belong together: the storage's id stands in its `.pixie` file, and the index knows it."""

from __future__ import annotations

from pixie_proxy.storage import SENTINEL


def claim_fault(known: str | None, found: str | None) -> tuple[str, str] | None:
    """Compare the id that the index knows with the one that was found; give the fault and its remedy.

    Both absent is none: a first start makes them.
    """
    if known == found:
        return None
    if found is None:
        return (
            f"storage: the index knows a storage, and this one has no {SENTINEL} file",
            "is it mounted? Mount the one that belongs to this index",
        )
    if known is None:
        return (
            "storage: it holds images, and the index is empty",
            "was the index lost? Restore a backup of it, or rebuild it: pixie reindex --apply",
        )
    return "storage: this is another storage than the one the index knows", "mount the right one"
