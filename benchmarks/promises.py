"""What we promise, statement by statement: the hand-written half of docs/guarantees.md, in guarantees.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

PATH = Path(__file__).with_name("guarantees.yaml")
_ID = re.compile(r"R\d{1,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One thing that holds. With an `id`, `make torture` measures it; `needs` is what the machine must permit then.

    What is `always` shown has nothing to count: it holds with every change.
    """

    says: str
    id: str | None = None
    tests: tuple[str, ...] = ()
    needs: str | None = None
    always: bool = False

    @property
    def is_measured(self) -> bool:
        """Whether `make torture` has figures for it."""
        return self.id is not None and not self.always


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A promise, what it is made of, and what is still missing."""

    title: str
    says: str
    statements: tuple[Statement, ...]
    missing: str | None = None


def load() -> list[Promise]:
    """Read them. Raises ValueError where an id is malformed or stands twice."""
    promises = []
    for said in yaml.safe_load(PATH.read_text(encoding="utf-8")):
        statements = [
            Statement(**{**each, "tests": tuple(each.get("tests", ()))}) for each in said["statements"]
        ]
        promises.append(Promise(**{**said, "statements": tuple(statements)}))
    ids = [each.id for promise in promises for each in promise.statements if each.id is not None]
    wrong = sorted({each for each in ids if not _ID.fullmatch(each) or ids.count(each) > 1})
    if wrong:
        message = f"guarantees.yaml: malformed or twice: {', '.join(wrong)}"
        raise ValueError(message)
    return promises


def measured(promises: list[Promise]) -> Iterator[Statement]:
    """Give the statements that `make torture` measures."""
    for promise in promises:
        for statement in promise.statements:
            if statement.is_measured:
                yield statement


def ids_by_test(promises: list[Promise]) -> dict[str, list[str]]:
    """Tell which statements a test (`file::name`) shows."""
    found: dict[str, list[str]] = {}
    for statement in [each for promise in promises for each in promise.statements if each.id is not None]:
        for test in statement.tests:
            found.setdefault(test, []).append(str(statement.id))
    return found
