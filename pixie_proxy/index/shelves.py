"""Shelves: images that belong together, which a list may be narrowed to: tables that hold few of all images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pixie_proxy.index import Tx

_MANY = 2000


class Shelf(NamedTuple):
    """Rows of `source` that name images `i` by `condition`: by their ids, so that no other index looks better.

    `key` is the column to walk along.
    """

    source: str
    condition: str
    values: Mapping[str, Any]
    key: str = "i.id"


def source_of(shelves: Sequence[Shelf]) -> tuple[str, list[str], str]:
    """Write from what a list is read, under which conditions, and along which column.

    It is read along the first shelf: a CROSS JOIN is SQLite's word for a join whose order is not for it to choose, and
    it would choose to look for few images among all. The others are looked into for each image that is found.
    """
    if not shelves:
        return "images i", [], "i.id"
    first, *others = shelves
    return f"{first.source} CROSS JOIN images i", [first.condition, *looks_into(others)], first.key


def looks_into(shelves: Sequence[Shelf]) -> list[str]:
    """Write the conditions that an image which was found elsewhere lies in each of them."""
    return [f"EXISTS (SELECT 1 FROM {each.source} WHERE {each.condition})" for each in shelves]


def are_few(tx: Tx, shelf: Shelf) -> bool:
    """Tell whether looking at every image of a shelf takes no time to speak of."""
    source, conditions, _ = source_of([shelf])
    row = tx.one(
        f"SELECT count(*) AS images FROM (SELECT 1 FROM {source} WHERE "
        + " AND ".join(conditions)
        + " LIMIT :many) each_image",
        many=_MANY,
        **shelf.values,
    )
    return row is not None and int(row["images"]) < _MANY


def values_of(shelves: Sequence[Shelf]) -> dict[str, Any]:
    """Give the parameters of `source_of`."""
    return {name: value for shelf in shelves for name, value in shelf.values.items()}
