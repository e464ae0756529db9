"""GET /v1/images and what is beside it: lists page by page, filters, and who may see what."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import openai
import pytest

from pixie_proxy.records import id_time_us
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.calling import GENERATIONS, error_of, listed
from tests.web.conftest import ProxyWith


async def make(
    proxy: RunningProxy, upstream: ScriptedUpstream, key: str = MEMBER_KEY, n: int = 1, **fields: Any
) -> None:
    upstream.script(image_json(n))
    asked = {"model": "gpt-image-2", "prompt": "a cat", "n": n, **fields}
    assert (await proxy.request("POST", GENERATIONS, json=asked, key=key))[0] == 200


async def page(proxy: RunningProxy, query: str, key: str = MEMBER_KEY) -> tuple[list[str], bool]:
    """Ask for a page; give its ids and whether there is more."""
    found = await proxy.get(f"/v1/images?{query}", key)
    ids = [image["id"] for image in found["data"]]
    assert found["object"] == "list"
    assert (found["first_id"], found["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, found["has_more"]


async def test_pages_lead_through_the_whole_list_both_ways(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Newest first or oldest first, forwards by `after` and backwards by `before`: each image once."""
    for n in (3, 2, 2):
        await make(proxy, upstream, n=n)
    newest, _ = await page(proxy, "limit=100")
    assert newest == sorted(newest, reverse=True)
    for order, everything in (("desc", newest), ("asc", newest[::-1])):
        walked: list[str] = []
        more = True
        while more:
            after = f"&after={walked[-1]}" if walked else ""
            ids, more = await page(proxy, f"limit=3&order={order}{after}")
            walked += ids
        assert walked == everything
        ids, more = await page(proxy, f"limit=3&order={order}&before={walked[-1]}")
        assert (ids, more) == (everything[-4:-1], True)
        assert await page(proxy, f"limit=3&order={order}&before={ids[0]}") == (everything[:3], False)
        assert await page(proxy, f"order={order}&before={everything[0]}") == ([], False)


async def test_a_page_holds_twenty_unless_asked(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """And says so when there is more; an exact fit has no more."""
    for n in (10, 10, 1):
        await make(proxy, upstream, n=n)
    ids, more = await page(proxy, "")
    assert (len(ids), more) == (20, True)
    assert (await page(proxy, "limit=21"))[1] is False
    assert (await page(proxy, "limit=1"))[1] is True


async def test_an_empty_list(proxy: RunningProxy) -> None:
    """It has the same form, with nulls."""
    found = await proxy.get("/v1/images")
    assert found == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_filters(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """By owner (`me` or a name) and model, alone and together; who or what does not exist has no images."""
    await make(proxy, upstream, MEMBER_KEY)
    await make(proxy, upstream, MEMBER_KEY, model="flux-dev")
    await make(proxy, upstream, OTHER_KEY, n=2)

    async def count(query: str, key: str = MEMBER_KEY) -> int:
        return len((await page(proxy, query, key))[0])

    assert [await count(f"owner={owner}") for owner in ("me", "bob", "carol", "alice", "nobody")] == [
        2,
        2,
        2,
        0,
        0,
    ]
    assert [await count("owner=me", key) for key in (OTHER_KEY, VIEWER_KEY, ADMIN_KEY)] == [2, 0, 0]
    assert [await count(f"model={model}") for model in ("gpt-image-2", "flux-dev", "gpt")] == [3, 1, 0]
    assert [await count("owner=bob&model=flux-dev"), await count("owner=carol&model=flux-dev")] == [1, 0]
    (image,) = await listed(proxy, "?model=flux-dev")
    assert (image["owner"], image["prompt"]) == ("bob", "a cat")


async def test_search(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """By words, beginnings and phrases, with every other filter; an image is found as soon as it is made."""
    for key, prompt in ((MEMBER_KEY, "A red fox"), (OTHER_KEY, "Foxgloves, ein Fuchs"), (OTHER_KEY, "a cat")):
        await make(proxy, upstream, key, prompt=prompt)

    async def prompts(query: str, key: str = MEMBER_KEY) -> list[str]:
        return [image["prompt"] for image in await listed(proxy, f"?{query}", key)]

    assert await prompts("q=fox") == ["A red fox"]
    assert await prompts("q=FOX*") == ["Foxgloves, ein Fuchs", "A red fox"]
    assert await prompts("q=fox*&order=asc") == ["A red fox", "Foxgloves, ein Fuchs"]
    assert await prompts("q=%22red+fox%22") == await prompts("q=fox+red") == ["A red fox"]
    assert await prompts("q=%22fox+red%22") == await prompts("q=red+cat") == []
    assert await prompts("q=fox*&owner=carol") == ["Foxgloves, ein Fuchs"]
    assert await prompts("q=x" + "x" * 255) == []
    first = (await listed(proxy, "?q=fox*&limit=1"))[0]["id"]
    assert await prompts(f"q=fox*&after={first}") == ["A red fox"]
    (hidden,) = await listed(proxy, "?q=fuchs", OTHER_KEY)
    for said, found in (({"visibility": "private"}, 0), ({"visibility": "team"}, 1)):
        await proxy.request("POST", f"/v1/images/{hidden['id']}", json=said, key=OTHER_KEY)
        assert len(await prompts("q=fuchs")) == found
        assert len(await prompts("q=fuchs", OTHER_KEY)) == len(await prompts("q=fuchs", ADMIN_KEY)) == 1
    await proxy.request("DELETE", f"/v1/images/{hidden['id']}", key=OTHER_KEY)
    assert await prompts("q=fuchs", OTHER_KEY) == await prompts("q=fuchs&deleted=true") == []
    assert len(await prompts("q=fuchs&deleted=true", OTHER_KEY)) == 1


async def test_times_are_half_open(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """`since` ≤ t < `until`, as seconds or as ISO-8601 with any offset; a bare date is its first moment in UTC."""
    await make(proxy, upstream)
    await asyncio.sleep(0.002)  # an id keeps milliseconds
    await make(proxy, upstream)
    late, early = (await page(proxy, ""))[0]
    at_s = id_time_us(late) / 1_000_000
    moment = datetime.fromtimestamp(at_s, UTC)
    iso = [moment.isoformat().replace("+00:00", end) for end in ("Z", "%2B00:00", "")]
    for text in (f"{at_s:.3f}", *iso, moment.isoformat(" ", "milliseconds").replace("+00:00", "Z")):
        assert await page(proxy, f"since={text}") == ([late], False)
        assert await page(proxy, f"until={text}") == ([early], False)
        assert await page(proxy, f"since={text}&until={text}") == ([], False)
    today = f"{moment:%Y-%m-%d}"
    assert len((await page(proxy, f"since={today}"))[0]) == 2
    assert len((await page(proxy, f"until={today}"))[0]) == 0
    assert len((await page(proxy, f"since={at_s - 3600:.0f}&until={time.time() + 3600:.0f}"))[0]) == 2


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *[(f"limit={value}", "limit") for value in ("0", "101", "-1", "1.5", "x", "", "٣", "9" * 5000)],
        *[(f"order={value}", "order") for value in ("up", "", "DESC")],
        *[(f"{name}=img_1", name) for name in ("after", "before")],
        ("after=req_" + "0" * 26, "after"),
        ("after=img_" + "0" * 26 + "&before=img_" + "0" * 26, "before"),
        *[
            (f"{name}={value}", name)
            for name in ("since", "until")
            for value in ("yesterday", "", "nan", "inf", "-1", "1e99", "2026-13-01", "2026-11-21T25:00")
        ],
        ("owner=", "owner"),
        ("owner=" + "x" * 300, "owner"),
        ("model=", "model"),
        *[(f"q={value}", "q") for value in ("", "*", "%22%22", "%00-", "x" * 257)],
        ("per_page=5", "per_page"),
        ("Limit=5", "Limit"),
        ("limit=5&page=2", "page"),
    ],
)
async def test_a_bad_query_is_named(proxy: RunningProxy, query: str, param: str) -> None:
    """A filter that is not understood never answers with everything."""
    status, _, body = await proxy.request("GET", f"/v1/images?{query}")
    error = error_of(body)
    assert (status, error["code"], error["param"]) == (400, "invalid_value", param)


async def test_an_image_describes_itself(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Alone as in a list; its link is for its owner and for admins."""
    await make(proxy, upstream, quality="low", size="1024x1024")
    (image,) = await listed(proxy)
    assert await proxy.get(f"/v1/images/{image['id']}") == image
    assert (image["object"], image["kind"], image["visibility"], image["size"]) == (
        "image",
        "generation",
        "team",
        "8x8",
    )
    assert abs(image["created"] - time.time()) < 60
    assert "/i/" in image["url"]
    assert (await listed(proxy, key=ADMIN_KEY))[0]["url"] == image["url"]
    for key in (OTHER_KEY, VIEWER_KEY):
        assert (await listed(proxy, key=key))[0] == {**image, "url": None}


@pytest.mark.parametrize("visibility", ["private", "team", "public"])
async def test_who_sees_what(proxy_with: ProxyWith, upstream: ScriptedUpstream, visibility: str) -> None:
    """A private image is for its owner and for admins, in every list and under every address."""
    proxy = await proxy_with(gallery={"visibility": visibility})
    await make(proxy, upstream)
    ((image,), _) = await page(proxy, "")
    for key in (MEMBER_KEY, ADMIN_KEY, OTHER_KEY, VIEWER_KEY):
        sees = key in {MEMBER_KEY, ADMIN_KEY} or visibility != "private"
        assert len((await page(proxy, "", key))[0]) == sees
        assert len((await page(proxy, "owner=bob", key))[0]) == sees
        for path in (f"/v1/images/{image}", f"/v1/images/{image}/content"):
            assert ((await proxy.request("GET", path, key=key))[0] == 200) == sees


@pytest.mark.parametrize("end", ["", "/content"])
async def test_what_one_may_not_see_answers_as_what_does_not_exist(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, end: str
) -> None:
    """Byte for byte, so that nobody can find out which ids exist."""
    proxy = await proxy_with(gallery={"visibility": "private"})
    await make(proxy, upstream)
    ((hidden,), _) = await page(proxy, "")
    unknown = hidden[:-1] + ("0" if hidden[-1] != "0" else "1")
    answers = []
    for image in (hidden, unknown):
        status, headers, body = await proxy.request("GET", f"/v1/images/{image}{end}", key=OTHER_KEY)
        lower = {name.lower(): value for name, value in headers.items()}
        told = {name: value for name, value in lower.items() if name not in {"date", "x-request-id"}}
        answers.append((status, told, body.replace(image.encode(), b"ID")))
    assert answers[0] == answers[1]
    assert (answers[0][0], error_of(answers[0][2])["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "image", ["x", "img_", "img_" + "z" * 26, "req_" + "0" * 26, "img_" + "0" * 27, "%2e%2e", "%00"]
)
async def test_an_id_that_is_none_does_not_exist(proxy: RunningProxy, image: str) -> None:
    """Nothing but a well-formed id is ever looked up."""
    for end in ("", "/content"):
        status, _, body = await proxy.request("GET", f"/v1/images/{image}{end}")
        assert (status, error_of(body)["type"]) == (404, "invalid_request_error")


NO_LIMITS: dict[str, float | None] = dict.fromkeys(
    (
        "requests_per_minute", "images_per_minute", "concurrent_requests", "images_per_day", "usd_per_day",
        "usd_per_month", "usd_total",
    )
)  # fmt: skip


async def test_who_am_i(proxy_with: ProxyWith) -> None:
    """Name, role and limits of the key's user."""
    proxy = await proxy_with(limits={"requests_per_minute": 7, "usd_per_month": 12.5})
    told = await proxy.get("/v1/me", VIEWER_KEY)
    assert told.pop("id").startswith("usr_")
    assert told == {
        "object": "user",
        "name": "dan",
        "role": "viewer",
        "limits": {**NO_LIMITS, "requests_per_minute": 7, "usd_per_month": 12.5},
        "key_limits": NO_LIMITS,
        "team_limits": NO_LIMITS,
    }


async def test_lists_are_kept_by_no_shared_cache(proxy: RunningProxy) -> None:
    """One user's view must never be another's."""
    for path in ("/v1/images", "/v1/me", "/v1/models"):
        _, headers, _ = await proxy.request("GET", path)
        assert (headers["Cache-Control"], headers["Vary"]) == ("private, no-store", "Authorization, Cookie")


async def test_the_sdk_can_read_our_errors(proxy: RunningProxy) -> None:
    """Our own routes answer so that an OpenAI client understands them."""
    with pytest.raises(openai.BadRequestError) as caught:
        await proxy.sdk().get("/images?limit=0", cast_to=object)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "limit")
