"""What the tests that go over all routes share."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest

from pixie_proxy.web.auth import Access
from pixie_proxy.web.routes import ROUTES
from tests.support.proxy import RunningProxy
from tests.web.calling import context_of

OPEN = {
    "GET /i/{name}",
    "GET /s/{token}",
    "POST /s/{token}",
    "GET /s/{token}/content",
    "GET /s/{token}/thumbnail",
    "GET /public",
    "GET /public/{id}",
    "GET /public/{id}/content",
    "GET /public/{id}/thumbnail",
    "GET /login",
    "POST /login",
    "GET /static/{name}",
    "GET /healthz",
    "GET /readyz",
}
"""All that may be used without a key. A route that is added here is open on purpose."""

ACCESSES = get_args(Access)
EVERY_ROUTE = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
_HOLES = {"{name}": "x", "{model}": "gpt-image-2", "{id}": "img_" + "0" * 26}


def path_of(path: str, image_id: str = _HOLES["{id}"]) -> str:
    """Fill the holes of a route's path with something well-formed."""
    filled = path.replace("{id}", image_id)
    for hole, value in _HOLES.items():
        filled = filled.replace(hole, value)
    return re.sub(r"\{\w+\}", "x", filled)


async def whole_index(
    proxy: RunningProxy, *, without: tuple[str, ...] = ()
) -> dict[str, list[tuple[Any, ...]]]:
    """Give every row of every table."""

    def work(tx: Any) -> dict[str, list[tuple[Any, ...]]]:
        tables = [
            row["name"]
            for row in tx.all(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL TABLE%'"
            )
        ]
        select = "SELECT * FROM "  # of our own tables
        return {
            table: sorted((tuple(row) for row in tx.all(select + table)), key=repr)
            for table in tables
            if table not in without
        }

    return await context_of(proxy).index.read(work)
