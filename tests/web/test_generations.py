"""POST /v1/images/generations through the official SDK."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from pixie_proxy.pricing import cost_micros, usage_from_json
from tests.support.pictures import gif, jpeg, png, svg, webp
from tests.support.proxy import RunningProxy
from tests.support.upstream import ScriptedUpstream, body, head, image_json, image_json_bytes, usage_of
from tests.web.calling import (
    CAT,
    GENERATIONS,
    AnySdk,
    account,
    context_of,
    files_of,
    kept,
    ledger_rows,
    listed,
)


async def test_an_sdk_gets_its_image_and_the_team_keeps_it(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk
) -> None:
    """What the upstream sent is what the SDK gets and what the storage holds."""
    picture = png(64, 64)
    upstream.script(image_json([picture]))
    assert files_of(await sdk.images("generate", **CAT)) == [picture]
    (image,) = await listed(proxy)
    status, headers, body = await proxy.request("GET", f"/v1/images/{image['id']}/content")
    assert (status, headers["Content-Type"], body) == (200, "image/png", picture)


async def test_four_images_are_kept_in_their_order(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk
) -> None:
    """n=4 gives four images of one call, each at its position and of its own type."""
    pictures = [png(16, 8), jpeg(8, 24), webp(32, 8), png(size_bytes=200_000)]
    upstream.script(image_json(pictures))
    assert files_of(await sdk.images("generate", n=4, **CAT)) == pictures
    assert await kept(proxy) == pictures
    images = sorted(await listed(proxy), key=lambda image: image["index"])
    assert [image["index"] for image in images] == [0, 1, 2, 3]
    assert [image["format"] for image in images] == ["png", "jpeg", "webp", "png"]
    assert [image["size"] for image in images] == ["16x8", "8x24", "32x8", "8x8"]
    assert len({image["request_id"] for image in images}) == 1


async def test_every_field_reaches_the_upstream(
    proxy: RunningProxy, upstream: ScriptedUpstream, sdk: AnySdk
) -> None:
    """Fields that the SDK knows, that nobody knows, and explicit nulls go on as they came."""
    known: dict[str, Any] = {
        "background": None,
        "moderation": "low",
        "n": None,
        "output_compression": 80,
        "output_format": "jpeg",
        "quality": "max",
        "size": "1536x1024",
        "user": "user-7",
        "safety_identifier": "s-1",
        "svg": {"model": "gpt-5", "reasoning": {"effort": "low"}},
    }
    unknown = {"frobnicate": {"deep": [1, 2.5, None, "ä\n"]}, "seed": 2**63 + 1, "user_data": True}
    await sdk.images("generate", **CAT, **known, extra_body=unknown)
    assert upstream.requests[0].json() == {**CAT, **known, **unknown}
    assert (upstream.requests[0].method, upstream.requests[0].path) == ("POST", GENERATIONS)


async def test_the_list_says_how_an_image_was_made(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Prompt, model, parameters, revised prompt and owner stand beside each image."""
    data = [{"b64_json": "iVBORw0KGgo=", "revised_prompt": f"a fine cat, {n}"} for n in range(2)]
    upstream.script(image_json(2, data=data))
    await proxy.sdk().images.generate(**CAT, n=2, quality="high", background="opaque")
    images = sorted(await listed(proxy), key=lambda image: image["index"])
    assert [image["revised_prompt"] for image in images] == ["a fine cat, 0", "a fine cat, 1"]
    told = {
        "prompt": "a cat",
        "model": "gpt-image-2",
        "quality": "high",
        "background": "opaque",
        "owner": "bob",
    }
    assert all(told.items() <= image.items() for image in images)


async def test_a_call_is_billed_at_the_tokens_that_the_upstream_reported(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """The ledger's cost is the price of the answer's usage; the images' shares add up to it; no hold is left."""
    upstream.script(image_json(3))
    await proxy.sdk().images.generate(**CAT, n=3)
    rates, usage = context_of(proxy).prices.rates("gpt-image-2"), usage_from_json(usage_of(3))
    assert rates is not None
    assert usage is not None
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.cost_micros, row.usage) == ("done", cost_micros(usage, rates, 3), usage_of(3))
    assert round(sum(image["cost_usd"] for image in await listed(proxy)) * 1e6) == row.cost_micros
    taken = await account(proxy)
    assert (taken.held_micros, taken.in_flight, taken.spent_day_micros) == (0, 0, row.cost_micros)


async def test_an_answer_without_usage_is_billed_at_its_hold(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Nothing counts as free because the upstream did not say; the row is flagged."""
    upstream.script(image_json(1, usage=False))
    assert len(files_of(await proxy.sdk().images.generate(**CAT))) == 1
    (row,) = await ledger_rows(proxy)
    assert (row.state, row.flags) == ("done", ("no_usage",))
    assert row.cost_micros == row.call.hold_micros > 0


@pytest.mark.parametrize(("picture", "mime"), [(gif(), "image/gif"), (svg(), "image/svg+xml")])
async def test_moving_and_drawn_images_are_kept_as_what_they_are(
    proxy: RunningProxy, upstream: ScriptedUpstream, picture: bytes, mime: str
) -> None:
    """The type is the bytes' own, whatever `output_format` says, and no browser runs what is in them."""
    upstream.script(image_json([picture], output_format="png"))
    assert files_of(await proxy.sdk().images.generate(**CAT)) == [picture]
    (image,) = await listed(proxy)
    status, headers, body = await proxy.request("GET", image["content_url"])
    assert (status, headers["Content-Type"], body) == (200, mime, picture)
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("framing", ["length", "chunked", "eof"])
@pytest.mark.parametrize("size_bytes", [1_000, 3_000_000])
async def test_the_framing_of_the_upstream_does_not_matter(
    proxy: RunningProxy, upstream: ScriptedUpstream, framing: Any, size_bytes: int
) -> None:
    """With a length, in chunks or up to the end of the connection: the body is the same."""
    upstream.script(image_json([png(size_bytes=size_bytes)], framing=framing, chunk=7919))
    status, _, body = await proxy.request("POST", GENERATIONS, json=CAT)
    assert (status, body) == (200, image_json_bytes([png(size_bytes=size_bytes)]))


async def test_a_packed_answer_is_unpacked(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """We ask for plain bytes; a server that packs them all the same is understood."""
    packed = gzip.compress(image_json_bytes([png(size_bytes=100_000)]))
    headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]
    upstream.script(head(200, headers), body(packed))
    _, answer, got = await proxy.request("POST", GENERATIONS, json=CAT)
    assert (got, "Content-Encoding" in answer) == (image_json_bytes([png(size_bytes=100_000)]), False)
    assert await kept(proxy) == [png(size_bytes=100_000)]
    assert upstream.requests[0].header("accept-encoding") == "identity"
