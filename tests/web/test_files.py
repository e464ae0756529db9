"""The bytes of images: by key under /v1/images/{id}/content, by link under /i/."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pixie_proxy.index import images
from pixie_proxy.records import ImageRecord
from tests.support.pictures import png, svg
from tests.support.proxy import MEMBER_KEY, OTHER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import make
from tests.web.calling import CAT, context_of, error_of, http, listed, raw_call

PICTURE = png(size_bytes=3_000)


@pytest.fixture
async def image(proxy: RunningProxy, upstream: ScriptedUpstream) -> dict[str, Any]:
    """One kept image, as the list tells it."""
    upstream.script(image_json([PICTURE]))
    await proxy.sdk().images.generate(**CAT)
    (found,) = await listed(proxy)
    return found


def link_path(image: dict[str, Any]) -> str:
    """The path of an image's link."""
    return "/i/" + str(image["url"]).rpartition("/")[2]


@pytest.fixture(params=["content", "link"])
def get(request: pytest.FixtureRequest, proxy: RunningProxy, image: dict[str, Any]) -> Callable[..., Any]:
    """Get the image in either way, with headers."""
    is_link = request.param == "link"
    path, key = (link_path(image), None) if is_link else (image["content_url"], MEMBER_KEY)

    async def call(method: str = "GET", **headers: str) -> tuple[int, Mapping[str, str], bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await proxy.request(method, path, key=key, headers=sent)

    return call


async def test_bytes_come_with_all_that_a_cache_and_a_browser_need(
    get: Callable[..., Any], image: dict[str, Any]
) -> None:
    """Type, length, name, a strong ETag; inert in any browser, and never shared by a cache between users."""
    status, headers, body = await get()
    assert (status, body) == (200, PICTURE)
    expected = {
        "Content-Type": "image/png",
        "Content-Length": "3000",
        "ETag": f'"{image["sha256"]}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'inline; filename="{image["id"]}.png"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    assert {name: headers.get(name) for name in expected} == expected


async def test_a_download_is_named_by_its_prompt(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """An attachment: the prompt's first words where a browser reads them, the id where it does not."""
    for prompt, name in (
        ("A red fox, in the snow!", "a-red-fox-in-the-snow"),
        ("füchse/../../etc", "f%C3%BCchse-etc"),
        ('"; filename=x.exe\r\n', "filename-x-exe"),
        ("…", None),
        ("w" * 99, "w" * 60),
    ):
        upstream.script(image_json([PICTURE]))
        (image_id,) = await make(proxy, prompt)
        path = f"/v1/images/{image_id}/content"
        _, headers, body = await proxy.request("GET", f"{path}?download=true")
        wanted = f"attachment; filename=\"{image_id}.png\"; filename*=UTF-8''{name or image_id}.png"
        assert (headers["Content-Disposition"], body) == (wanted, PICTURE)
        assert (await proxy.request("GET", f"{path}?download=1"))[0] == 400


async def test_head_tells_all_but_the_bytes(get: Callable[..., Any]) -> None:
    """The same headers as GET."""
    _, whole, _ = await get()
    status, headers, body = await get("HEAD")
    assert (status, body) == (200, b"")
    assert steady(headers) == steady(whole)


def steady(headers: Mapping[str, str]) -> dict[str, str]:
    """Leave out what every answer has of its own."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name not in {"date", "x-request-id"}}


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ("{etag}", 304),
        ("W/{etag}", 304),
        ('"other", {etag}', 304),
        ("*", 304),
        ('"other"', 200),
        ("", 200),
    ],
)
async def test_what_is_known_is_not_sent_again(
    get: Callable[..., Any], image: dict[str, Any], tags: str, status: int
) -> None:
    """If-None-Match with the ETag, in each of its forms."""
    found, headers, body = await get(If_None_Match=tags.format(etag=f'"{image["sha256"]}"'))
    assert (found, body) == (status, PICTURE if status == 200 else b"")
    assert headers["ETag"] == f'"{image["sha256"]}"'


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, 3000),
        ("bytes=-5", 2995, 3000),
        ("bytes=-5000", 0, 3000),
        ("bytes=2999-", 2999, 3000),
        ("bytes=2990-9999", 2990, 3000),
        ("bytes=0-", 0, 3000),
    ],
)
async def test_ranges(get: Callable[..., Any], asked: str, start: int, stop: int) -> None:
    """First and last, open ends, the last so many bytes; what goes beyond the end stops there."""
    status, headers, body = await get(Range=asked)
    assert (status, headers["Content-Range"]) == (206, f"bytes {start}-{stop - 1}/3000")
    assert (headers["Content-Length"], body) == (str(stop - start), PICTURE[start:stop])


@pytest.mark.parametrize("asked", ["bytes=3000-", "bytes=9999-10000", "bytes=-0"])
async def test_a_range_outside_is_refused(get: Callable[..., Any], asked: str) -> None:
    """With the size, so that the client can ask again."""
    status, headers, body = await get(Range=asked)
    assert (status, headers["Content-Range"]) == (416, "bytes */3000")
    assert error_of(body)["code"] == "range_not_satisfiable"


@pytest.mark.parametrize("asked", ["bytes=9-0", "bytes=a-b", "items=0-9", "bytes=0-9,20-29", "bytes=", "0-9"])
async def test_a_range_that_is_none_gets_everything(get: Callable[..., Any], asked: str) -> None:
    """As the standard has it for units and forms that a server does not know."""
    status, headers, body = await get(Range=asked)
    assert (status, "Content-Range" in headers, body) == (200, False, PICTURE)


async def test_a_range_of_another_version_gets_everything(
    get: Callable[..., Any], image: dict[str, Any]
) -> None:
    """If-Range: the part only if what the client has is of this image."""
    assert (await get(Range="bytes=0-9", If_Range=f'"{image["sha256"]}"'))[0] == 206
    assert (await get(Range="bytes=0-9", If_Range='"other"'))[0] == 200


async def test_a_link_needs_no_key_and_content_does(proxy: RunningProxy, image: dict[str, Any]) -> None:
    """The signature is the right to see it, for whoever was given it."""
    assert (await proxy.request("GET", link_path(image), key=None))[0] == 200
    assert (await proxy.request("GET", link_path(image), key="px-wrong-" + "x" * 30))[0] == 200
    assert (await proxy.request("GET", image["content_url"], key=None))[0] == 401
    assert (await proxy.request("GET", image["content_url"], key=OTHER_KEY))[0] == 200


def flipped(text: str, at: int) -> str:
    """Change one character into another of the alphabet."""
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


async def test_a_link_that_was_tampered_with_leads_nowhere(
    proxy: RunningProxy, image: dict[str, Any]
) -> None:
    """Any character of id, signature or ending changed, left out or added: not found, and never an error of ours."""
    name = link_path(image).removeprefix("/i/")
    dash, dot = name.index("-"), name.index(".")
    bad = [flipped(name, at) for at in (4, dash - 1, dash + 1, dot - 2)]
    bad += [name.replace(".png", end) for end in (".jpg", ".html", ".svg", "", ".", ".PNG", ".png.png")]
    bad += [
        name[:dot],
        name[1:],
        name[: dash + 1] + ".png",
        name.upper(),
        name.replace("-", ""),
        name + "%00",
    ]
    bad += [name[:dash] + "-" + "0" * 26 + ".png", "..%2f..%2fetc%2fpasswd", "%ff", "a" * 3000]
    for each in bad:
        answer = await raw_call(proxy.url, http(f"/i/{each}", method="GET"))
        assert (answer.status, error_of(answer.body)["code"]) == (404, "not_found"), each


async def test_the_last_character_of_a_signature_counts(proxy: RunningProxy, image: dict[str, Any]) -> None:
    """26 characters hold 130 bits, of which 128 are signed: the two left over must not make a second link."""
    name = link_path(image).removeprefix("/i/")
    last = name.index(".") - 1
    for character in "0123456789abcdefghijklmnopqrstuv":
        status, _, _ = await proxy.request("GET", f"/i/{name[:last]}{character}{name[last + 1 :]}", key=None)
        assert (status == 200) == (character == name[last])


async def record_of(proxy: RunningProxy, image: dict[str, Any]) -> ImageRecord:
    record = await context_of(proxy).index.read(lambda tx: images.get(tx, image["id"]))
    assert record is not None
    return record


async def test_a_deleted_image_is_gone_under_every_address(
    proxy: RunningProxy, image: dict[str, Any]
) -> None:
    """Its link answers as one that never was."""
    at_us = time.time_ns() // 1000
    await context_of(proxy).index.write(lambda tx: images.delete(tx, image["id"], at_us))
    for path in (image["content_url"], f"/v1/images/{image['id']}", link_path(image)):
        status, _, body = await proxy.request("GET", path)
        assert (status, error_of(body)["code"]) == (404, "not_found")
    assert await listed(proxy) == []


async def test_a_link_of_before_is_worthless_once_its_epoch_is_over(
    proxy: RunningProxy, image: dict[str, Any]
) -> None:
    """The image stays, and has a new link."""
    await context_of(proxy).index.write(lambda tx: images.raise_link_epoch(tx, image["id"]))
    assert (await proxy.request("GET", link_path(image), key=None))[0] == 404
    (again,) = await listed(proxy)
    assert again["url"] != image["url"]
    assert (await proxy.request("GET", link_path(again), key=None))[2] == PICTURE


@pytest.mark.parametrize("damage", ["missing", "short", "long"])
async def test_a_damaged_image_is_not_served(proxy: RunningProxy, image: dict[str, Any], damage: str) -> None:
    """Bytes that are not those that were kept are an error that says so, not an image."""
    record = await record_of(proxy, image)
    path = proxy.data_dir / "storage" / record.ref
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(PICTURE[:-1] if damage == "short" else PICTURE + b"x")
    for address in (image["content_url"], link_path(image)):
        status, _, body = await proxy.request("GET", address)
        assert (status, error_of(body)["code"]) == (503, "storage_unavailable")


async def test_a_drawing_is_inert_by_link_and_by_key(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """An SVG could run scripts: under our origin it may not, whoever opens it."""
    upstream.script(image_json([svg(size_bytes=2000)]))
    await proxy.sdk().images.generate(**CAT)
    (image,) = await listed(proxy)
    for path in (image["content_url"], link_path(image)):
        _, headers, body = await proxy.request("GET", path)
        assert (headers["Content-Type"], body) == ("image/svg+xml", svg(size_bytes=2000))
        assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
