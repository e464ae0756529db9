"""What both databases' searches have in common: what an image is found by, and what a question asks for.

Each list of images that somebody may see has a character of its own, and so has each such list of one owner: an entry
is found behind it, so that a search reads nothing of what its viewer may not see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol
from zlib import crc32

from pixie_proxy.index import Row, Tx
from pixie_proxy.index.rights import Right
from pixie_proxy.index.shelves import Shelf
from pixie_proxy.index.walking import Walk
from pixie_proxy.index.words import Phrase, words
from pixie_proxy.records import VISIBILITIES

_TRASH = len(VISIBILITIES)
_OWNERS = 2**15
"""So many numbers for owners: two that share one read past each other's images, and see none of them."""

_AT_ONCE = 1000
"""Images that are read at a time where all are entered."""

_BETWEEN, _MODEL, _KIND = "\ue010", "\ue011", "\ue012"
"""No letters, so in no question: what stands between two texts, and what filters are found by."""

_TEXTS = (
    "SELECT i.id, i.owner_id, i.visibility, i.deleted_us, i.revised_prompt, i.model, i.kind, r.prompt"
    " FROM images i JOIN requests r ON r.id = i.request_id"
)


class Search(Protocol):
    """The search of a database: a module of functions."""

    def add(self, tx: Tx, image_id: str) -> None:
        """Let an image be found, beginning now, that was just entered."""

    def fill(self, tx: Tx) -> None:
        """Let all images be found that were entered without."""

    def find(
        self,
        tx: Tx,
        asked: Sequence[Phrase],
        right: Right,
        walk: Walk,
        conditions: Sequence[str],
        shelves: Sequence[Shelf],
        values: Mapping[str, Any],
    ) -> list[str]:
        """Give the ids of the first images of a list that have all phrases, meet conditions and lie in all shelves.

        `values` are those of the walk and the conditions on images `i`; `owner_id`, `viewer`, `model` and `kind` narrow
        the search, too. Without a phrase there must be a model or a kind.
        """

    def shelf(self, asked: Sequence[Phrase]) -> Shelf:
        """Name the images that have all phrases, to look whether one that was found elsewhere is among them."""


def entry(tx: Tx, image_id: str) -> dict[str, Any] | None:
    """Give what an image is found by, as columns of `searchable`: in `words`, a space before each."""
    row = tx.one(_TEXTS + " WHERE i.id = :id", id=image_id)
    return None if row is None else _entry(row)


def entries(tx: Tx) -> Iterator[dict[str, Any]]:
    """Give the same of every image, by id, as far as they are looked up."""
    after = ""
    while rows := tx.all(
        _TEXTS + " WHERE i.id > :after ORDER BY i.id LIMIT :most", after=after, most=_AT_ONCE
    ):
        yield from map(_entry, rows)
        after = rows[-1]["id"]


def _entry(row: Row) -> dict[str, Any]:
    texts = [" ".join(words(text)) for text in (row["prompt"], row["revised_prompt"]) if text]
    said = f" {_BETWEEN} ".join(texts)
    return {
        "image_id": row["id"],
        "list": _TRASH if row["deleted_us"] is not None else VISIBILITIES.index(row["visibility"]),
        "owner": _owner(row["owner_id"]),
        "words": f" {_model(row['model'])} {_KIND}{row['kind']} {said}".rstrip(),
    }


def marks(values: Mapping[str, Any]) -> list[str]:
    """Give the words by which a model and a kind are found."""
    model, kind = values["model"], values["kind"]
    return [*([_model(model)] if model is not None else []), *([_KIND + kind] if kind is not None else [])]


def sign_of(right: Right, values: Mapping[str, Any]) -> str:
    """Give the character of a list, or of the list of one owner: see 0012_search.sql."""
    number = _TRASH if right.visibility is None else VISIBILITIES.index(right.visibility)
    owner_id = values["viewer"] if right.is_own else values["owner_id"]
    return chr(0xE000 + number) if owner_id is None else chr(0xF0000 + _owner(owner_id) * 4 + number)


def said_values(asked: Sequence[Phrase]) -> dict[str, str]:
    """Give each phrase, named, as it stands in `words` with a space behind them."""
    return {
        f"said{number}": f" {' '.join(phrase.words)}" + ("" if phrase.is_prefix else " ")
        for number, phrase in enumerate(asked)
    }


def _owner(owner_id: str) -> int:
    return crc32(owner_id.encode()) % _OWNERS


def _model(name: str) -> str:
    return f"{_MODEL}{crc32(name.encode()):x}"
