"""Changing images: who may, what it does to lists, links and state.json, and that strangers learn nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from pixie_proxy.records import VISIBILITIES, new_id
from pixie_proxy.web.routes import ROUTES
from tests.support.pictures import png
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.calling import CAT, GENERATIONS, ended, error_of, listed
from tests.web.conftest import ProxyWith


async def make(proxy: RunningProxy, key: str = MEMBER_KEY, count: int = 1) -> list[dict[str, Any]]:
    """Make images of one call and give them in their order."""
    status, _, body = await proxy.request("POST", GENERATIONS, key=key, json={**CAT, "n": count})
    assert status == 200, body
    await ended(proxy)
    return sorted(await listed(proxy, f"?limit={count}", key), key=lambda image: image["index"])


async def change(
    proxy: RunningProxy, image: dict[str, Any], key: str = MEMBER_KEY, **fields: Any
) -> tuple[int, Any]:
    status, _, body = await proxy.request("POST", f"/v1/images/{image['id']}", key=key, json=fields)
    return status, orjson.loads(body)


async def send(
    proxy: RunningProxy, method: str, image: dict[str, Any], more: str = "", key: str = MEMBER_KEY
) -> tuple[int, Any]:
    status, _, body = await proxy.request(method, f"/v1/images/{image['id']}{more}", key=key)
    return status, orjson.loads(body)


async def link_works(proxy: RunningProxy, url: str) -> bool:
    path = "/i/" + url.rsplit("/", 1)[-1]
    return (await proxy.request("GET", path, key=None))[0] == 200


def state_of(proxy: RunningProxy, image: dict[str, Any]) -> dict[str, Any] | None:
    (manifest,) = proxy.data_dir.glob(f"storage/images/*/*/*/{image['request_id']}/request.json")
    path = manifest.with_name("state.json")
    if not path.exists():
        return None
    said: dict[str, Any] = orjson.loads(path.read_bytes())
    assert (said["id"], said["object"]) == (image["request_id"], "pixie.state")
    return said


async def test_hiding_an_image(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Others do not see it any more, its links are dead, and state.json says so of this image only."""
    upstream.script(image_json(2))
    image, sibling = await make(proxy, count=2)
    assert (image["visibility"], state_of(proxy, image)) == ("team", None)
    status, hidden = await change(proxy, image, visibility="private")
    assert (status, hidden["visibility"]) == (200, "private")
    assert hidden["url"] != image["url"]
    assert [await link_works(proxy, each["url"]) for each in (image, hidden, sibling)] == [False, True, True]
    state = state_of(proxy, image)
    assert state is not None
    assert state["images"] == {
        image["id"]: {"visibility": "private", "deleted_us": None, "expires_us": None, "link_epoch": 1}
    }
    seen = [
        (await send(proxy, "GET", image, key=key))[0]
        for key in (MEMBER_KEY, ADMIN_KEY, OTHER_KEY, VIEWER_KEY)
    ]
    assert seen == [200, 200, 404, 404]
    assert [each["id"] for each in await listed(proxy, key=OTHER_KEY)] == [sibling["id"]]
    status, shown = await change(proxy, image, visibility="team")
    assert (status, shown["url"]) == (200, hidden["url"])
    assert (await send(proxy, "GET", image, key=OTHER_KEY))[0] == 200


@pytest.mark.parametrize("before", VISIBILITIES)
@pytest.mark.parametrize("after", VISIBILITIES)
async def test_narrowing_ends_links_and_widening_does_not(
    proxy_with: ProxyWith, before: str, after: str
) -> None:
    """From each to each; and state.json is there exactly if something differs from the start."""
    proxy = await proxy_with(gallery={"visibility": before})
    (image,) = await make(proxy)
    assert (await change(proxy, image, visibility=after))[0] == 200
    narrows = VISIBILITIES.index(after) < VISIBILITIES.index(before)
    assert await link_works(proxy, image["url"]) != narrows
    assert (state_of(proxy, image) is None) == (before == after)


async def test_widening_back_to_the_start_leaves_no_state(proxy: RunningProxy) -> None:
    """Without a dead link to remember there is nothing to say; with one there is."""
    (image,) = await make(proxy)
    await change(proxy, image, visibility="public")
    assert state_of(proxy, image) is not None
    await change(proxy, image, visibility="team")
    state = state_of(proxy, image)
    assert state is not None
    assert state["images"][image["id"]]["link_epoch"] == 1


async def test_revoking_a_link(proxy: RunningProxy) -> None:
    """The old one is dead, the new one works; false asks for nothing."""
    (image,) = await make(proxy)
    status, same = await change(proxy, image, revoke_url=False)
    assert (status, same["url"], state_of(proxy, image)) == (200, image["url"], None)
    status, fresh = await change(proxy, image, revoke_url=True)
    assert (status, fresh["visibility"]) == (200, "team")
    assert [await link_works(proxy, each["url"]) for each in (image, fresh)] == [False, True]
    _, both = await change(proxy, image, revoke_url=True, visibility="private")
    assert not await link_works(proxy, fresh["url"])
    assert await link_works(proxy, both["url"])


async def test_deleting_and_restoring(proxy: RunningProxy) -> None:
    """In the trash an image is nowhere but there, under no address; restored it is as before, but for its links."""
    (image,) = await make(proxy)
    before_s = int(time.time())
    assert await send(proxy, "DELETE", image) == (
        200,
        {"id": image["id"], "object": "image", "deleted": True},
    )
    state = state_of(proxy, image)
    assert state is not None
    assert state["images"][image["id"]]["deleted_us"] >= before_s * 1_000_000
    for more in ("", "/content"):
        for key in (MEMBER_KEY, ADMIN_KEY, OTHER_KEY):
            assert (await send(proxy, "GET", image, more, key=key))[0] == 404
    for key, status in ((MEMBER_KEY, 200), (ADMIN_KEY, 200), (OTHER_KEY, 404)):
        assert (await proxy.request("GET", image["thumbnail_url"], key=key))[0] == status
    assert not await link_works(proxy, image["url"])
    assert await listed(proxy) == []
    (thrown,) = await listed(proxy, "?deleted=true")
    assert thrown["deleted_at"] >= before_s
    assert [thrown[name] for name in ("id", "url", "content_url", "thumbnail_url")] == [
        image["id"],
        None,
        None,
        image["thumbnail_url"],
    ]
    status, restored = await send(proxy, "POST", image, "/restore")
    looked_at = {name: restored[name] for name in ("url", "placeholder", "animated")}
    assert (status, restored) == (200, {**image, **looked_at})
    assert [await link_works(proxy, each["url"]) for each in (image, restored)] == [False, True]
    state = state_of(proxy, image)
    assert state is not None
    assert state["images"][image["id"]] == {
        "visibility": "team", "deleted_us": None, "expires_us": None, "link_epoch": 1
    }  # fmt: skip
    assert await listed(proxy, "?deleted=true") == []


async def test_twice_is_as_good_as_once(proxy: RunningProxy) -> None:
    """A client that did not hear the answer may ask again; a second deletion keeps the time of the first."""
    (image,) = await make(proxy)
    status, restored = await send(proxy, "POST", image, "/restore")
    assert (status, restored, state_of(proxy, image)) == (200, image, None)
    await send(proxy, "DELETE", image)
    state = state_of(proxy, image)
    assert (await send(proxy, "DELETE", image))[0] == 200
    assert state_of(proxy, image) == state


async def test_the_trash_is_its_owners_and_the_admins(proxy: RunningProxy) -> None:
    """In lists, for restoring, and for deleting once more."""
    (image,) = await make(proxy)
    (others,) = await make(proxy, OTHER_KEY)
    for each, key in ((image, MEMBER_KEY), (others, OTHER_KEY)):
        assert (await send(proxy, "DELETE", each, key=key))[0] == 200
    trash = {
        key: [each["id"] for each in await listed(proxy, "?deleted=true", key)]
        for key in (MEMBER_KEY, OTHER_KEY, VIEWER_KEY, ADMIN_KEY)
    }
    assert trash == {
        MEMBER_KEY: [image["id"]],
        OTHER_KEY: [others["id"]],
        VIEWER_KEY: [],
        ADMIN_KEY: [others["id"], image["id"]],
    }
    assert [each["id"] for each in await listed(proxy, "?deleted=true&owner=me", ADMIN_KEY)] == []
    assert (await send(proxy, "POST", image, "/restore", OTHER_KEY))[0] == 404
    assert (await send(proxy, "DELETE", image, key=OTHER_KEY))[0] == 404
    assert (await send(proxy, "POST", image, "/restore", ADMIN_KEY))[0] == 200


async def test_what_one_sees_is_not_ones_own(proxy: RunningProxy) -> None:
    """Another's image that is shared may be looked at; to change it takes its owner or an admin."""
    (image,) = await make(proxy)
    for key in (OTHER_KEY, VIEWER_KEY):
        answers = [
            await change(proxy, image, key, visibility="private"),
            await send(proxy, "DELETE", image, key=key),
            await send(proxy, "POST", image, "/restore", key),
        ]
        assert [(status, body["error"]["code"]) for status, body in answers] == [
            (403, "permission_denied")
        ] * 3
    assert await send(proxy, "GET", image) == (200, image)
    assert (await change(proxy, image, ADMIN_KEY, visibility="private"))[0] == 200
    assert (await send(proxy, "DELETE", image, key=ADMIN_KEY))[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{}", 400, "missing_required_parameter", "visibility"),
        (b'{"visibility": "secret"}', 400, "invalid_value", "visibility"),
        (b'{"visibility": null}', 400, "invalid_value", "visibility"),
        (b'{"visibility": ["team"]}', 400, "invalid_value", "visibility"),
        (b'{"revoke_url": 1}', 400, "invalid_value", "revoke_url"),
        (b'{"revoke_url": "true"}', 400, "invalid_value", "revoke_url"),
        (b'{"visibility": "private", "owner": "carol"}', 400, "invalid_value", "owner"),
        (b'{"visibility": "private", "link_epoch": 0}', 400, "invalid_value", "link_epoch"),
        (b"[]", 400, "invalid_body", None),
        (b"{", 400, "invalid_body", None),
        (b"", 400, "invalid_body", None),
        (b'{"visibility": "' + b"x" * 70_000 + b'"}', 413, "request_too_large", None),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else None,
)
async def test_what_can_not_be_changed(
    proxy: RunningProxy, body: bytes, status: int, code: str, param: str | None
) -> None:
    """The fault is named, and nothing has changed, not even the field that was right."""
    (image,) = await make(proxy)
    found, _, answer = await proxy.request(
        "POST", f"/v1/images/{image['id']}", data=body, headers={"Content-Type": "application/json"}
    )
    error = error_of(answer)
    assert (found, error["code"], error["param"]) == (status, code, param)
    assert await send(proxy, "GET", image) == (200, image)


async def test_a_change_is_sent_as_json(proxy: RunningProxy) -> None:
    """A form that a foreign page could send is refused."""
    (image,) = await make(proxy)
    status, _, body = await proxy.request("POST", f"/v1/images/{image['id']}", data={"visibility": "private"})
    assert (status, error_of(body)["code"]) == (415, "unsupported_media_type")


async def test_lists_by_kind_and_visibility(proxy: RunningProxy) -> None:
    """Each filter alone and with others; another's private images are in none."""
    (first,), (second,) = await make(proxy), await make(proxy, OTHER_KEY)
    await change(proxy, first, visibility="public")
    await change(proxy, second, OTHER_KEY, visibility="private")
    (third,) = await make(proxy)

    async def ids(query: str, key: str = MEMBER_KEY) -> list[str]:
        return [image["id"] for image in await listed(proxy, query, key)]

    assert await ids("?visibility=public") == [first["id"]]
    assert await ids("?visibility=team&kind=generation") == [third["id"]]
    assert await ids("?visibility=private") == []
    assert await ids("?visibility=private", OTHER_KEY) == [second["id"]]
    assert await ids("?visibility=private", ADMIN_KEY) == [second["id"]]
    assert await ids("?kind=edit", ADMIN_KEY) == []
    assert await ids("?kind=generation&deleted=false", ADMIN_KEY) == [third["id"], second["id"], first["id"]]


@pytest.mark.parametrize(
    "query", ["kind=generations", "kind=", "visibility=all", "deleted=1", "deleted=True", "trash=true"]
)
async def test_filters_that_mean_nothing(proxy: RunningProxy, query: str) -> None:
    """A misspelt one must not answer with everything."""
    status, _, body = await proxy.request("GET", f"/v1/images?{query}")
    assert (status, error_of(body)["param"]) == (400, query.partition("=")[0])


async def test_a_change_outlives_a_storage_that_is_away(
    proxy_with: ProxyWith, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is answered, holds at once, and gets to storage when that is back."""
    proxy = await proxy_with()
    (image,) = await make(proxy)
    images, away = proxy.data_dir / "storage" / "images", proxy.data_dir / "storage" / "away"
    images.rename(away)
    assert (await change(proxy, image, visibility="private"))[0] == 200
    assert (await send(proxy, "GET", image, key=OTHER_KEY))[0] == 404
    away.rename(images)
    deadline = time.monotonic() + 10
    while state_of(proxy, image) is None:
        assert time.monotonic() < deadline
        assert (await send(proxy, "GET", image))[0] == 200


WITH_ID = [route for route in ROUTES if "{id}" in route.path]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
WAYS: list[dict[str, Any]] = [
    {},
    {"json": {"visibility": "team"}},
    {"json": {"visibility": "nowhere"}},
    {"headers": {"Range": "bytes=0-3"}},
    {"headers": {"If-None-Match": "*"}},
]


async def test_another_ones_private_image_answers_as_one_that_does_not_exist(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Every address with an id, every method, with and without a body: the same bytes, whether it is there or not."""
    upstream.script(image_json([png(640, 480)]))
    (image,) = await make(proxy)
    await change(proxy, image, visibility="private")
    (thrown,) = await make(proxy)
    await send(proxy, "DELETE", thrown)
    _, thumbnail, _ = await proxy.request("GET", f"/v1/images/{image['id']}/thumbnail")
    before = await send(proxy, "GET", image)
    paths = {route.path for route in WITH_ID}
    assert len(WITH_ID) >= 6
    ways: list[dict[str, Any]] = [*WAYS, {"headers": {"If-None-Match": thumbnail["ETag"]}}]
    asked = [(method, path, options) for path in sorted(paths) for method in METHODS for options in ways]
    unknown = new_id("img")
    seen = set()
    for method, path, options in asked:
        for key in (OTHER_KEY, VIEWER_KEY, None):
            answers = []
            for identifier in (unknown, image["id"], thrown["id"]):
                status, found, body = await proxy.request(
                    method, path.replace("{id}", identifier), key=key, allow_redirects=False, **options
                )
                kept = {
                    name: value.replace(identifier, "ID")
                    for name, value in found.items()
                    if name.lower() not in {"x-request-id", "date"}
                }
                answers.append((status, kept, body.replace(identifier.encode(), b"ID")))
            assert answers[0] == answers[1] == answers[2], (method, path, options, key)
            seen.add((answers[0][0], key))
    assert (404, OTHER_KEY) in seen
    assert {status for status, _ in seen if status < 400} <= {303}  # a page's way to the sign-in page
    assert await send(proxy, "GET", image) == before
    assert before[0] == 200
