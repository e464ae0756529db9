"""Collections: whose they are, who sees them, and that they show nobody an image which is hidden."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pixie_proxy.gallery import collections
from pixie_proxy.index import belongings
from pixie_proxy.records import new_id
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.calling import context_of, listed
from tests.web.test_changes import change, make, send

ROOT = "/v1/collections"


async def call(
    proxy: RunningProxy, method: str, path: str, key: str = MEMBER_KEY, body: Any = None
) -> tuple[int, Any]:
    options = {} if body is None else {"json": body}
    status, _, answer = await proxy.request(method, ROOT + path, key=key, **options)
    return status, orjson.loads(answer)


async def collect(proxy: RunningProxy, *, key: str = MEMBER_KEY, **fields: Any) -> str:
    """Make a collection."""
    status, made = await call(proxy, "POST", "", key, {"name": "Foxes", **fields})
    assert status == 200, made
    collection_id: str = made["id"]
    return collection_id


async def fill(
    proxy: RunningProxy, collection_id: str, key: str = MEMBER_KEY, **fields: Any
) -> dict[str, str | None]:
    """Put images in and take them out; give the code of what was in the way, by id."""
    status, said = await call(proxy, "POST", f"/{collection_id}/images", key, fields)
    assert status == 200, said
    return {each["id"]: each["error"] and each["error"]["code"] for each in said["data"]}


async def held(proxy: RunningProxy, collection_id: str, key: str = MEMBER_KEY, more: str = "") -> list[str]:
    return [image["id"] for image in await listed(proxy, f"?collection={collection_id}{more}", key)]


async def test_a_collection_from_its_making_to_its_end(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Named, filled, paged through, renamed, emptied and deleted; its images stay."""
    upstream.script(image_json(3))
    ids = [image["id"] for image in await make(proxy, count=3)]
    status, made = await call(proxy, "POST", "", body={"name": "  Red  foxes "})
    assert status == 200
    assert {**made, "id": "", "created": 0} == {
        "id": "", "object": "collection", "created": 0, "owner": "bob", "name": "Red foxes", "visibility": "private",
    }  # fmt: skip
    assert await held(proxy, made["id"]) == []
    for _ in range(2):
        assert await fill(proxy, made["id"], add=ids) == dict.fromkeys(ids)
        assert await held(proxy, made["id"]) == ids[::-1]
    assert await held(proxy, made["id"], more=f"&limit=1&after={ids[2]}") == [ids[1]]
    assert await held(proxy, made["id"], more="&owner=me&order=asc&limit=2") == ids[:2]
    assert await fill(proxy, made["id"], remove=[ids[1], "img_x"]) == {ids[1]: None, "img_x": None}
    assert await held(proxy, made["id"]) == [ids[2], ids[0]]
    path = f"/{made['id']}"
    assert await call(proxy, "POST", path, body={"name": "Owls"}) == (200, {**made, "name": "Owls"})
    shown = {**made, "name": "Owls", "visibility": "team"}
    assert await call(proxy, "POST", path, body={"visibility": "team"}) == (200, shown)
    assert await call(proxy, "GET", path) == (200, shown)
    assert await call(proxy, "DELETE", path) == (
        200,
        {"id": made["id"], "object": "collection", "deleted": True},
    )
    for method in ("GET", "DELETE"):
        assert (await call(proxy, method, path))[0] == 404
    assert (await held(proxy, made["id"]), len(await listed(proxy))) == ([], 3)


async def test_who_sees_a_collection_and_who_changes_it(proxy: RunningProxy) -> None:
    """A private one is not there for others; the team's is theirs to see. Only owner and admins change either."""
    private, team = await collect(proxy), await collect(proxy, visibility="team")
    changes: list[tuple[str, str, Any]] = [
        ("POST", "", {"name": "Mine"}),
        ("POST", "/images", {"add": ["img_x"]}),
        ("DELETE", "", None),
    ]
    for key, seen in (
        (OTHER_KEY, [team]),
        (VIEWER_KEY, [team]),
        (ADMIN_KEY, [team, private]),
        (MEMBER_KEY, [team, private]),
    ):
        said = await proxy.get(ROOT, key)
        assert [each["id"] for each in said["data"]] == seen
        assert [(await call(proxy, "GET", f"/{each}", key))[0] == 200 for each in (team, private)] == [
            True,
            private in seen,
        ]
    unknown = new_id("col")
    for method, more, body in changes:
        assert (await call(proxy, method, f"/{team}{more}", OTHER_KEY, body))[0] == 403
        assert (await call(proxy, method, f"/{team}{more}", VIEWER_KEY, body))[0] == 403
        answers = [
            await call(proxy, method, f"/{each}{more}", OTHER_KEY, body)
            for each in (private, unknown, "col_x")
        ]
        assert answers[0][0] == 404
        assert answers[0] == answers[1] == answers[2]
    assert (await call(proxy, "POST", "", VIEWER_KEY, {"name": "x"}))[0] == 403
    assert (await call(proxy, "POST", f"/{private}", ADMIN_KEY, {"name": "Better"}))[0] == 200
    assert [each["id"] for each in (await proxy.get(f"{ROOT}?owner=bob&order=asc", OTHER_KEY))["data"]] == [
        team
    ]
    assert (await proxy.get(f"{ROOT}?owner=nobody"))["data"] == []
    assert [each["id"] for each in (await proxy.get(f"{ROOT}?after={team}"))["data"]] == [private]


async def test_a_collection_shows_nobody_what_is_hidden(proxy: RunningProxy) -> None:
    """Others see of it what they may see; what one may not see can't be put in, and no answer tells that it exists."""
    (own,), (theirs,), (hidden,) = (
        await make(proxy),
        await make(proxy, OTHER_KEY),
        await make(proxy, OTHER_KEY),
    )
    await change(proxy, hidden, OTHER_KEY, visibility="private")
    team = await collect(proxy, visibility="team")
    done = await fill(proxy, team, add=[own["id"], theirs["id"], hidden["id"], new_id("img"), "img_x"])
    assert list(done.values()) == [None, None, "not_found", "not_found", "not_found"]
    await change(proxy, own, visibility="private")
    assert await held(proxy, team) == [theirs["id"], own["id"]]
    assert await held(proxy, team, OTHER_KEY) == [theirs["id"]]
    await change(proxy, theirs, OTHER_KEY, visibility="private")
    assert (await held(proxy, team), await held(proxy, team, OTHER_KEY)) == ([own["id"]], [theirs["id"]])
    removed = await fill(proxy, team, remove=[theirs["id"], hidden["id"]])
    assert removed == {theirs["id"]: None, hidden["id"]: None}
    assert await held(proxy, team, OTHER_KEY) == []
    await send(proxy, "DELETE", own)
    assert await held(proxy, team) == []
    await send(proxy, "POST", own, "/restore")
    assert await held(proxy, team) == [own["id"]]
    private = await collect(proxy)
    await fill(proxy, private, add=[own["id"]])
    assert await held(proxy, private, OTHER_KEY) == await held(proxy, new_id("col"), OTHER_KEY) == []


async def test_the_limits_of_collections(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there may be, and not one more: of a user, and of images in one."""
    monkeypatch.setattr(collections, "MAX_COLLECTIONS", 2)
    monkeypatch.setattr(collections, "MAX_IMAGES", 2)
    ids = [(await make(proxy))[0]["id"] for _ in range(3)]
    first, _ = await collect(proxy), await collect(proxy)
    assert (await call(proxy, "POST", "", body={"name": "one more"}))[0] == 400
    await collect(proxy, key=OTHER_KEY)
    assert list((await fill(proxy, first, add=ids)).values()) == [None, None, "invalid_value"]
    assert list((await fill(proxy, first, add=ids[:2])).values()) == [None, None]
    assert list((await fill(proxy, first, add=ids[2:], remove=ids[:1])).values()) == [None, None]
    assert await held(proxy, first) == [ids[2], ids[1]]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {}, "name"),
        ("", {"name": ""}, "name"),
        ("", {"name": " "}, "name"),
        ("", {"name": "x" * 65}, "name"),
        ("", {"name": "x", "visibility": "public"}, "visibility"),
        ("", {"name": "x", "images": []}, "images"),
        ("/ID", {}, "name"),
        ("/ID", {"name": None}, "name"),
        ("/ID/images", {}, "add"),
        ("/ID/images", {"add": []}, "add"),
        ("/ID/images", {"remove": "img_x"}, "remove"),
        ("/ID/images", {"add": ["img_x"], "remove": ["img_x"]}, "add"),
        (
            "/ID/images",
            {"add": [f"img_{n}" for n in range(101)], "remove": [f"img_r{n}" for n in range(100)]},
            "add",
        ),
    ],
)
async def test_what_is_not_meant_so_is_refused(proxy: RunningProxy, path: str, body: Any, param: str) -> None:
    """By the name of the field."""
    status, answer = await call(proxy, "POST", path.replace("ID", await collect(proxy)), body=body)
    assert (status, answer["error"]["param"]) == (400, param)


async def test_a_name_has_up_to_64_characters_and_200_ids_go_at_once(proxy: RunningProxy) -> None:
    """The other side of both limits."""
    made = await collect(proxy, name="x" * 64)
    done = await fill(
        proxy, made, add=[f"img_{n}" for n in range(100)], remove=[f"img_r{n}" for n in range(100)]
    )
    assert len(done) == 200


async def test_the_collections_of_an_image(proxy: RunningProxy) -> None:
    """Those that hold it, as far as one sees them; of an image that one may not see there are none."""
    ids = [(await make(proxy))[0]["id"] for _ in range(2)]
    mine, teams, empty = await collect(proxy), await collect(proxy, visibility="team"), await collect(proxy)
    for collection in (mine, teams):
        await fill(proxy, collection, add=ids[:1])

    async def holding(image_id: str, key: str = MEMBER_KEY) -> list[str]:
        return [each["id"] for each in (await call(proxy, "GET", f"?image={image_id}", key))[1]["data"]]

    assert await holding(ids[0]) == [teams, mine]
    assert empty not in await holding(ids[0])
    assert await holding(ids[1]) == await holding(new_id("img")) == []
    assert await holding(ids[0], OTHER_KEY) == [teams]
    await change(proxy, {"id": ids[0]}, visibility="private")
    assert await holding(ids[0], OTHER_KEY) == []
    assert (await call(proxy, "GET", "?image=x"))[0] == 400


async def test_what_goes_with_its_user(proxy: RunningProxy) -> None:
    """Page by page: favourites, then what collections hold, then the collections; nobody else's."""
    ids = [(await make(proxy))[0]["id"] for _ in range(3)]
    mine, theirs = await collect(proxy, visibility="team"), await collect(proxy, key=OTHER_KEY)
    for key, collection in ((MEMBER_KEY, mine), (OTHER_KEY, theirs)):
        await fill(proxy, collection, key, add=ids)
        for image_id in ids:
            await proxy.request("POST", f"/v1/images/{image_id}/favorite", key=key)
    index, user_id = context_of(proxy).index, (await proxy.get("/v1/me"))["id"]
    dropped = [await index.write(lambda tx: belongings.drop(tx, user_id, 4)) for _ in range(3)]
    assert dropped == [4, 2, 0]
    assert await listed(proxy, "?favorite=true") == (await proxy.get(ROOT))["data"] == []
    assert (
        len(await listed(proxy, "?favorite=true", OTHER_KEY))
        == len(await held(proxy, theirs, OTHER_KEY))
        == 3
    )
