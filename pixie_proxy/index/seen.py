"""What images are to the one who looks at them: beside their own rows, what differs from viewer to viewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pixie_proxy.index import Tx, favorites, lineage
from pixie_proxy.records import ImageRecord, User


class Seen(NamedTuple):
    """An image as somebody sees it. `parents` are those that they may see."""

    record: ImageRecord
    parents: list[str]
    is_favorite: bool


def look(tx: Tx, viewer: User, records: Sequence[ImageRecord]) -> list[Seen]:
    """Look at images that `viewer` may see, one page of a list at most."""
    parents = lineage.parents(tx, viewer, records)
    liked = favorites.among(tx, viewer.id, [record.id for record in records])
    return [Seen(record, parents.get(record.request_id, []), record.id in liked) for record in records]
