"""What a tag is: a short word or two, written in one way, so that two people who mean the same find the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from pixie_proxy.errors import InvalidValue

MAX_TAGS = 20
MAX_CHARACTERS = 48


def normal(text: str, param: str = "tags") -> str:
    """Write a tag as it is kept: NFKC, lower case, single spaces, no `#` before it. Raises InvalidValue."""
    tag = " ".join(unicodedata.normalize("NFKC", text).lower().split()).lstrip("#").strip()
    if not 1 <= len(tag) <= MAX_CHARACTERS or not tag.isprintable() or "," in tag:
        message = f"A tag has 1 to {MAX_CHARACTERS} printable characters, and no comma."
        raise InvalidValue(message, param=param)
    return tag


def normal_all(texts: Iterable[str]) -> tuple[str, ...]:
    """Write the tags of an image: in order, each once. Raises InvalidValue where there are too many."""
    tags = tuple(sorted({normal(text) for text in texts}))
    if len(tags) > MAX_TAGS:
        message = f"An image has at most {MAX_TAGS} tags."
        raise InvalidValue(message, param="tags")
    return tags
