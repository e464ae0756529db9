"""Words to search by: what a text is cut into, and what somebody's question asks for, whatever the database.

Case and accents count for nothing. A word is letters, digits and their marks; a character of a script that writes no
spaces is a word by itself, so that any part of such a text is found as a phrase; so is a symbol, such as an emoji.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

MAX_LETTERS = 64
"""Of a longer word only so many count."""

_ACCENTS = re.compile("[\u0300-\u036f]")
_UNSPACED = re.compile(  # Thai, Lao, Burmese, Khmer; kana and Han
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_PIECES = re.compile(r'"([^"]*)"?(\*?)|([^\s"]+)')


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that stand side by side; of the last one only the beginning, where it `is_prefix`."""

    words: tuple[str, ...]
    is_prefix: bool = False


def words(text: str) -> list[str]:
    """Cut a text into words, in their order."""
    if not text.isascii():
        text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
        text = unicodedata.normalize("NFKC", text.casefold())
    return [word[:MAX_LETTERS] for word in "".join(map(_as_part, text.lower())).split()]


def phrases(question: str) -> list[Phrase]:
    """Read what is asked for: all of these. Whole words; `fox*` a beginning; `"red fox"`, `red-fox` side by side.

    Nothing else means anything, and there is no question that can't be read; one without a word gives nothing.
    """
    found = []
    for quoted, star, plain in _PIECES.findall(question):
        asked = words(quoted or plain)
        is_prefix = bool(star) or plain.endswith("*")
        if asked:
            found.append(Phrase(tuple(asked), is_prefix and not _stands_alone(asked[-1])))
    return list(dict.fromkeys(found))


@lru_cache(maxsize=8192)
def _as_part(character: str) -> str:
    if _stands_alone(character):
        return f" {character} "
    return character if unicodedata.category(character)[0] in "LMN" else " "


def _stands_alone(word: str) -> bool:
    return len(word) == 1 and (_UNSPACED.match(word) is not None or unicodedata.category(word) == "So")
