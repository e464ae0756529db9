"""The public gallery: closed it does not exist, open it shows what owners made public, and not whose it is."""

from __future__ import annotations

import re

import pytest

from pixie_proxy.web import public
from tests.support.pictures import png
from tests.support.proxy import OTHER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import HTML, links, make, sign_in
from tests.web.conftest import ProxyWith

OPEN = {"allow_public": True, "visibility": "public"}
ROUTES = ("/public/{}", "/public/{}/content", "/public/{}/thumbnail")


async def get(proxy: RunningProxy, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """Open an address as anybody."""
    status, answered, body = await proxy.request("GET", path, key=None, headers={**HTML, **headers})
    kept = {
        name.lower(): value
        for name, value in answered.items()
        if name.lower() not in {"x-request-id", "date"}
    }
    return status, kept, body.decode("utf-8", "replace")


def shown(page: str) -> list[str]:
    return re.findall(r'<a href="/public/(img_[0-9a-v]{26})">', page)


async def test_a_closed_gallery_does_not_exist(proxy_with: ProxyWith) -> None:
    """Every address of it answers as one that is none, with a public image and without."""
    proxy = await proxy_with(gallery={"visibility": "public"})
    (image_id,) = await make(proxy)
    for accept in (HTML, {"Accept": "*/*"}):
        for path in ("/public", *[route.format(image_id) for route in ROUTES], "/public?after=x"):
            _, unknown_headers, unknown = await get(proxy, "/nothing", **accept)
            status, headers, page = await get(proxy, path, **accept)
            told = page.replace(path.partition("?")[0], "/nothing")
            assert (status, told) == (404, unknown)
            assert {**headers, "content-length": ""} == {**unknown_headers, "content-length": ""}
    _, _, page = await (await sign_in(proxy)).get(f"/images/{image_id}")
    assert "/public/" not in page


async def test_anyone_sees_what_is_public(proxy_with: ProxyWith, upstream: ScriptedUpstream) -> None:
    """With its prompt and model, without its owner; the rest of the gallery is not there."""
    proxy = await proxy_with(gallery={**OPEN})
    picture = png(900, 300)
    upstream.default(image_json([picture]))
    made = [(await make(proxy, f"a fox, number {n}"))[0] for n in range(3)]
    browser = await sign_in(proxy)
    await browser.post(f"/images/{made[0]}/visibility", visibility="team")
    await browser.post(f"/images/{made[1]}/delete")
    unknown = made[0][:-6] + "000000"
    status, headers, page = await get(proxy, "/public")
    assert (status, shown(page), headers["cache-control"]) == (200, made[2:], "private, no-store")
    assert "a fox, number 2" in page
    status, _, page = await get(proxy, f"/public/{made[2]}")
    assert status == 200
    assert "a fox, number 2" in page
    assert "gpt-image-2" in page
    assert "bob" not in page
    assert f'<meta property="og:image" content="{proxy.url}/public/{made[2]}/thumbnail?size=512">' in page
    status, headers, _ = await get(proxy, f"/public/{made[2]}/content")
    assert (status, headers["content-length"]) == (200, str(len(picture)))
    for path in (f"/public/{made[2]}/content", f"/public/{made[2]}/thumbnail?size=512"):
        _, headers, _ = await get(proxy, path)
        assert headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert headers["cache-control"] == "private, no-cache"
        assert (await get(proxy, path, **{"If-None-Match": headers["etag"]}))[0] == 304
    for route in ROUTES:
        nothing = await get(proxy, route.format(unknown))
        for hidden in (*made[:2], "x", "img_" + "Z" * 26):
            assert await get(proxy, route.format(hidden)) == nothing
        assert nothing[0] == 404
    _, _, page = await browser.get(f"/images/{made[2]}")
    assert f'href="/public/{made[2]}"' in page
    await browser.post(f"/images/{made[2]}/visibility", visibility="private")
    for route in ROUTES:
        assert (await get(proxy, route.format(made[2]), **{"If-None-Match": "*"}))[0] == 404


async def test_the_wall_is_walked_both_ways(proxy_with: ProxyWith, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image once, newest first, and back again; a broken cursor is told."""
    monkeypatch.setattr(public, "_PER_PAGE", 2)
    proxy = await proxy_with(gallery={**OPEN})
    made = [(await make(proxy, key=OTHER_KEY))[0] for _ in range(5)][::-1]
    page = (await get(proxy, "/public"))[2]
    pages = [shown(page)]
    assert set(links(page)) == {"next"}
    while "next" in links(page):
        page = (await get(proxy, links(page)["next"]))[2]
        pages.append(shown(page))
    assert pages == [made[:2], made[2:4], made[4:]]
    page = (await get(proxy, links(page)["prev"]))[2]
    assert (shown(page), set(links(page))) == (made[2:4], {"next", "prev"})
    page = (await get(proxy, links(page)["prev"]))[2]
    assert (shown(page), set(links(page))) == (made[:2], {"next"})
    assert (await get(proxy, "/public?after=x"))[0] == 400


async def test_an_empty_wall_says_so(proxy_with: ProxyWith) -> None:
    """To whoever came by the address."""
    proxy = await proxy_with(gallery={"allow_public": True})
    assert "Nothing here yet" in (await get(proxy, "/public"))[2]
