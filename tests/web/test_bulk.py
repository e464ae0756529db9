"""POST /v1/images/bulk: each image by the rules of the call for it alone, and each answered for."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pixie_proxy.records import new_id
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.support.waiting import eventually
from tests.web.calling import error_of, listed
from tests.web.test_changes import make, send, state_of

BULK = "/v1/images/bulk"


async def bulk(
    proxy: RunningProxy, ids: list[str], action: str, key: str = MEMBER_KEY, **fields: Any
) -> dict[str, str | None]:
    """Do the same to some images; give the code of what was in the way, by id."""
    body = {"ids": ids, "action": action, **fields}
    status, _, answer = await proxy.request("POST", BULK, json=body, key=key)
    assert status == 200, answer
    said = orjson.loads(answer)
    assert (said["object"], said["action"]) == ("image.bulk", action)
    assert all(each["done"] == (each["error"] is None) for each in said["data"])
    return {each["id"]: each["error"] and each["error"]["code"] for each in said["data"]}


async def test_deleting_restoring_and_hiding_many(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """All in one call, told in the order of the ids, each once; again is no fault; state.json follows."""
    upstream.script(image_json(3))
    images = await make(proxy, count=3)
    ids = [image["id"] for image in reversed(images)]
    for _ in range(2):
        done = await bulk(proxy, [*ids, ids[0]], "delete")
        assert list(done.items()) == [(each, None) for each in ids]
        assert await listed(proxy) == []
    assert {image["id"] for image in await listed(proxy, "?deleted=true")} == {*ids}
    for _ in range(2):
        assert set((await bulk(proxy, ids, "restore")).values()) == {None}
        assert {image["id"] for image in await listed(proxy)} == {*ids}
    assert set((await bulk(proxy, ids[:2], "visibility", visibility="private")).values()) == {None}
    assert [image["id"] for image in await listed(proxy, key=OTHER_KEY)] == ids[2:]

    async def is_told() -> bool:
        state = state_of(proxy, images[0])
        hidden = {
            name
            for name, each in (state or {"images": {}})["images"].items()
            if each["visibility"] == "private"
        }
        return hidden == {*ids[:2]}

    await eventually(is_told)


async def test_each_image_is_answered_for_as_by_itself(proxy: RunningProxy) -> None:
    """One's own is done; another's is forbidden, and is not there where it is private, deleted, or never was."""
    (own,), (shown,), (hidden,), (gone,) = [
        await make(proxy, key) for key in (MEMBER_KEY, OTHER_KEY, OTHER_KEY, OTHER_KEY)
    ]
    await bulk(proxy, [hidden["id"]], "visibility", OTHER_KEY, visibility="private")
    await bulk(proxy, [gone["id"]], "delete", OTHER_KEY)
    ids = [own["id"], shown["id"], hidden["id"], gone["id"], new_id("img"), "img_x", ""]
    foreign = ["permission_denied", *["not_found"] * 5]
    for action, fields in (("visibility", {"visibility": "public"}), ("delete", {}), ("restore", {})):
        assert list((await bulk(proxy, ids, action, **fields)).values()) == [None, *foreign]
    alone = [(await send(proxy, "DELETE", {"id": each}))[1].get("error", {}).get("code") for each in ids[:-1]]
    assert alone == [None, *foreign[:-1]]
    assert list((await bulk(proxy, ids, "restore", ADMIN_KEY)).values()) == [None] * 4 + ["not_found"] * 3
    assert (await send(proxy, "GET", gone))[0] == 200


async def test_what_is_in_the_trash_can_not_be_shown(proxy: RunningProxy) -> None:
    """As for one image: it is not there before it is restored."""
    (image,) = await make(proxy)
    await bulk(proxy, [image["id"]], "delete")
    done = await bulk(proxy, [image["id"]], "visibility", visibility="public")
    assert done == {image["id"]: "not_found"}


async def test_two_hundred_and_no_more(proxy: RunningProxy) -> None:
    """The limit from both sides; nothing is done beyond it."""
    (image,) = await make(proxy)
    ids = [image["id"], *[new_id("img") for _ in range(200)]]
    status, _, body = await proxy.request("POST", BULK, json={"ids": ids, "action": "delete"})
    assert (status, error_of(body)["param"]) == (400, "ids")
    assert len(await listed(proxy)) == 1
    assert sum(error is None for error in (await bulk(proxy, ids[:200], "delete")).values()) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"action": "delete"}, "ids"),
        ({"ids": [], "action": "delete"}, "ids"),
        ({"ids": "img_x", "action": "delete"}, "ids"),
        ({"ids": [7], "action": "delete"}, "ids"),
        ({"ids": ["img_x"]}, "action"),
        ({"ids": ["img_x"], "action": "purge"}, "action"),
        ({"ids": ["img_x"], "action": ["delete"]}, "action"),
        ({"ids": ["img_x"], "action": "visibility"}, "visibility"),
        ({"ids": ["img_x"], "action": "visibility", "visibility": "secret"}, "visibility"),
        ({"ids": ["img_x"], "action": "delete", "visibility": "team"}, "visibility"),
        ({"ids": ["img_x"], "action": "delete", "all": True}, "all"),
        ({"ids": ["img_x"], "action": "favorite", "visibility": "team"}, "visibility"),
    ],
)
async def test_what_is_not_meant_so_is_refused(proxy: RunningProxy, body: dict[str, Any], param: str) -> None:
    """By the name of the field."""
    status, _, answer = await proxy.request("POST", BULK, json=body)
    assert (status, error_of(answer)["param"]) == (400, param)


async def test_viewers_change_nothing(proxy: RunningProxy) -> None:
    """They only look."""
    (image,) = await make(proxy)
    body = {"ids": [image["id"]], "action": "delete"}
    assert (await proxy.request("POST", BULK, json=body, key=VIEWER_KEY))[0] == 403
    assert len(await listed(proxy)) == 1
