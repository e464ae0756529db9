"""The cookie of a session that is over is no cookie, on every address (R77)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
import pytest

from pixie_proxy.index import Tx
from pixie_proxy.web.routes import ROUTES
from tests.support.figures import RecordFigure
from tests.support.proxy import ADMIN_KEY, RunningProxy
from tests.web.browsing import Browser, login, make, sign_in
from tests.web.calling import context_of, noted
from tests.web.routing import path_of, whole_index

DAY_US = 86_400_000_000

Death = Callable[[Browser, str], Awaitable[object]]


def _ask(method: str, path: str, **said: object) -> Death:
    """Have an admin do something to the key (KEY) or the user."""

    async def done(browser: Browser, key_id: str) -> None:
        status, _, body = await browser.proxy.request(
            method, path.replace("KEY", key_id), key=ADMIN_KEY, json=said
        )
        assert status == 200, body

    return done


def _aged(column: str, days: int) -> Death:
    def work(tx: Tx) -> None:
        tx.run(f"UPDATE sessions SET {column} = {column} - :ago", ago=days * DAY_US)  # noqa: S608 - our own columns

    return lambda browser, _: context_of(browser.proxy).index.write(work)


DEATHS: dict[str, Death] = {
    "signed out": lambda browser, _: browser.post("/logout"),
    "signed in again": lambda browser, _: login(browser.proxy, ADMIN_KEY, Cookie=browser.cookie),
    "30 days old": _aged("created_us", 30),
    "7 days unused": _aged("seen_us", 7),
    "key rotated": _ask("POST", "/v1/admin/keys/KEY/rotate"),
    "key revoked": _ask("DELETE", "/v1/admin/keys/KEY"),
    "user disabled": _ask("POST", "/v1/admin/users/eve", disabled=True),
    "user deleted": _ask("DELETE", "/v1/admin/users/eve?confirm=eve"),
}


@pytest.mark.parametrize("death", DEATHS)
async def test_a_dead_cookie_opens_nothing(
    proxy: RunningProxy, record_figure: RecordFigure, death: str
) -> None:
    """An admin's, with its token and our own Origin: each answer is that for nobody, and nothing changes."""
    (image,) = await make(proxy)
    told = {"name": "eve", "role": "admin"}
    _, _, body = await proxy.request("POST", "/v1/admin/users", key=ADMIN_KEY, json=told)
    key = orjson.loads(body)["first_key"]
    browser = await sign_in(proxy, key["key"])
    assert (await browser.get("/admin"))[0] == 200
    await DEATHS[death](browser, key["id"])
    await noted(proxy)
    before, wrong, tried = await whole_index(proxy), [], 0
    headers = {"Origin": proxy.url, "X-CSRF-Token": browser.csrf}
    for route in ROUTES:
        if route.access == "open":
            continue
        tried += 1
        path = path_of(route.path, image)
        status, answered, _ = await browser.send(route.method, path, headers=headers)
        to_login = status == 303 and answered["Location"].startswith("/login")
        if not (to_login if route.access.endswith("page") else status == 401):
            wrong.append(f"{route.method} {path}: {status}")
    record_figure("R77", deaths=1, addresses=tried, violations=len(wrong))
    assert wrong == []
    assert await whole_index(proxy) == before
