"""What pages say, in one place: `en.toml`, by subject and name. Another language is another file of the same names.

Templates write `t("wall.title")`, modules `t("wall.title")` from `texts.js`, which is made of the same file. Holes are
`{name}`. A text that depends on a number is a table with `one` and `other`, chosen by `n`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson

_FILE = Path(__file__).with_name("en.toml")

_MODULE = """\
// Made of the same file that templates read: see web/texts.
const texts = %s;

/** Give a text by its name, its holes filled; one that depends on a number is chosen by `n`. */
export function t(name, values = {}) {
  let text = texts[name];
  if (text === undefined) throw new Error(`no text ${name}`);
  if (typeof text !== "string") text = values.n === 1 ? text.one : text.other;
  return text.replace(/\\{(\\w+)\\}/g, (hole, key) => (key in values ? String(values[key]) : hole));
}
"""

Text = str | Mapping[str, str]


def t(name: str, **values: Any) -> str:
    """Give a text, its holes filled. Raises KeyError for a name that there is not, or a hole without a value."""
    text = texts()[name]
    if not isinstance(text, str):
        text = text["one" if values["n"] == 1 else "other"]
    return text.format_map(values)


@cache
def texts() -> dict[str, Text]:
    """Give all texts by `subject.name`."""
    found: dict[str, Text] = {}
    _flatten(tomllib.loads(_FILE.read_text(encoding="utf-8")), "", found)
    return found


def as_module() -> bytes:
    """Give all texts as the module that scripts import."""
    # `<` can't stand in it, though it is never part of a page: whoever inlines it some day is safe.
    return (_MODULE % orjson.dumps(texts()).decode().replace("<", "\\u003c")).encode()


def _flatten(table: Mapping[str, Any], prefix: str, found: dict[str, Text]) -> None:
    for name, value in table.items():
        if isinstance(value, str) or {"one", "other"} == value.keys():
            found[prefix + name] = value
        else:
            _flatten(value, f"{prefix}{name}.", found)
