"""`response_format` is ours: base64, links, or both, whatever the upstream knows of it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.pictures import gif, png, svg
from tests.support.proxy import UPSTREAM_KEY, RunningProxy
from tests.support.upstream import (
    KEY_ORDER,
    ScriptedUpstream,
    body,
    head,
    image_json,
    image_json_bytes,
    image_sse,
    image_sse_events,
    refused_base_url,
)
from tests.web.calling import CAT, EDITS, GENERATIONS, AnySdk, kept, ledger_rows, listed, post_form
from tests.web.conftest import ProxyWith

PUBLIC_URL = "https://pixie.example.org/images"
OTHERS = {"model": "flux-dev", "prompt": "a cat"}


async def opened(proxy: RunningProxy, url: str, base: str | None = None) -> tuple[int, str, bytes]:
    """Follow a link of ours without any header."""
    base = base or proxy.url
    assert url.startswith(f"{base}/i/img_")
    status, headers, content = await proxy.request("GET", url.removeprefix(base), key=None)
    return status, headers["Content-Type"], content


ANSWERS = [
    image_json_bytes([png(size_bytes=5_000), png(seed=1)]),
    image_json_bytes([png(size_bytes=200_000)], indent=None, order=("data", "usage", "created")),
    image_json_bytes(3, indent=7, escape_slashes=True, order=KEY_ORDER[::-1], ünknown=[None, 1e-7]),
    image_json_bytes(2, usage=False) + b" \n\t\n",
    b'{"data":[{"url":null,"b64_json":"iVBORw0KGgo=","revised_prompt":null}],"created":1.0}',
]


@pytest.mark.parametrize("asked", [None, "b64_json", ""])
@pytest.mark.parametrize("answer", ANSWERS)
async def test_base64_is_the_upstreams_own_bytes(
    proxy: RunningProxy, upstream: ScriptedUpstream, asked: str | None, answer: bytes
) -> None:
    """Without links, not one byte of an answer changes: order, spaces, escapes and unknown keys included."""
    upstream.script(head(), body(answer, chunk=1013))
    status, headers, got = await proxy.request("POST", GENERATIONS, json={**CAT, "response_format": asked})
    assert (status, headers["Content-Type"], got) == (200, "application/json", answer)
    assert "response_format" not in upstream.requests[0].json()
    assert len(await kept(proxy)) == answer.count(b"b64_json")


async def test_a_url_is_asked_for(proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk) -> None:
    """The answer is small and has no base64; the links open without a key, and the rest is as it was."""
    pictures = [png(size_bytes=400_000), png(size_bytes=300_000, seed=1)]
    upstream.script(image_json(pictures))
    answer = await sdk.images("generate", **CAT, n=2, response_format="url")
    assert [image.b64_json for image in answer.data] == [None, None]
    assert [await opened(proxy, image.url) for image in answer.data] == [
        (200, "image/png", picture) for picture in pictures
    ]
    assert (answer.size, answer.quality, answer.usage.output_tokens) == ("1024x1024", "low", 392)
    assert "response_format" not in upstream.requests[0].json()
    by_id = {image["id"]: image["url"] for image in await listed(proxy)}
    assert set(by_id.values()) == {image.url for image in answer.data}


async def test_a_url_answer_is_as_small_as_it_looks(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """It has a length, and not a byte of base64."""
    upstream.script(image_json([png(size_bytes=3_000_000)]))
    _, headers, got = await proxy.request("POST", GENERATIONS, json={**CAT, "response_format": "url"})
    assert int(headers["Content-Length"]) == len(got) < 1000
    (item,) = json.loads(got)["data"]
    assert set(item) == {"url"}


@pytest.mark.parametrize("upstreams_url", [{}, {"url": None}, {"url": "https://elsewhere.example/a.png"}])
@pytest.mark.parametrize("size_bytes", [1_000, 500_000])
async def test_links_beside_the_base64(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, upstreams_url: dict[str, Any], size_bytes: int
) -> None:
    """With `gallery.add_url` each item has both; a `url` that the upstream wrote gives way to ours."""
    proxy = await proxy_with(gallery={"add_url": True})
    first = json.loads(image_json_bytes([png(size_bytes=size_bytes)]))["data"][0]
    second = {**upstreams_url, **first, "revised_prompt": "hm"}
    upstream.script(image_json(2, data=[{**first, **upstreams_url}, second]))
    status, _, got = await proxy.request("POST", GENERATIONS, json=CAT)
    items = json.loads(got)["data"]
    assert (status, got.count(b'"url"')) == (200, 2)
    assert [item.pop("b64_json") for item in items] == [first["b64_json"]] * 2
    for item in items:
        assert await opened(proxy, item.pop("url")) == (200, "image/png", png(size_bytes=size_bytes))
    assert items == [{}, {"revised_prompt": "hm"}]


@pytest.mark.parametrize(
    ("sections", "asked", "has_url"),
    [
        ({}, None, False),
        ({"gallery": {"add_url": True}}, None, True),
        ({"gallery": {"add_url": True}}, "b64_json", False),
        ({"server": {"public_url": PUBLIC_URL}}, None, True),
        ({"server": {"public_url": PUBLIC_URL}, "gallery": {"add_url": False}}, None, False),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_when_links_are_added(
    proxy_with: ProxyWith,
    upstream: ScriptedUpstream,
    sections: dict[str, Any],
    asked: str | None,
    has_url: bool,
    is_stream: bool,
) -> None:
    """`add_url` decides, else whether there is a public address; an explicit `b64_json` never gets one."""
    proxy = await proxy_with(**sections)
    upstream.script(image_sse() if is_stream else image_json())
    fields = {**CAT, "response_format": asked, "stream": is_stream}
    _, _, got = await proxy.request("POST", GENERATIONS, json=fields)
    untouched = image_sse_events()[0] if is_stream else image_json_bytes()
    assert (b'"url"' in got, got == untouched) == (has_url, not has_url)
    assert (PUBLIC_URL.encode() + b"/i/img_" in got) == (has_url and "server" in sections)


async def test_links_start_with_the_public_address(proxy_with: ProxyWith, upstream: ScriptedUpstream) -> None:
    """And never with what a request calls us."""
    proxy = await proxy_with(server={"public_url": PUBLIC_URL})
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    fields = {**CAT, "response_format": "url"}
    _, _, got = await proxy.request("POST", GENERATIONS, json=fields, headers=headers)
    assert (await opened(proxy, json.loads(got)["data"][0]["url"], PUBLIC_URL))[2] == png()
    _, _, got = await proxy.request("GET", "/v1/images", headers=headers)
    assert b"evil" not in got


async def test_links_in_a_stream(proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk) -> None:
    """`url` only adds a link to each final event: the base64 stays, and partial events are untouched."""
    upstream.script(image_sse(2, partials=1))
    events = await sdk.images("generate", **CAT, n=2, stream=True, response_format="url")
    first, _, second, _ = image_sse_events(2, partials=1)
    raws = [json.loads(event.partition(b"data: ")[2]) for event in (first, second)]
    assert [event.to_dict() for event in events[::2]] == raws
    assert all(event.b64_json for event in events)
    links = [event.model_extra["url"] for event in events[1::2]]
    assert [(await opened(proxy, link))[2] for link in links] == [png(seed=0), png(seed=1)]


@pytest.mark.parametrize("asked", [None, "b64_json", "url"])
@pytest.mark.parametrize(
    "model", ["gpt-image-2", "chatgpt-image-latest", "flux-dev", "drawn", "alias-of-gpt"]
)
async def test_what_the_upstream_is_asked_for(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, asked: str | None, model: str
) -> None:
    """gpt-image models refuse the field, so they never get it; others are always asked for base64."""
    proxy = await proxy_with(models={"aliases": {"drawn": "flux-dev", "alias-of-gpt": "gpt-image-2"}})
    expected = "b64_json" if model in {"flux-dev", "drawn"} else None
    fields = {"prompt": "a cat", "model": model, "response_format": asked}
    assert (await proxy.request("POST", GENERATIONS, json=fields))[0] == 200
    parts = [(name, (value or "null").encode()) for name, value in fields.items()]
    assert (await post_form(proxy, *parts, ("image", png(), "a.png")))[0] == 200
    as_json, as_form = upstream.requests
    assert as_json.json().get("response_format") == expected
    asked_by_form = [part.data for part in as_form.parts if part.name == "response_format"]
    assert asked_by_form == ([b"b64_json"] if expected else [])
    assert as_form.path == EDITS


@pytest.mark.parametrize(("picture", "mime"), [(gif(), "image/gif"), (svg(), "image/svg+xml")])
async def test_links_to_moving_and_drawn_images(
    proxy: RunningProxy, upstream: ScriptedUpstream, picture: bytes, mime: str
) -> None:
    """A link has its image's own ending and type, and carries the policy that makes it inert."""
    upstream.script(image_json([picture]))
    answer = await proxy.sdk().images.generate(**CAT, response_format="url")
    url = answer.data[0].url
    assert url.endswith(mime.removeprefix("image/").removesuffix("+xml"))
    status, headers, got = await proxy.request("GET", urlsplit(url).path, key=None)
    assert (status, headers["Content-Type"], got) == (200, mime, picture)
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


# --- Upstreams that answer with links themselves ----------------------------------------------------------------------


def linking(*urls: str, **fields: Any) -> list[Any]:
    return image_json(0, data=[{"url": url} for url in urls], **fields)


@pytest.mark.parametrize("asked", [None, "b64_json", "url"])
async def test_an_image_that_the_upstream_only_links_to_is_fetched_and_kept(
    proxy: RunningProxy, upstream: ScriptedUpstream, asked: str | None
) -> None:
    """From its own origin at once, without the operator's key; our link replaces the upstream's."""
    origin = upstream.base_url.removesuffix("/v1")
    upstream.script(linking(f"{origin}/files/1.png", f"{origin}/files/2.png"))
    for seed in (1, 2):
        upstream.script(head(200, [("Content-Type", "text/html")]), body(png(size_bytes=100_000, seed=seed)))
    status, _, got = await proxy.request("POST", GENERATIONS, json={**OTHERS, "response_format": asked})
    items = json.loads(got)["data"]
    assert (status, [set(item) for item in items]) == (200, [{"url"}, {"url"}])
    assert [(await opened(proxy, item["url"]))[2] for item in items] == await kept(proxy)
    assert await kept(proxy) == [png(size_bytes=100_000, seed=seed) for seed in (1, 2)]
    _, *fetches = upstream.requests
    assert [fetch.path for fetch in fetches] == ["/files/1.png", "/files/2.png"]
    assert not any(UPSTREAM_KEY in str(fetch.headers) or fetch.header("authorization") for fetch in fetches)
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.flags) == ("done", ("unpriced",))


async def test_a_link_into_a_private_network_is_not_followed(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Nobody is called there; the upstream's link passes, and the ledger says that nothing was kept."""
    async with ScriptedUpstream() as inside:
        other = inside.base_url.removesuffix("/v1")
        links = [f"{other}/secret.png", other.replace("127.0.0.1", "localhost") + "/secret.png"]
        links += [
            "http://[::1]:1/a.png",
            "file:///etc/passwd",
            "http://169.254.169.254/latest",
            "//",
            "nonsense",
        ]
        upstream.script(linking(*links))
        status, _, got = await proxy.request("POST", GENERATIONS, json=OTHERS)
        assert inside.requests == []
    assert (status, [item["url"] for item in json.loads(got)["data"]]) == (200, links)
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.flags) == ("done", ("unpriced", "not_kept"))
    assert await listed(proxy) == []


@pytest.mark.parametrize(
    "answer",
    [
        [head(404), body(b"{}")],
        [head(302, [("Location", "/files/2.png")]), body(b"")],
        [head(200, length=1000), body(png())],
        [head(200), body(b"")],
    ],
    ids=["missing", "moved", "cut", "empty"],
)
async def test_a_link_that_can_not_be_fetched_passes(
    proxy: RunningProxy, upstream: ScriptedUpstream, answer: list[Any]
) -> None:
    """The client still gets what it paid for; half an image is never kept; no redirect is followed."""
    link = upstream.base_url.removesuffix("/v1") + "/files/1.png"
    upstream.script(linking(link))
    upstream.script(*answer)
    status, _, got = await proxy.request("POST", GENERATIONS, json=OTHERS)
    assert (status, json.loads(got)["data"]) == (200, [{"url": link}])
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.flags) == ("done", ("unpriced", "not_kept"))
    assert await listed(proxy) == []
    assert len(upstream.requests) == 2


async def test_a_link_to_nowhere_passes(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """An address where nobody listens costs the client nothing but the copy."""
    link = refused_base_url() + "/1.png"
    upstream.script(linking(link))
    _, _, got = await proxy.request("POST", GENERATIONS, json=OTHERS)
    assert json.loads(got)["data"] == [{"url": link}]


async def test_an_answer_without_images_passes(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A 200 with an empty list (a blocked image, elsewhere) is the upstream's to give."""
    upstream.script(image_json(0, data=[], blocked=True))
    status, _, got = await proxy.request("POST", GENERATIONS, json=OTHERS)
    assert (status, json.loads(got)["data"], json.loads(got)["blocked"]) == (200, [], True)
    assert await listed(proxy) == []
