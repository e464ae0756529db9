"""Shelves: images that belong together, which a list may be narrowed to: tables that hold few of all images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pixie_proxy.index import Tx

_MANY = 2000


class Shelf(NamedTuple):
    """Rows of `source` that meet a condition. `image_id` is their column of images' ids: a list is walked along it."""

    source: str
    condition: str
    values: Mapping[str, Any]
    image_id: str


def source_of(shelves: Sequence[Shelf]) -> tuple[str, list[str], str]:
    """Write from what a list of images `i` is read, under which conditions, and along which column.

    It is read along the first shelf: a CROSS JOIN is SQLite's word for a join whose order is not for it to choose, and
    it would choose to look for few images among all. The others are looked into for each image that is found.
    """
    if not shelves:
        return "images i", [], "i.id"
    (source, condition, _, image_id), *others = shelves
    conditions = [condition, *looks_into(others, image_id), f"i.id = {image_id}"]
    return f"{source} CROSS JOIN images i", conditions, image_id


def looks_into(shelves: Sequence[Shelf], image_id: str) -> list[str]:
    """Write the conditions that an image lies in each of them, whose id another query has in a column."""
    return [
        f"EXISTS (SELECT 1 FROM {each.source} WHERE {each.condition} AND {each.image_id} = {image_id})"
        for each in shelves
    ]


def shortest_first(tx: Tx, shelves: Sequence[Shelf]) -> tuple[list[Shelf], bool]:
    """Put shelves in order, and tell whether looking at every image of the first one takes no time to speak of."""
    sizes = sorted((_size(tx, shelf), place) for place, shelf in enumerate(shelves))
    return [shelves[place] for _, place in sizes], bool(sizes) and sizes[0][0] < _MANY


def _size(tx: Tx, shelf: Shelf) -> int:
    """Count the images of a shelf, up to `_MANY`."""
    row = tx.one(
        "SELECT count(*) AS images FROM"
        f" (SELECT 1 AS one FROM {shelf.source} WHERE {shelf.condition} LIMIT :many) counted",
        many=_MANY,
        **shelf.values,
    )
    return 0 if row is None else int(row["images"])


def values_of(shelves: Sequence[Shelf]) -> dict[str, Any]:
    """Give the parameters of their conditions."""
    return {name: value for shelf in shelves for name, value in shelf.values.items()}
