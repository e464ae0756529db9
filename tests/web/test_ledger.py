"""GET /v1/requests: what was asked for, what became of it and what it cost, each for whom it concerns."""

from __future__ import annotations

from typing import Any

from pixie_proxy.records import new_id
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, error_json, image_json
from tests.web.calling import GENERATIONS, error_of

USAGE = {
    "input_tokens": 20, "input_tokens_details": {"text_tokens": 20, "image_tokens": 0},
    "output_tokens": 196, "total_tokens": 216,
}  # fmt: skip
COST_USD = 0.00598  # 20 × $5 and 196 × $30 per million


async def buy(
    proxy: RunningProxy, upstream: ScriptedUpstream, key: str = MEMBER_KEY, n: int = 1, **fields: Any
) -> str:
    """Make a call; give its request id."""
    upstream.script(image_json(n, usage=USAGE))
    asked = {
        "model": "gpt-image-2",
        "prompt": "a cat",
        "size": "1024x1024",
        "quality": "low",
        "n": n,
        **fields,
    }
    status, headers, body = await proxy.request("POST", GENERATIONS, json=asked, key=key)
    assert status == 200, body
    return headers["x-request-id"]


async def ids(proxy: RunningProxy, query: str = "", key: str = MEMBER_KEY) -> list[str]:
    return [call["id"] for call in (await proxy.get(f"/v1/requests?{query}", key))["data"]]


async def test_a_call_and_its_bill(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """It tells what was asked, who asked, what came and what it cost to the micro."""
    request_id = await buy(proxy, upstream, n=2, background="opaque")
    call = await proxy.get(f"/v1/requests/{request_id}")
    images = (await proxy.get("/v1/images"))["data"]
    assert call.pop("duration_s") > 0
    assert call.pop("hold_usd") >= COST_USD
    assert call.pop("key").startswith("key_")
    assert call.pop("created") == images[0]["created"]
    assert call.pop("upstream_request_id")
    assert call == {
        "id": request_id,
        "object": "request",
        "state": "done",
        "kind": "generation",
        "owner": "bob",
        "key_name": "declared",
        "requested_model": "gpt-image-2",
        "model": "gpt-image-2",
        "prompt": "a cat",
        "params": {"size": "1024x1024", "quality": "low", "n": 2, "background": "opaque"},
        "stream": False,
        "images_asked": 2,
        "images": sorted(image["id"] for image in images),
        "cost_usd": COST_USD,
        "usage": USAGE,
        "error": None,
        "flags": [],
    }
    assert (await proxy.get("/v1/requests"))["data"][0]["id"] == request_id


async def test_failures_are_in_it_and_free(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """A call that the upstream refused stands there with its error; one that we refused is no row."""
    upstream.script(error_json(400, code="moderation_blocked"))
    status, headers, _ = await proxy.request("POST", GENERATIONS, json={"prompt": "no"})
    assert status == 400
    call = await proxy.get(f"/v1/requests/{headers['x-request-id']}")
    assert (call["state"], call["cost_usd"], call["images"]) == ("failed", 0, [])
    assert "moderation_blocked" in call["error"]
    await proxy.request("POST", GENERATIONS, json={"prompt": ""})
    assert await ids(proxy) == [call["id"]]
    assert await ids(proxy, "state=failed") == [call["id"]]
    assert await ids(proxy, "state=done") == []


async def test_everyone_sees_their_own_and_admins_all(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Another's call is as one that does not exist: by id, by owner's name, by key, and in the list."""
    mine, theirs = await buy(proxy, upstream), await buy(proxy, upstream, OTHER_KEY)
    assert await ids(proxy) == [mine]
    assert await ids(proxy, "owner=me") == [mine]
    assert await ids(proxy, key=OTHER_KEY) == [theirs]
    assert await ids(proxy, key=VIEWER_KEY) == []
    assert await ids(proxy, key=ADMIN_KEY) == [theirs, mine]
    assert await ids(proxy, "owner=bob", ADMIN_KEY) == [mine]
    key = (await proxy.get(f"/v1/requests/{theirs}", ADMIN_KEY))["key"]
    assert await ids(proxy, f"key={key}", ADMIN_KEY) == [theirs]
    for query in ("owner=carol", "owner=nobody", f"key={key}", f"owner=carol&key={key}"):
        assert await ids(proxy, query) == [], query
    unknown = await proxy.request("GET", f"/v1/requests/{new_id('req')}")
    for request_id in (theirs, "req_x", "img_" + theirs[4:]):
        status, _, body = await proxy.request("GET", f"/v1/requests/{request_id}")
        assert (status, error_of(body)) == (404, error_of(unknown[2]))


async def test_pages_and_filters(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """As every list: both ways by id, by model, kind and time; what is misspelt is an error."""
    made = [await buy(proxy, upstream, model=model) for model in ("gpt-image-2", "flux-dev", "gpt-image-2")]
    newest = made[::-1]
    assert await ids(proxy) == newest
    assert await ids(proxy, "order=asc&limit=2") == made[:2]
    assert await ids(proxy, f"after={newest[0]}") == newest[1:]
    assert await ids(proxy, f"before={newest[2]}&limit=1") == newest[1:2]
    assert await ids(proxy, "model=flux-dev") == made[1:2]
    assert await ids(proxy, "kind=edit") == []
    assert await ids(proxy, "until=2026-01-01") == []
    for query, param in (
        ("stat=done", "stat"),
        ("state=lost", "state"),
        ("after=img_x", "after"),
        ("limit=0", "limit"),
    ):
        status, _, body = await proxy.request("GET", f"/v1/requests?{query}")
        assert (status, error_of(body)["param"]) == (400, param)
