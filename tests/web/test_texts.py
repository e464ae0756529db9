"""What pages say stands in one place: every name that is used is there, and every text that is there is used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pixie_proxy import web
from pixie_proxy.web.texts import t, texts

_FOLDER = Path(web.__file__).parent
_NAMED = re.compile(r"""\bt\(\s*f?["'`]([a-z_0-9]+\.[a-z_.0-9]*)(["'`]\s*[,)}]|["'`]\s*~|\{|\$\{)""")
"""A name that stands whole in its call, or the beginning of one that is completed there."""


def used() -> tuple[set[str], set[str]]:
    """Give the names that stand whole in templates, modules and handlers, and the beginnings of others."""
    whole: set[str] = set()
    beginnings: set[str] = set()
    files = [path for suffix in ("html", "js", "py") for path in _FOLDER.rglob(f"*.{suffix}")]
    files.remove(_FOLDER / "texts" / "__init__.py")  # which tells how it is done
    for path in files:
        for name, rest in _NAMED.findall(path.read_text(encoding="utf-8")):
            (whole if rest[-1] in ",)}" and rest[0] in "\"'`" else beginnings).add(name)
    return whole, beginnings


def test_every_text_that_is_used_is_there_and_the_other_way_round() -> None:
    """Neither a page that breaks for want of a text, nor a text that nobody reads."""
    whole, beginnings = used()
    assert whole
    assert whole <= texts().keys()
    assert all(any(name.startswith(begin) for name in texts()) for begin in beginnings)
    spare = {name for name in texts() if name not in whole and not name.startswith(tuple(beginnings))}
    assert spare == set()


def test_holes_are_filled_and_numbers_choose() -> None:
    """One second, two seconds; a hole without its value is a fault of ours."""
    assert t("login.too_many", n=1) == "Too many wrong keys. Try again in 1 second."
    assert t("login.too_many", n=2) == "Too many wrong keys. Try again in 2 seconds."
    with pytest.raises(KeyError):
        t("site.failed")
    with pytest.raises(KeyError):
        t("site.nothing")
