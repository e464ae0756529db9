"""Lists of values in a query: each gets a name of its own, for there is no parameter that holds several."""

from __future__ import annotations

from collections.abc import Iterable


def named(prefix: str, values: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Write `(:prefix0, :prefix1)` for an IN, and the parameters for it. No values are no list: don't ask then."""
    names = {f"{prefix}{n}": value for n, value in enumerate(values)}
    return "(" + ", ".join([f":{name}" for name in names]) + ")", names
