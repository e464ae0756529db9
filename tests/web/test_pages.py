"""The gallery's pages as HTML: what stands where, and that nothing in a prompt is more than text."""

from __future__ import annotations

import base64
import html
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from pixie_proxy.web import pages
from tests.support.pictures import png, svg
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import links, make, shown, sign_in
from tests.web.conftest import ProxyWith


async def test_a_first_visit_tells_what_to_do(proxy_with: ProxyWith) -> None:
    """Without an image there is the base URL and a first call to copy."""
    proxy = await proxy_with(server={"public_url": "https://images.example.org"})
    browser = await sign_in(proxy, Origin="https://images.example.org")
    _, _, page = await browser.get("/")
    assert "No images yet" in page
    assert "OPENAI_BASE_URL=https://images.example.org/v1" in page
    assert "curl https://images.example.org/v1/images/generations" in page


async def test_pages_walk_through_all(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older and older to the end and back again: every image once, in one order, with the filters kept."""
    monkeypatch.setattr(pages, "_PER_PAGE", 4)
    upstream.script(image_json(10))
    made = await make(proxy, n=10)
    await make(proxy, key=OTHER_KEY)
    browser = await sign_in(proxy)
    seen: list[list[str]] = []
    address = last = "/?owner=me"
    while address:
        _, _, page = await browser.get(address)
        seen.append(shown(page))
        last, address = address, links(page).get("next", "")
    assert [len(each) for each in seen] == [4, 4, 2]
    assert [image for each in seen for image in each] == made
    back = [seen[-1]]
    _, _, page = await browser.get(last)
    while address := links(page).get("prev", ""):
        assert "owner=me" in address
        _, _, page = await browser.get(address)
        back.append(shown(page))
    assert back == seen[::-1]
    assert "prev" not in links((await browser.get("/"))[2])


async def test_search_box(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a plain form: the question stays in it, in the address of every page, and beside the other filters."""
    monkeypatch.setattr(pages, "_PER_PAGE", 2)
    upstream.script(image_json(3))
    foxes = await make(proxy, "Füchse & <foxes>", n=3)
    await make(proxy, "a cat")
    browser = await sign_in(proxy)
    _, _, page = await browser.get("/?q=FOX*&owner=me")
    assert shown(page) == foxes[:2]
    assert 'name="q" value="FOX*"' in page
    older = links(page)["next"]
    assert "q=FOX%2A" in older
    assert "owner=me" in older
    _, _, page = await browser.get(older)
    assert shown(page) == foxes[2:]
    assert "q=FOX%2A" in links(page)["prev"]
    for question in ("dog", "*", "%22", "x" * 300, "%3Cscript%3E%22"):
        status, _, page = await browser.get(f"/?q={question}")
        assert (status, shown(page)) == (200, [])
        assert "No image fits" in page
        assert "<script>" not in page
    assert len(shown((await browser.get("/?q=+"))[2])) == 2


async def test_the_way_back_ends_at_the_newest(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made meanwhile shows on a full first page."""
    monkeypatch.setattr(pages, "_PER_PAGE", 4)
    upstream.script(image_json(6))
    made = await make(proxy, n=6)
    browser = await sign_in(proxy)
    _, _, page = await browser.get(f"/?before={made[2]}")
    assert shown(page) == made[:4]
    assert set(links(page)) == {"next"}


async def test_filters(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """By owner and by model; the choices are those that find something, and what was chosen stays so."""
    upstream.script(image_json(2))
    await make(proxy, model="gpt-image-1", n=2)
    await make(proxy, key=OTHER_KEY)
    (private,) = await make(proxy, key=ADMIN_KEY, model="gpt-image-1-mini")
    admin, browser = await sign_in(proxy, ADMIN_KEY), await sign_in(proxy)
    await admin.post(f"/images/{private}/visibility", visibility="private")
    found = {
        "/": 3,
        "/?owner=&model=": 3,
        "/?owner=me": 2,
        "/?owner=bob": 2,
        "/?owner=carol": 1,
        "/?owner=alice": 0,
        "/?owner=nobody": 0,
        "/?model=gpt-image-1": 2,
        "/?model=gpt-image-1&owner=carol": 0,
    }
    for address, expected in found.items():
        _, _, page = await browser.get(address)
        assert len(shown(page)) == expected
        assert ("No image fits" in page) == (expected == 0)
    _, _, page = await browser.get("/?owner=carol&model=gpt-image-2")
    assert _options(page) == ["", "me", "carol*", "", "gpt-image-1", "gpt-image-2*"]
    assert _options((await browser.get("/?owner=bob"))[2])[:2] == ["", "me*"]
    everything = _options((await admin.get("/"))[2])
    assert everything == ["", "me", "bob", "carol", "", "gpt-image-1", "gpt-image-1-mini", "gpt-image-2"]


def _options(page: str) -> list[str]:
    """Give the values of all choices, a star behind those that are chosen."""
    return [
        value + ("*" if selected else "")
        for value, selected in re.findall(r'<option value="([^"]*)"( selected)?>', page)
    ]


async def test_a_picture_keeps_its_place(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Width and height are those of the thumbnail, so that nothing moves while it loads."""
    browser = await sign_in(proxy)
    for picture, small, large in (
        (png(1536, 1024), (256, 171), (512, 341)),
        (png(100, 50), (100, 50), (100, 50)),
        (png(4, 3000), (1, 256), (1, 512)),
        (svg(), (256, 256), (512, 512)),
    ):
        upstream.script(image_json([picture]))
        (image_id,) = await make(proxy)
        _, _, page = await browser.get("/")
        tile = page[page.index(image_id) :]
        assert f'width="{small[0]}" height="{small[1]}"' in tile[:700]
        assert f"/v1/images/{image_id}/thumbnail?size=256" in tile
        _, _, page = await browser.get(f"/images/{image_id}")
        assert f'width="{large[0]}" height="{large[1]}"' in page


async def test_thumbnails_are_those_that_there_are(proxy_with: ProxyWith) -> None:
    """The next larger size than wished, or the largest."""
    for sizes, small, large in (([128], 128, 128), ([300, 1024, 64], 300, 1024), ([512, 256], 256, 512)):
        proxy = await proxy_with(gallery={"thumbnail_px": sizes})
        (image_id,) = await make(proxy)
        browser = await sign_in(proxy)
        source = f'src="/v1/images/{image_id}/thumbnail?size='
        assert f'{source}{small}"' in (await browser.get("/"))[2]
        assert f'{source}{large}"' in (await browser.get(f"/images/{image_id}"))[2]
        assert (await browser.get(f"/v1/images/{image_id}/thumbnail?size={small}"))[0] == 200


async def test_an_svg_is_shown_as_a_picture_only(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Through <img>, where no script of it runs; never as a part of the page."""
    upstream.default(image_json([svg()]))
    (image_id,) = await make(proxy)
    _, _, page = await (await sign_in(proxy)).get(f"/images/{image_id}")
    assert f'<img src="/v1/images/{image_id}/content"' in page
    assert "<svg" not in page


async def test_one_image_with_all_that_is_known(proxy: RunningProxy) -> None:
    """As the JSON has it."""
    (image_id,) = await make(
        proxy, "a fox\nin the snow", size="1024x1024", quality="high", background="opaque"
    )
    image = await proxy.get(f"/v1/images/{image_id}")
    _, _, page = await (await sign_in(proxy)).get(f"/images/{image_id}")
    for text in (
        "a fox\nin the snow",
        "gpt-image-2",
        "bob",
        image["sha256"],
        image["id"],
        image["url"],
        f"{image['width']} × {image['height']}",
        f"${image['cost_usd']:.4f}",
        "<code>quality</code> high",
        f'href="/v1/images/{image_id}/content" download',
    ):
        assert text in page


@pytest.mark.parametrize(
    ("key", "changes", "has_link"),
    [
        (MEMBER_KEY, True, True),
        (ADMIN_KEY, True, True),
        (OTHER_KEY, False, False),
        (VIEWER_KEY, False, False),
    ],
)
async def test_only_owner_and_admins_get_buttons(
    proxy: RunningProxy, key: str, *, changes: bool, has_link: bool
) -> None:
    """Others see the image, and their forms are refused."""
    (image_id,) = await make(proxy)
    browser = await sign_in(proxy, key)
    status, _, page = await browser.get(f"/images/{image_id}")
    assert status == 200
    assert ("/delete" in page) == ("/visibility" in page) == changes
    assert ("/i/img_" in page) == has_link
    status, _, _ = await browser.post(f"/images/{image_id}/visibility", visibility="private")
    assert status == (303 if changes else 403)
    status, _, _ = await browser.post(f"/images/{image_id}/delete")
    assert status == (303 if changes else 403)


async def test_hide_delete_and_undo(proxy: RunningProxy) -> None:
    """Each is felt by others at once; the undo is offered to whom it is for."""
    (image_id,) = await make(proxy)
    owner, other = await sign_in(proxy), await sign_in(proxy, OTHER_KEY)
    path = f"/images/{image_id}"
    status, headers, _ = await owner.post(f"{path}/visibility", visibility="private")
    assert (status, headers["Location"]) == (303, path)
    assert (await other.get(path))[0] == 404
    assert shown((await other.get("/"))[2]) == []
    await owner.post(f"{path}/visibility", visibility="team")
    assert (await other.get(path))[0] == 200
    status, headers, _ = await owner.post(f"{path}/delete")
    assert (status, headers["Location"]) == (303, f"/?trashed={image_id}")
    assert (await owner.get(path))[0] == 404
    assert f"{path}/restore" in (await owner.get(headers["Location"]))[2]
    assert "/restore" not in (await other.get(headers["Location"]))[2]
    status, headers, _ = await owner.post(f"{path}/restore")
    assert (status, headers["Location"]) == (303, path)
    assert (await other.get(path))[0] == 200
    assert "/restore" not in (await owner.get(f"/?trashed={image_id}"))[2]


@pytest.mark.parametrize("value", ["", "everyone", "PUBLIC", None])
async def test_a_visibility_that_is_none_is_refused(proxy: RunningProxy, value: str | None) -> None:
    """And changes nothing."""
    (image_id,) = await make(proxy)
    browser = await sign_in(proxy)
    fields = {} if value is None else {"visibility": value}
    assert (await browser.post(f"/images/{image_id}/visibility", **fields))[0] == 400
    assert (await proxy.get(f"/v1/images/{image_id}"))["visibility"] == "team"


async def test_public_is_offered_where_it_means_something(proxy_with: ProxyWith) -> None:
    """Without `gallery.allow_public` nobody could open such a page."""
    for allows in (False, True):
        proxy = await proxy_with(gallery={"allow_public": allows})
        (image_id,) = await make(proxy)
        _, _, page = await (await sign_in(proxy)).get(f"/images/{image_id}")
        assert ('<option value="public"' in page) == allows


MARKUP = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</title><script>alert(1)</script>",
    '" autofocus onfocus="alert(1)',
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "<!--<iframe srcdoc=&lt;script&gt;alert(1)&lt;/script&gt;>",
    "&lt;b&gt;&amp;",
    "</textarea></style></pre></code><base href=https://evil.example/>",
    "\u202eevil\u2028<b>\x01",
]


class _Seen(HTMLParser):
    """All tags and attributes of a page, and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, list[str]] = {}
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


HARMLESS_TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "link",
        "body",
        "a",
        "header",
        "div",
        "span",
        "strong",
        "form",
        "input",
    ),
    *(
        "button",
        "main",
        "h1",
        "h2",
        "p",
        "ul",
        "li",
        "img",
        "time",
        "label",
        "select",
        "option",
        "nav",
        "section",
    ),
    *("article", "figure", "dl", "dt", "dd", "code", "pre", "i", "br"),
}


@pytest.mark.parametrize("text", MARKUP)
async def test_markup_is_text(proxy_with: ProxyWith, upstream: ScriptedUpstream, text: str) -> None:
    """In prompts, revised prompts, parameters, models and names: no tag, no attribute and no template comes of it."""
    name = re.sub(r"[\x00-\x1f]", "", text)[:64]
    users = [{"name": name, "key": MEMBER_KEY}]
    proxy = await proxy_with(users=users)
    upstream.default(
        image_json(data=[{"b64_json": base64.b64encode(png()).decode(), "revised_prompt": f"revised {text}"}])
    )
    (image_id,) = await make(proxy, text, model=f"m{text}", extra_body={"style": text})
    browser = await sign_in(proxy)
    for path in ("/", f"/images/{image_id}", f"/?owner={html.escape('x')}", f"/login?next=/{text[:20]}"):
        status, _, page = await browser.get(path)
        if status == 303:
            continue
        seen = _Seen()
        seen.feed(page)
        assert seen.tags <= HARMLESS_TAGS
        assert not [each for each in seen.attributes if each.startswith("on") or each in {"style", "srcdoc"}]
        for address in [
            *seen.attributes["href"],
            *seen.attributes.get("src", []),
            *seen.attributes.get("action", []),
        ]:
            assert address.startswith("/") or "/i/img_" in address or address == "#main", address
        assert "{{" not in text or "{{ 7 * 7 }}" in seen.text or path.startswith(("/?", "/login"))
        if path == "/":
            assert " ".join(text.split()) in [*seen.attributes["alt"]]
            assert name in seen.text


async def test_a_chosen_filter_is_text_too(proxy: RunningProxy) -> None:
    """What stands in the address comes back escaped."""
    await make(proxy)
    browser = await sign_in(proxy)
    evil = '"><script>alert(1)</script>'
    for query in ({"owner": evil}, {"model": evil}):
        _, _, page = await browser.send("GET", "/", params=query)
        assert "<script" not in page
        assert html.escape(evil) in page or html.escape(evil).replace("&quot;", "&#34;") in page
    status, _, page = await browser.send("GET", "/", params={"after": evil})
    assert status == 400
    assert "<script" not in page


async def test_static_files_are_kept_by_their_name(proxy: RunningProxy) -> None:
    """A page names them with their hash, under which they never change; any other way asks again."""
    _, _, page = await proxy.request("GET", "/login", key=None)
    address = re.search(rb'href="(/static/pixie\.css\?v=[0-9a-f]+)"', page)
    assert address
    _, headers, body = await proxy.request("GET", address[1].decode(), key=None)
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    status, headers, again = await proxy.request("GET", "/static/pixie.css?v=old", key=None)
    assert (status, headers["Cache-Control"], again) == (200, "public, no-cache", body)
    status, _, again = await proxy.request(
        "GET", "/static/pixie.css", key=None, headers={"If-None-Match": headers["ETag"]}
    )
    assert (status, again) == (304, b"")
    for name in ("x", "%2e%2e/auth.py", "..%2fauth.py", "pixie.css%00", ".", ""):
        assert (await proxy.request("GET", f"/static/{name}", key=None))[0] == 404


async def test_pages_need_no_script(proxy: RunningProxy) -> None:
    """Not one, and no style but the file."""
    (image_id,) = await make(proxy)
    browser = await sign_in(proxy)
    pages_seen: list[Any] = [await browser.get(path) for path in ("/", f"/images/{image_id}", "/nothing")]
    for _, _, page in pages_seen:
        assert not re.search(r"<script|<style|style=|\son\w+=", page)
