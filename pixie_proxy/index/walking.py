"""Walks along ids that sort by time: forwards, backwards and within half-open times, for every list alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pixie_proxy.records import IdKind, Page, id_floor

T = TypeVar("T")
Order = Literal["asc", "desc"]


def asked(conditions: Mapping[str, object]) -> list[str]:
    """Give those conditions for which there is a value: what is None, nobody asked for."""
    return [condition for condition, value in conditions.items() if value is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Which part of a list is asked for.

    `after` and `before` are ids: what follows and what precedes them in the asked order. With `before` alone the walk
    goes backwards from there, and the page still comes in the asked order. Times are half-open.
    """

    since_us: int | None = None
    until_us: int | None = None
    after: str | None = None
    before: str | None = None
    order: Order = "desc"
    limit: int = 20

    @property
    def _upper(self) -> str | None:
        return self.after if self.order == "desc" else self.before

    @property
    def _lower(self) -> str | None:
        return self.before if self.order == "desc" else self.after

    @property
    def _backwards(self) -> bool:
        return self.before is not None and self.after is None

    @property
    def direction(self) -> str:
        """Give the direction of the walk itself, as against that of the answer, for ORDER BY."""
        return " DESC" if (self.order == "desc") != self._backwards else " ASC"

    def filters(self, column: str) -> list[str]:
        """Write the bounds of the walk as conditions on the column of the ids, for `values`."""
        bounds = {"since": self.since_us, "until": self.until_us, "upper": self._upper, "lower": self._lower}
        comparisons = {"since": ">=", "until": "<", "upper": "<", "lower": ">"}
        return [
            f"{column} {comparisons[name]} :{name}" for name, bound in bounds.items() if bound is not None
        ]

    def along(self, column: str, conditions: Iterable[str] = ()) -> str:
        """Write the end of a query for a part of the list that meets conditions, along the column of the ids."""
        where = " AND ".join([*conditions, *self.filters(column)])
        return (f" WHERE {where}" if where else "") + f" ORDER BY {column}{self.direction} LIMIT :rows"

    def values(self, kind: IdKind) -> dict[str, Any]:
        """Give the parameters of `along` for ids of a kind. `rows` is one more than the page, to see if it ends."""
        return {
            "since": None if self.since_us is None else id_floor(kind, self.since_us),
            "until": None if self.until_us is None else id_floor(kind, self.until_us),
            "upper": self._upper,
            "lower": self._lower,
            "rows": self.limit + 1,
        }

    def over(self, items: Iterable[T], kind: IdKind, id_of: Callable[[T], str]) -> Page[T]:
        """Walk over items that are all in memory, in whatever order."""
        bounds = self.values(kind)
        since, until, upper, lower = (bounds[name] for name in ("since", "until", "upper", "lower"))
        found = [
            item
            for item in sorted(items, key=id_of, reverse=self.direction == " DESC")
            if (since is None or id_of(item) >= since)
            and (until is None or id_of(item) < until)
            and (upper is None or id_of(item) < upper)
            and (lower is None or id_of(item) > lower)
        ]
        return self.page(found[: bounds["rows"]])

    def page(self, found: list[T]) -> Page[T]:
        """Make the page of what was found, `rows` at most, in the direction of the walk."""
        items = found[: self.limit]
        return Page(items=items[::-1] if self._backwards else items, has_more=len(found) > self.limit)
