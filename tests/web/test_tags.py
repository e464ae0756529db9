"""Tags, which all who see an image see, and favourites, which are one's own."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pixie_proxy.gallery.tagging import MAX_CHARACTERS, MAX_TAGS, normal
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.calling import error_of, listed
from tests.web.test_bulk import BULK, bulk
from tests.web.test_changes import change, make, send, state_of


async def ids(proxy: RunningProxy, query: str, key: str = MEMBER_KEY) -> list[str]:
    return [image["id"] for image in await listed(proxy, query, key)]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Fox", "fox"),
        ("  red\u00a0\n fox ", "red fox"),
        ("#fox", "fox"),
        ("ﬁsh", "fish"),
        ("Straße", "straße"),
        ("e\u0301t\u00e9", "\u00e9t\u00e9"),
        ("猫", "猫"),
    ],
)
def test_a_tag_is_written_in_one_way(said: str, kept: str) -> None:
    """And that way is its own."""
    assert (normal(said), normal(kept)) == (kept, kept)


async def test_tagging_an_image(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Tags are sorted, each once, seen by all who see the image, and in state.json; an empty list takes them away."""
    upstream.script(image_json(2))
    image, sibling = await make(proxy, count=2)
    assert (image["tags"], state_of(proxy, image)) == ([], None)
    status, tagged = await change(proxy, image, tags=["Winter", "#fox", "FOX"])
    assert (status, tagged["tags"]) == (200, ["fox", "winter"])
    assert tagged["url"] == image["url"]
    state = state_of(proxy, image)
    assert state is not None
    assert {name: each["tags"] for name, each in state["images"].items()} == {image["id"]: ["fox", "winter"]}
    for key in (MEMBER_KEY, OTHER_KEY, VIEWER_KEY, ADMIN_KEY):
        assert (await send(proxy, "GET", image, key=key))[1]["tags"] == ["fox", "winter"]
        assert await ids(proxy, "?tag=%20FOX", key) == [image["id"]]
    assert await ids(proxy, "?tag=fo") == await ids(proxy, "?tag=owl") == []
    assert (await send(proxy, "GET", sibling))[1]["tags"] == []
    assert (await change(proxy, image, visibility="private"))[1]["tags"] == ["fox", "winter"]
    assert await ids(proxy, "?tag=fox", OTHER_KEY) == []
    await change(proxy, image, visibility="team")
    assert (await change(proxy, image, tags=["owl"]))[1]["tags"] == ["owl"]
    assert (await ids(proxy, "?tag=fox"), await ids(proxy, "?tag=owl")) == ([], [image["id"]])
    assert (await change(proxy, image, tags=[]))[1]["tags"] == []


async def test_only_owner_and_admins_tag(proxy: RunningProxy) -> None:
    """Whoever else sees the image hears so; who does not see it hears that there is none."""
    (image,) = await make(proxy)
    assert [(await change(proxy, image, key, tags=["fox"]))[0] for key in (OTHER_KEY, VIEWER_KEY)] == [
        403,
        403,
    ]
    assert (await change(proxy, image, ADMIN_KEY, tags=["fox"]))[0] == 200
    await change(proxy, image, visibility="private")
    assert (await change(proxy, image, OTHER_KEY, tags=["owl"]))[0] == 404
    assert (await send(proxy, "GET", image))[1]["tags"] == ["fox"]


async def test_the_limits_of_tags(proxy: RunningProxy) -> None:
    """Twenty of 48 characters, and not one more of either, one by one or by and by."""
    (image,) = await make(proxy)
    most = [f"{n:0{MAX_CHARACTERS}d}" for n in range(MAX_TAGS)]
    assert (await change(proxy, image, tags=most))[1]["tags"] == most
    for wrong in (
        [*most, "one more"],
        ["x" * (MAX_CHARACTERS + 1)],
        [""],
        [" # "],
        ["a,b"],
        ["a\x00b"],
        "fox",
        [7],
    ):
        status, answer = await change(proxy, image, tags=wrong)
        assert (status, answer["error"]["param"]) == (400, "tags"), wrong
    assert await bulk(proxy, [image["id"]], "tag", tags=["one more"]) == {image["id"]: "invalid_value"}
    assert await bulk(proxy, [image["id"]], "tag", tags=most[:1]) == {image["id"]: None}
    assert (await send(proxy, "GET", image))[1]["tags"] == most


async def test_tagging_many(proxy: RunningProxy) -> None:
    """Tags come to those that are there, and go from among them; another's image stays as it is."""
    (own,), (theirs,) = await make(proxy), await make(proxy, OTHER_KEY)
    await change(proxy, own, tags=["fox"])
    both = [own["id"], theirs["id"]]
    assert await bulk(proxy, both, "tag", tags=["Owl", "hen"]) == dict(
        zip(both, [None, "permission_denied"], strict=True)
    )
    assert (await send(proxy, "GET", own))[1]["tags"] == ["fox", "hen", "owl"]
    await bulk(proxy, both, "untag", tags=["fox", "OWL", "cow"])
    assert ((await send(proxy, "GET", own))[1]["tags"], await ids(proxy, "?tag=owl")) == (["hen"], [])
    assert (await send(proxy, "GET", theirs))[1]["tags"] == []
    for body in ({"action": "tag"}, {"action": "tag", "tags": []}, {"action": "delete", "tags": ["fox"]}):
        status, _, answer = await proxy.request("POST", BULK, json={"ids": both, **body})
        assert (status, error_of(answer)["param"]) == (400, "tags")


async def test_favourites_are_ones_own(proxy: RunningProxy) -> None:
    """Anybody's who sees an image, a viewer's too; told to nobody else, the owner and admins neither."""
    (image,), (other,) = await make(proxy), await make(proxy)
    for _ in range(2):
        status, liked = await send(proxy, "POST", image, "/favorite", key=VIEWER_KEY)
        assert (status, liked["id"], liked["favorite"]) == (200, image["id"], True)
    assert state_of(proxy, image) is None
    assert await ids(proxy, "?favorite=true", VIEWER_KEY) == [image["id"]]
    assert [each["favorite"] for each in await listed(proxy, key=VIEWER_KEY)] == [False, True]
    for key in (MEMBER_KEY, OTHER_KEY, ADMIN_KEY):
        assert await ids(proxy, "?favorite=true", key) == []
        assert not (await send(proxy, "GET", image, key=key))[1]["favorite"]
    for _ in range(2):
        assert (await send(proxy, "DELETE", image, "/favorite", key=VIEWER_KEY))[1]["favorite"] is False
    assert await ids(proxy, "?favorite=true", VIEWER_KEY) == []
    both = [image["id"], other["id"]]
    assert set((await bulk(proxy, both, "favorite", OTHER_KEY)).values()) == {None}
    assert await ids(proxy, "?favorite=true", OTHER_KEY) == both[::-1]
    assert await ids(proxy, f"?favorite=true&limit=1&after={both[1]}", OTHER_KEY) == both[:1]
    await bulk(proxy, both[:1], "unfavorite", OTHER_KEY)
    assert await ids(proxy, "?favorite=true", OTHER_KEY) == both[1:]


async def test_what_is_hidden_is_nobodys_favourite(proxy: RunningProxy) -> None:
    """It can't be made one, and one that is hidden later is not there until it is shown again."""
    (image,) = await make(proxy)
    await send(proxy, "POST", image, "/favorite", key=OTHER_KEY)
    await change(proxy, image, visibility="private")
    assert await ids(proxy, "?favorite=true", OTHER_KEY) == []
    for method in ("POST", "DELETE"):
        assert (await send(proxy, method, image, "/favorite", key=OTHER_KEY))[0] == 404
    assert await bulk(proxy, [image["id"]], "favorite", OTHER_KEY) == {image["id"]: "not_found"}
    await change(proxy, image, visibility="team")
    assert await ids(proxy, "?favorite=true", OTHER_KEY) == [image["id"]]
    await send(proxy, "DELETE", image)
    assert (await send(proxy, "POST", image, "/favorite"))[0] == 404


async def test_filters_together(proxy: RunningProxy) -> None:
    """An image must pass all of them."""
    made: list[dict[str, Any]] = [(await make(proxy))[0] for _ in range(3)]
    fox, both, liked = (image["id"] for image in made)
    await bulk(proxy, [fox, both], "tag", tags=["fox"])
    await bulk(proxy, [both, liked], "favorite")
    assert (
        await ids(proxy, "?tag=fox&favorite=true")
        == await ids(proxy, "?favorite=true&tag=fox&owner=me")
        == [both]
    )
    assert await ids(proxy, "?tag=fox&order=asc") == [fox, both]
    assert await ids(proxy, f"?tag=fox&before={both}&order=asc") == [fox]
    assert await ids(proxy, "?tag=fox&visibility=private") == await ids(proxy, "?tag=fox&owner=carol") == []
    for query in ("favorite=false", "tag=", "tag=a,b", f"tag={'x' * 49}"):
        status, _, body = await proxy.request("GET", f"/v1/images?{query}")
        assert (status, error_of(body)["param"]) == (400, query.split("=")[0])


async def test_tags_are_in_the_trash_with_their_image(proxy: RunningProxy) -> None:
    """And come back with it."""
    (image,) = await make(proxy)
    await change(proxy, image, tags=["fox"])
    await send(proxy, "DELETE", image)
    assert (await ids(proxy, "?tag=fox"), await ids(proxy, "?tag=fox&deleted=true")) == ([], [image["id"]])
    assert (await send(proxy, "POST", image, "/restore"))[1]["tags"] == ["fox"]


async def test_a_state_without_tags_is_as_before_there_were_any(proxy: RunningProxy) -> None:
    """So that what an older version wrote is not written anew."""
    (image,) = await make(proxy)
    await change(proxy, image, visibility="private")
    state = state_of(proxy, image)
    assert state is not None
    assert "tags" not in orjson.dumps(state).decode()
