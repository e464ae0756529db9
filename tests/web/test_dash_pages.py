"""The pages of figures as HTML: the API's own figures, for whom they are, and what to do where something is wrong."""

from __future__ import annotations

import errno
import html
import os
import re
from pathlib import Path

import pytest

from pixie_proxy.accounts import people
from pixie_proxy.web.html import money
from pixie_proxy.web.pages import admin as admin_page
from pixie_proxy.web.pages import usage as usage_page
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream, cut, error_json, image_json, refused_base_url
from tests.support.waiting import eventually
from tests.web.browsing import Browser, sign_in
from tests.web.calling import GENERATIONS, context_of, ended
from tests.web.conftest import ProxyWith

CAT = {"model": "gpt-image-2", "prompt": "a cat", "size": "1024x1024", "quality": "low"}


async def open_page(browser: Browser, path: str) -> str:
    status, _, body = await browser.get(path)
    assert status == 200, body
    return body


def text_of(page: str) -> str:
    """Give what a person reads."""
    main = page.partition("<main")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", main)).split())


def micros(usd: float) -> int:
    return round(usd * 1_000_000)


async def test_usage_shows_the_figures_of_the_api(proxy_with: ProxyWith, upstream: ScriptedUpstream) -> None:
    """Budget, sums and calls are those of /v1/credits/balance, /v1/usage and /v1/requests, to the micro."""
    proxy = await proxy_with(limits={"usd_per_day": 5, "usd_per_month": 20}, team={"usd_per_month": 100})
    upstream.script(image_json(2))
    await proxy.request("POST", GENERATIONS, json={**CAT, "n": 2})
    upstream.script(error_json(400, code="moderation_blocked", message="No <b>cats</b> here."))
    await proxy.request("POST", GENERATIONS, json=CAT)
    upstream.script(cut())
    await proxy.request("POST", GENERATIONS, json=CAT)
    await ended(proxy)
    page = await open_page(await sign_in(proxy), "/usage")
    read = text_of(page)
    total = (await proxy.get("/v1/usage"))["total"]
    assert total["cost_usd"] > 0
    assert money(micros(total["cost_usd"])) in read
    balance = await proxy.get("/v1/credits/balance")
    assert len(balance["budgets"]) == 3
    for budget in balance["budgets"]:
        assert f"{money(micros(budget['remaining_usd']))} left" in read
        assert f"of {money(micros(budget['limit_usd']))}" in read
    for call in (await proxy.get("/v1/requests"))["data"]:
        if call["error"]:
            assert " ".join(call["error"].split()) in html.unescape(page).replace("\n", " ")
        for image in call["images"]:
            assert f'href="/images/{image}"' in page
        if call["state"] == "unknown":
            assert f"≤ {money(micros(call['cost_usd']))}" in read
    assert "No &lt;b&gt;cats" in page
    failed = await open_page(await sign_in(proxy), "/usage?state=failed")
    assert failed.count('class="why"') == 1
    assert "style=" not in page


async def test_usage_of_others_is_for_admins(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A member sees itself alone, whatever the address says; an admin the team, or one person."""
    for key, prompt in ((MEMBER_KEY, "bobs cat"), (OTHER_KEY, "carols cat")):
        upstream.script(image_json(1))
        await proxy.request("POST", GENERATIONS, json={**CAT, "prompt": prompt}, key=key)
    await ended(proxy)
    bob, admin = await sign_in(proxy), await sign_in(proxy, ADMIN_KEY)
    for path in ("/usage", "/usage?owner=me", "/usage?owner=bob", "/usage?owner="):
        page = await open_page(bob, path)
        assert "bobs cat" in page, path
        assert "carol" not in page, path
    assert (await bob.get("/usage?owner=carol"))[0] == 404
    assert (await bob.get("/usage?owner=zoe"))[2] == (await bob.get("/usage?owner=carol"))[2]
    team = await open_page(admin, "/usage")
    assert "bobs cat" in team
    assert "carols cat" in team
    one = await open_page(admin, "/usage?owner=carol&period=7")
    assert "carols cat" in one
    assert "bobs cat" not in one
    (csv,) = set(re.findall(r'href="(/v1/usage\?by=model[^"]+)"', one))
    status, headers, _ = await admin.get(html.unescape(csv))
    assert (status, headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert (await admin.get("/usage?owner=nobody"))[0] == 404


async def test_calls_are_walked_through(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older and newer, each call once, with the period and the state kept."""
    monkeypatch.setattr(usage_page, "_CALLS_PER_PAGE", 2)
    for n in range(5):
        upstream.script(image_json(1))
        await proxy.request("POST", GENERATIONS, json={**CAT, "prompt": f"cat {n}"})
    await ended(proxy)
    browser = await sign_in(proxy)
    seen, address = [], "/usage?period=7&state=done"
    links: dict[str, str] = {}
    while address:
        page = await open_page(browser, address)
        seen.append(re.findall(r">(cat \d)<", page))
        links = dict(re.findall(r'rel="(prev|next)" href="([^"#]+)', page))
        last, address = address, "/usage" + html.unescape(links["next"]) if "next" in links else ""
        assert "period=7" in (address or last)
    assert seen == [["cat 4", "cat 3"], ["cat 2", "cat 1"], ["cat 0"]]
    back = "/usage" + html.unescape(links["prev"])
    assert re.findall(r">(cat \d)<", await open_page(browser, back)) == ["cat 2", "cat 1"]


async def test_days_that_cant_be_are_told(proxy: RunningProxy) -> None:
    """A page with the reason, not an empty chart."""
    browser = await sign_in(proxy)
    for query in ("period=x", "from=x", "from=2026-02-02&to=2026-01-01", "after=x"):
        status, headers, _ = await browser.get(f"/usage?{query}")
        assert status == 400, query
        assert headers["Content-Type"].startswith("text/html")
    assert "Nothing was spent" in text_of(await open_page(browser, "/usage?from=2019-01-01&to=2021-12-31"))


async def test_the_overview_is_green_and_then_says_what_to_do(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """All is well on a new proxy; a disk that fails turns it red, with a remedy, and back again."""
    admin = await sign_in(proxy, ADMIN_KEY)
    read = text_of(await open_page(admin, "/admin"))
    assert "All is well" in read
    assert "Nobody has called it in the last 24 hours." in read
    upstream.script(cut())
    await proxy.request("POST", GENERATIONS, json=CAT)
    read = text_of(await open_page(admin, "/admin"))
    assert "Something wants a look" in read
    assert "The last call did not get through" in read
    upstream.script(image_json(1))
    await proxy.request("POST", GENERATIONS, json=CAT)
    await ended(proxy)
    read = text_of(await open_page(admin, "/admin"))
    assert "Something wants a look" in read
    assert "It answers, but 1 call of the last 24 hours broke off." in read
    assert "pixie reconcile" in read
    context_of(proxy).spool.disk.suspect(OSError(errno.EIO, os.strerror(errno.EIO)))

    async def is_red() -> bool:
        read = text_of(await open_page(admin, "/admin"))
        return "Something is broken" in read and "Refused: The proxy's disk fails (EIO)." in read

    await eventually(is_red)

    async def is_mended() -> bool:
        return "Something is broken" not in text_of(await open_page(admin, "/admin"))

    await eventually(is_mended)


async def test_an_upstream_that_is_away_is_seen(tmp_path: Path) -> None:
    """Calls that did not get through, one after the other, are no accident."""
    async with run_proxy(tmp_path / "data", refused_base_url(), upstream={"max_retries": 0}) as proxy:
        for _ in range(3):
            await proxy.request("POST", GENERATIONS, json=CAT)
        read = text_of(await open_page(await sign_in(proxy, ADMIN_KEY), "/admin"))
        assert "Something is broken" in read
        assert "The last call did not get through" in read
        assert "upstream.api_key" in read


async def test_people_with_budgets_and_keys(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody by name, found by a part of it, page by page; on a person's page what the API says of it."""
    monkeypatch.setattr("pixie_proxy.web.pages.people._PER_PAGE", 3)

    def add(tx: object) -> None:
        people.add_user(tx, "e/../<i>eve</i>", "member", {"usd_per_month": 12.5})  # type: ignore[arg-type]

    await context_of(proxy).index.write(add)
    admin = await sign_in(proxy, ADMIN_KEY)
    first = await open_page(admin, "/admin/people")
    named = r'<a href="(/admin/people/usr_\w+)">([^<]+)</a>'
    assert [name for _, name in re.findall(named, first)] == ["alice", "bob", "carol"]
    (more,) = re.findall(r'href="(/admin/people\?[^"]+)"', first)
    second = await open_page(admin, html.unescape(more))
    assert "&lt;i&gt;eve" in second
    assert "<i>eve" not in second
    (address, _), *others = re.findall(named, await open_page(admin, "/admin/people?q=EVE"))
    assert others == []
    page = await open_page(admin, address)
    assert "of $12.50" in text_of(page)
    assert re.search(r'<input type="number"[^>]*value="12.5"', page)
    assert "declared in the settings" in await open_page(admin, "/admin/people/bob")
    assert (await admin.get("/admin/people/usr_" + "0" * 26))[0] == 404
    assert (await (await sign_in(proxy)).get(address))[0] == 403


async def test_acts_are_filtered_and_paged(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first, with what was changed and by whom; by person and by act, also of who is gone."""
    monkeypatch.setattr(admin_page, "_ACTS_PER_PAGE", 2)
    made = await proxy.session.post(
        f"{proxy.url}/v1/admin/users",
        json={"name": "eve"},
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
    )
    eve = (await made.json())["id"]
    for change in ({"role": "viewer"}, {"limits": {"usd_per_day": 3}}):
        await proxy.request("POST", f"/v1/admin/users/{eve}", json=change, key=ADMIN_KEY)
    admin = await sign_in(proxy, ADMIN_KEY)
    page = await open_page(admin, "/admin/acts")
    read = text_of(page)
    assert "role: member → viewer" in read
    assert "limits: – → usd_per_day 3" in read
    (older,) = re.findall(r'rel="next" href="([^"]+)"', page)
    assert (
        "Added a person"
        in (await open_page(admin, f"/admin/acts{html.unescape(older)}")).partition("<tbody>")[2]
    )
    only = await open_page(admin, "/admin/acts?action=user.add&user=eve")
    assert only.partition("<tbody>")[2].count("<tr>") == 1
    await proxy.request("DELETE", f"/v1/admin/users/{eve}?confirm=eve", key=ADMIN_KEY)
    gone = await open_page(admin, f"/admin/acts?user={eve}&action=user.delete")
    assert eve in gone
    assert ">eve<" not in gone
