"""Full-text search in PostgreSQL: a GIN index over our own words (`words`), so that both databases find the same.

The index tells which images have all words, and behind which list; that words stand side by side is looked up in the
few texts that are left. What is found is sorted by time; a word that very many have is looked for along the list.
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

_MANY = 5000
"""So many images are sorted sooner than looked for."""
_ENTER = (
    "INSERT INTO searchable (image_id, list, owner, words) VALUES (:image_id, :list, :owner, :words)"
    " ON CONFLICT DO NOTHING"
)


def add(tx: Tx, image_id: str) -> None:
    """Let an image be found, beginning now, that was just entered."""
    found = entry(tx, image_id)
    if found is not None:
        tx.run(_ENTER, **found)


def fill(tx: Tx) -> None:
    """Let all images be found that were entered without."""
    for each in entries(tx):
        tx.run(_ENTER, **each)


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
    spelt, said = _spelt(asked)
    match = " & ".join(
        [_quoted(sign_of(right, values)), *map(_quoted, marks(values)), *map(_beginning, asked)]
    )
    conditions = [*conditions, *right.conditions, *looks_into(shelves, "i.id")]
    few = "SELECT said.image_id FROM searchable said WHERE " + " AND ".join(
        ["said.entries @@ CAST(:match AS tsquery)", *spelt]
    )
    if _count(tx, few, match, said) < _MANY:
        # MATERIALIZED and OFFSET 0: what is done first is not for the planner to choose, as it is not for SQLite's.
        sql = f"WITH few AS MATERIALIZED ({few}) SELECT i.id FROM few CROSS JOIN images i"
        conditions.append("i.id = few.image_id")
    else:
        sql = f"SELECT i.id FROM images i CROSS JOIN LATERAL ({few} AND said.image_id = i.id OFFSET 0) each_said"
    rows = tx.all(sql + walk.along("i.id", conditions), match=match, **said, **values)
    return [row["id"] for row in rows]


def shelf(asked: Sequence[Phrase]) -> Shelf:
    """Name the images that have all phrases, to look whether one that was found elsewhere is among them."""
    spelt, values = _spelt(asked)
    return Shelf("searchable said", " AND ".join(spelt), values, "said.image_id")


def _count(tx: Tx, few: str, match: str, said: Mapping[str, str]) -> int:
    row = tx.one(f"SELECT count(*) AS n FROM ({few} LIMIT :many) counted", match=match, many=_MANY, **said)
    return 0 if row is None else int(row["n"])


def _spelt(asked: Sequence[Phrase]) -> tuple[list[str], dict[str, str]]:
    """Write the conditions that all phrases stand in the words of `said`, and their parameters."""
    values = said_values(asked)
    return [f"strpos(said.words || ' ', :{name}) > 0" for name in values], values


def _beginning(phrase: Phrase) -> str:
    *first, last = phrase.words
    return " & ".join([*map(_quoted, first), _quoted(last) + (":*" if phrase.is_prefix else "")])


def _quoted(word: str) -> str:
    """Write a word of a tsquery. Ours have neither quotes nor backslashes in them."""
    return f"'{word}'"
