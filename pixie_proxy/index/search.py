"""Full-text search in SQLite (FTS5), in the list's own order: newest or oldest first, never by relevance.

PostgreSQL has a file of its own (`postgres.search`); `searching` says what both do. What is searched follows its images
by triggers (0012_search.sql). Nothing that a user wrote reaches MATCH as it is: words do, which have no operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pixie_proxy.index import Tx
from pixie_proxy.index.rights import Right
from pixie_proxy.index.searching import entries, entry, marks, said_values, sign_of
from pixie_proxy.index.shelves import Shelf, looks_into
from pixie_proxy.index.walking import Walk
from pixie_proxy.index.words import Phrase

_SHORT = 3
"""Prefixes up to so long have entries of their own; for a longer one, FTS5 reads all that any of its words has."""
_NEAREST = 300
"""So many images that have the short one are looked at first: a frequent word fills a page with them."""

_LARGEST_KEY = 2**63 - 1
_DRIFT = 4096
"""How much larger a key may be than its id says: images of one moment stand side by side."""

_HASH_SIZE = "INSERT INTO search (search, rank) VALUES ('hashsize', :bytes)"
_FILLING_BYTES, _USUAL_BYTES = 2**25, 2**20
"""What FTS5 gathers in memory before it writes: with more, it merges less."""

_MATCHING = " hit.search MATCH :match AND hit.rowid BETWEEN :floor AND :ceiling"


def add(tx: Tx, image_id: str) -> None:
    """Let an image be found, beginning now, that was just entered."""
    found = entry(tx, image_id)
    if found is not None:
        _enter(tx, found)


def fill(tx: Tx) -> None:
    """Let all images be found that came before there was a search."""
    tx.run(_HASH_SIZE, bytes=_FILLING_BYTES)
    for each in entries(tx):
        _enter(tx, each)
    tx.run(_HASH_SIZE, bytes=_USUAL_BYTES)


def _enter(tx: Tx, found: Mapping[str, Any]) -> None:
    tx.run(
        "INSERT INTO searchable (key, image_id, list, owner, words)"
        " VALUES (:key, :image_id, :list, :owner, :words)",
        key=_free_key(tx, found["image_id"]),
        **found,
    )


def scrub(tx: Tx, *, is_first: bool, pages: int = 500) -> bool:
    """Take words of removed images out of the file too, where they lie until FTS5 merges what it has.

    Each call is a transaction of its own and does so many pages; False when nothing is left to do.
    """
    before = _changes(tx)
    tx.run("INSERT INTO search (search, rank) VALUES ('merge', :pages)", pages=-pages if is_first else pages)
    return _changes(tx) - before > 1  # one is the command itself


def find(
    tx: Tx,
    asked: Sequence[Phrase],
    right: Right,
    walk: Walk,
    conditions: Sequence[str],
    shelves: Sequence[Shelf],
    values: Mapping[str, Any],
) -> list[str]:
    """Give the ids of the first images of a list, as `searching.Search` says."""
    sign = sign_of(right, values)
    filters = [f'"{sign}{mark}"' for mark in marks(values)]
    match = " AND ".join([*(_match(phrase, sign) for phrase in asked), *filters])
    conditions = [
        *conditions,
        *walk.filters("i.id"),
        *right.conditions,
        *looks_into(shelves, "said.image_id"),
    ]
    bounds = {"floor": _floor(values), "ceiling": _ceiling(values)}
    long = [phrase for phrase in asked if phrase.is_prefix and len(phrase.words[-1]) > _SHORT]
    if long:
        # A page of a frequent word is full long before FTS5 has read all entries of the words that begin so.
        short = " AND ".join([*(_match(phrase, sign, _SHORT) for phrase in asked), *filters])
        spelt, endings = _spelt(long)
        near, is_all = _nearest(tx, short, walk, bounds)
        found = _ids(tx, short, walk, [*conditions, *spelt], {**values, **endings, **near})
        if is_all or len(found) == values["rows"]:
            return found
    return _ids(tx, match, walk, conditions, {**values, **bounds})


def shelf(asked: Sequence[Phrase]) -> Shelf:
    """Name the images that have all phrases, to look whether one that was found elsewhere is among them."""
    spelt, values = _spelt(asked)
    return Shelf("searchable said", " AND ".join(spelt), values, "said.image_id")


def _spelt(asked: Sequence[Phrase]) -> tuple[list[str], dict[str, str]]:
    """Write the conditions that all phrases stand in the words of `said`, and their parameters."""
    values = said_values(asked)
    return [f"instr(said.words || ' ', :{name}) > 0" for name in values], values


def _ids(tx: Tx, match: str, walk: Walk, conditions: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    rows = tx.all(
        "SELECT i.id FROM search hit CROSS JOIN searchable said ON said.key = hit.rowid"
        " CROSS JOIN images i ON i.id = said.image_id WHERE"
        + " AND ".join([_MATCHING, *conditions])
        + _in_order(walk)
        + " LIMIT :rows",
        match=match,
        **values,
    )
    return [row["id"] for row in rows]


def _nearest(tx: Tx, match: str, walk: Walk, bounds: dict[str, int]) -> tuple[dict[str, int], bool]:
    """Narrow the bounds to the nearest so many that match; and tell whether these are all."""
    row = tx.one(
        "SELECT hit.rowid AS key FROM search hit WHERE"
        + _MATCHING
        + _in_order(walk)
        + " LIMIT 1 OFFSET :nearest",
        match=match,
        nearest=_NEAREST,
        **bounds,
    )
    if row is None:
        return bounds, True
    return bounds | {"floor" if walk.direction == " DESC" else "ceiling": row["key"]}, False


def _in_order(walk: Walk) -> str:
    return " ORDER BY hit.rowid" + walk.direction


def _match(phrase: Phrase, sign: str, longest_prefix: int | None = None) -> str:
    *first, last = phrase.words
    if phrase.is_prefix:
        last = last[:longest_prefix]
    return '"' + " ".join([sign + word for word in (*first, last)]) + '"' + (" *" if phrase.is_prefix else "")


def _key(image_id: str) -> int:
    """Give the first 63 bits of an id, which are its milliseconds and 11 bits of chance."""
    return int(image_id[4:17].ljust(13, "0"), 32) >> 2


def _floor(values: Mapping[str, Any]) -> int:
    return max([0, *[_key(values[name]) for name in ("since", "lower") if values[name] is not None]])


def _ceiling(values: Mapping[str, Any]) -> int:
    keys = [_key(values[name]) + _DRIFT for name in ("until", "upper") if values[name] is not None]
    return min([_LARGEST_KEY, *keys])


def _free_key(tx: Tx, image_id: str) -> int:
    """Find the key of a new image; those of the same moment whose ids are larger move on by one."""
    key = _key(image_id)
    before = tx.one(
        "SELECT max(key) AS key FROM searchable WHERE key BETWEEN :key AND :end AND image_id < :id",
        key=key,
        end=key + _DRIFT,
        id=image_id,
    )
    if before is not None and before["key"] is not None:
        key = before["key"] + 1
    _make_room(tx, key)
    return key


def _make_room(tx: Tx, key: int) -> None:
    end = key
    while tx.one("SELECT 1 FROM searchable WHERE key = :key", key=end) is not None:
        end += 1
    for taken in range(end - 1, key - 1, -1):
        tx.run("UPDATE searchable SET key = key + 1 WHERE key = :key", key=taken)


def _changes(tx: Tx) -> int:
    row = tx.one("SELECT total_changes() AS changes")
    return 0 if row is None else int(row["changes"])
