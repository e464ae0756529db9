"""Lineage of edits: an image that comes back to be edited is known by its bytes, to those who may see it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pixie_proxy.index import lineage
from pixie_proxy.records import new_id
from tests.support.pictures import png
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.calling import EDITS, GENERATIONS, VARIATIONS, context_of, error_of, listed, post_form

FOX, OWL, HEN = png(seed=71), png(seed=72), png(seed=73)


class Studio:
    """Makes and edits images of given bytes, and gives the ids of what came."""

    def __init__(self, proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
        self.proxy, self._upstream = proxy, upstream

    async def make(self, *pictures: bytes, key: str = MEMBER_KEY) -> list[str]:
        self._upstream.script(image_json(list(pictures)))
        body = {"model": "gpt-image-2", "prompt": "an animal", "n": len(pictures)}
        answered = await self.proxy.request("POST", GENERATIONS, json=body, key=key)
        return await self._came(answered[1]["x-request-id"], key)

    async def edit(
        self, *files: tuple[str, bytes], key: str = MEMBER_KEY, path: str = EDITS
    ) -> dict[str, Any]:
        """Edit files of a form, and describe the image that came."""
        self._upstream.script(image_json([png(seed=99)]))
        parts = [(name, content, "picture.png") for name, content in files]
        status, body = await post_form(self.proxy, ("prompt", b"a hat"), *parts, path=path, key=key)
        assert status == 200, body
        return (await listed(self.proxy, "?limit=1&owner=me", key))[0]

    async def edit_json(self, *refs: Any, key: str = MEMBER_KEY) -> dict[str, Any]:
        self._upstream.script(image_json([png(seed=99)]))
        body = {"model": "gpt-image-2", "prompt": "a hat", "images": refs}
        status, _, answer = await self.proxy.request("POST", EDITS, json=body, key=key)
        assert status == 200, answer
        return (await listed(self.proxy, "?limit=1&owner=me", key))[0]

    async def hide(self, image_id: str, visibility: str = "private", key: str = MEMBER_KEY) -> None:
        path = f"/v1/images/{image_id}"
        assert (await self.proxy.request("POST", path, json={"visibility": visibility}, key=key))[0] == 200

    async def parents(self, image: dict[str, Any], key: str) -> list[str]:
        found: list[str] = (await self.proxy.get(f"/v1/images/{image['id']}", key))["parents"]
        return found

    async def children(self, image_id: str, key: str = MEMBER_KEY) -> list[str]:
        return [image["id"] for image in await listed(self.proxy, f"?parent={image_id}", key)]

    async def _came(self, request_id: str, key: str) -> list[str]:
        images: list[str] = (await self.proxy.get(f"/v1/requests/{request_id}", key))["images"]
        return images


@pytest.fixture
def studio(proxy: RunningProxy, upstream: ScriptedUpstream) -> Studio:
    return Studio(proxy, upstream)


async def test_an_edit_names_what_it_was_made_of(studio: Studio) -> None:
    """In the order in which they were sent, each once, whatever the form; and each of them leads to the edit."""
    fox, owl = await studio.make(FOX, OWL)
    made = [
        await studio.edit(("image[]", OWL), ("image[]", FOX), ("image[]", OWL)),
        await studio.edit_json({"image_url": _data_url(OWL)}, {"image_url": _data_url(FOX)}),
        await studio.edit_json({"url": _data_url(OWL)}, _data_url(FOX)),
    ]
    for image in made:
        assert image["parents"] == await studio.parents(image, MEMBER_KEY) == [owl, fox]
    ids = [image["id"] for image in reversed(made)]
    assert await studio.children(fox) == await studio.children(owl) == ids
    assert [image["id"] for image in await listed(studio.proxy, f"?parent={fox}&limit=1&order=asc")] == ids[
        -1:
    ]
    assert await studio.children(ids[0]) == []


async def test_an_edit_of_an_edit(studio: Studio) -> None:
    """Lineage is told step by step. A variation has a parent as well."""
    (fox,) = await studio.make(FOX)
    first = await studio.edit(("image", FOX))
    second = await studio.edit(("image", png(seed=99)), path=VARIATIONS)
    assert (first["parents"], second["parents"]) == ([fox], [first["id"]])
    assert await studio.children(fox) == [first["id"]]


async def test_what_is_no_image_to_edit_is_no_parent(studio: Studio) -> None:
    """A mask, an address on the web, broken base64, and pictures that were never made here."""
    await studio.make(FOX, OWL)
    assert (await studio.edit(("image", HEN), ("mask", OWL), ("markup", FOX)))["parents"] == []
    broken = _data_url(FOX)[:-5] + "*" + _data_url(FOX)[-4:]
    for ref in (broken, "https://example.com/fox.png", "data:image/png,fox", {"file": 7}):
        assert (await studio.edit_json({"image_url": ref}))["parents"] == []


async def test_of_equal_images_ones_own_is_the_parent(studio: Studio) -> None:
    """Else the newest that one sees."""
    (old,) = await studio.make(FOX)
    (own,) = await studio.make(FOX)
    (theirs,) = await studio.make(FOX, key=OTHER_KEY)
    assert (await studio.edit(("image", FOX)))["parents"] == [own]
    assert (await studio.edit(("image", FOX), key=OTHER_KEY))["parents"] == [theirs]
    assert (await studio.edit(("image", FOX), key=ADMIN_KEY))["parents"] == [theirs]
    assert old not in {own, theirs}


async def test_a_private_image_of_another_is_nobodys_parent(studio: Studio) -> None:
    """Whoever sends the very bytes that another keeps private learns nothing by it, now or when it is shown later."""
    (fox,) = await studio.make(FOX, key=OTHER_KEY)
    await studio.hide(fox, key=OTHER_KEY)
    edited = await studio.edit(("image", FOX))
    unknown = await studio.edit(("image", HEN))
    assert edited["parents"] == unknown["parents"] == []
    assert await studio.children(fox) == await studio.children(new_id("img")) == []
    await studio.hide(fox, "team", key=OTHER_KEY)
    for key in (MEMBER_KEY, OTHER_KEY, ADMIN_KEY):
        assert await studio.parents(edited, key) == []
        assert await studio.children(fox, key) == []
    index = context_of(studio.proxy).index
    assert await index.read(lambda tx: lineage.recorded(tx, edited["request_id"])) == ()


async def test_a_parent_that_is_hidden_later_is_left_out(studio: Studio) -> None:
    """For all but its owner and admins, as if it had never been; in the trash it is, for everybody."""
    (fox,) = await studio.make(FOX, key=OTHER_KEY)
    edited = await studio.edit(("image", FOX))
    assert edited["parents"] == [fox]
    await studio.hide(fox, key=OTHER_KEY)
    for key, seen in ((MEMBER_KEY, False), (OTHER_KEY, True), (ADMIN_KEY, True)):
        assert await studio.parents(edited, key) == ([fox] if seen else [])
        assert await studio.children(fox, key) == ([edited["id"]] if seen else [])
    await studio.proxy.request("DELETE", f"/v1/images/{fox}", key=OTHER_KEY)
    for key in (MEMBER_KEY, OTHER_KEY, ADMIN_KEY):
        assert await studio.parents(edited, key) == await studio.children(fox, key) == []


async def test_a_child_that_is_hidden_is_not_listed(studio: Studio) -> None:
    """Who edits another's image need not tell."""
    (fox,) = await studio.make(FOX, key=OTHER_KEY)
    edited = await studio.edit(("image", FOX))
    assert await studio.children(fox, OTHER_KEY) == [edited["id"]]
    await studio.hide(edited["id"])
    assert await studio.children(fox, OTHER_KEY) == []
    assert await studio.children(fox) == [edited["id"]]


async def test_a_parent_in_the_query_must_be_an_id(proxy: RunningProxy) -> None:
    """Anything else is refused by name."""
    status, _, body = await proxy.request("GET", "/v1/images?parent=fox")
    assert (status, error_of(body)["param"]) == (400, "parent")


def _data_url(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()
