"""Which model a call is for: the default, aliases, what is allowed, and the list of them."""

from __future__ import annotations

from datetime import date
from typing import Any

import openai
import pytest

from tests.support.pictures import png
from tests.support.proxy import RunningProxy
from tests.support.upstream import ScriptedUpstream, error_json, image_json
from tests.web.calling import GENERATIONS, context_of, error_of, ledger_rows, listed, post_form
from tests.web.conftest import ProxyWith

NAMES = {"aliases": {"dall-e-3": "gpt-image-2", "ours": "flux-dev"}}


@pytest.mark.parametrize("asked", [{}, {"model": None}, {"model": ""}, {"model": "null"}])
async def test_a_call_without_a_model_gets_the_default(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, asked: dict[str, Any]
) -> None:
    """It is never forwarded bare; the ledger knows that none was asked for."""
    proxy = await proxy_with(models={"default": "gpt-image-2.5-flare"})
    assert (await proxy.request("POST", GENERATIONS, json={"prompt": "a cat", **asked}))[0] == 200
    assert upstream.requests[0].json()["model"] == "gpt-image-2.5-flare"
    parts = [(name, (value or "null").encode()) for name, value in asked.items()]
    assert (await post_form(proxy, ("prompt", b"hat"), ("image", png(), "a.png"), *parts))[0] == 200
    assert [part.data for part in upstream.requests[1].parts if part.name == "model"] == [
        b"gpt-image-2.5-flare"
    ]
    rows = await ledger_rows(proxy)
    assert {(row.call.requested_model, row.call.model) for row in rows} == {(None, "gpt-image-2.5-flare")}


async def test_an_alias_is_resolved_before_anything_else(
    proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """The upstream gets the real name, the ledger keeps both, and the price is the real model's."""
    proxy = await proxy_with(models=NAMES)
    assert (await proxy.request("POST", GENERATIONS, json={"prompt": "a cat", "model": "dall-e-3"}))[0] == 200
    assert upstream.requests[0].json()["model"] == "gpt-image-2"
    (row,) = await ledger_rows(proxy)
    assert (row.call.requested_model, row.call.model) == ("dall-e-3", "gpt-image-2")
    assert row.cost_micros
    assert [image["model"] for image in await listed(proxy)] == ["gpt-image-2"]


@pytest.mark.parametrize(
    ("model", "status"),
    [("gpt-image-2", 200), ("dall-e-3", 200), ("ours", 200), ("flux-dev", 403), ("gpt-image-2.5-flare", 403)],
)
async def test_only_allowed_models_are_served(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, model: str, status: int
) -> None:
    """A model may be allowed by its own name or by an alias, which then allows nothing but itself."""
    proxy = await proxy_with(models={**NAMES, "allow": ["gpt-image-2", "ours"]})
    found, _, body = await proxy.request("POST", GENERATIONS, json={"prompt": "a cat", "model": model})
    assert found == status
    assert len(upstream.requests) == (status == 200)
    if status == 403:
        error = error_of(body)
        assert (error["type"], error["code"], error["param"]) == (
            "permission_error",
            "model_not_allowed",
            "model",
        )
        assert await ledger_rows(proxy) == []


async def test_a_call_by_a_retired_name_is_translated(
    proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """The upstream gets today's words, the client is told which, and what is priced is what is sent; also a form."""
    proxy = await proxy_with(models=NAMES)
    old = {"prompt": "a cat", "model": "dall-e-3", "quality": "hd", "size": "512x512", "style": "vivid"}
    _, headers, _ = await proxy.request("POST", GENERATIONS, json=old)
    said = "model=dall-e-3->gpt-image-2, quality=hd->high, size=512x512->1024x1024, style dropped"
    assert headers["x-pixie-translated"] == said
    new = {"prompt": "a cat", "model": "gpt-image-2", "quality": "high", "size": "1024x1024"}
    assert upstream.requests[0].json() == new
    upstream.script(error_json(400))
    _, refused, _ = await proxy.request("POST", GENERATIONS, json=old)
    assert refused["x-pixie-translated"] == said
    parts = [(name, value.encode()) for name, value in old.items()]
    assert (await post_form(proxy, *parts, ("image", png(), "a.png")))[0] == 200
    sent = {
        part.name: (part.data or b"").decode() for part in upstream.requests[2].parts if part.name != "image"
    }
    assert sent == new
    _, real, _ = await proxy.request("POST", GENERATIONS, json={**old, "model": "gpt-image-2"})
    assert "x-pixie-translated" not in real
    assert upstream.requests[3].json() == {**old, "model": "gpt-image-2"}
    rows = await ledger_rows(proxy)
    assert [row.call.requested_model for row in rows] == ["dall-e-3"] * 3 + ["gpt-image-2"]
    assert [row.call.params for row in rows[:2]] == [{"quality": "high", "size": "1024x1024"}] * 2
    assert rows[0].call.hold_micros == 7024 * 30 + 5 * 5


async def test_an_answer_that_is_given_again_tells_of_its_translation(
    proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """The retry of an old client joins its call, though it is sent in other words, and is told the same."""
    proxy = await proxy_with(models=NAMES)
    old = {"prompt": "a cat", "model": "dall-e-3", "quality": "standard"}
    answers = [
        await proxy.request("POST", GENERATIONS, json=old, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert [headers["x-pixie-translated"] for _, headers, _ in answers] == [
        "model=dall-e-3->gpt-image-2, quality=standard->medium"
    ] * 2
    assert answers[1][1]["idempotent-replayed"] == "true"
    assert {headers["x-pixie-cost-usd"] for _, headers, _ in answers} == {"0.005940"}
    assert len(upstream.requests) == 1


async def test_the_list_of_models(proxy: RunningProxy) -> None:
    """It holds the priced models, in OpenAI's form, with the day on which one shuts down."""
    models = [model async for model in proxy.sdk().models.list()]
    by_id = {model.id: model for model in models}
    assert {"gpt-image-2", "gpt-image-2.5-flare", "gpt-image-2.6-sunburst", "gpt-image-1.5"} <= set(by_id)
    assert by_id["gpt-image-2"].object == "model"
    assert isinstance(by_id["gpt-image-2"].created, int)
    assert (await proxy.get("/v1/models/gpt-image-2"))["shutdown_date"] is None
    assert date.fromisoformat((await proxy.get("/v1/models/gpt-image-1.5"))["shutdown_date"]) == date(
        2026, 12, 1
    )


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"allow": ["gpt-image-2", "ours"], **NAMES}, ["dall-e-3", "gpt-image-2", "ours"]),
        ({"allow": ["flux-dev"], **NAMES}, ["flux-dev", "ours"]),
    ],
)
async def test_the_list_is_what_is_offered(
    proxy_with: ProxyWith, sections: dict[str, Any], expected: list[str]
) -> None:
    """Allowed models and the aliases that lead to them; each can be asked for by itself."""
    proxy = await proxy_with(models=sections)
    found = await proxy.get("/v1/models")
    assert (found["object"], [model["id"] for model in found["data"]]) == ("list", expected)
    for model in expected:
        assert (await proxy.sdk().models.retrieve(model)).id == model


async def test_the_list_says_what_a_model_can_do_and_costs(proxy_with: ProxyWith) -> None:
    """Sizes, qualities, formats and prices of those that are known; an alias says what it stands for."""
    proxy = await proxy_with(
        models={
            **NAMES,
            "allow": ["gpt-image-1.5", "gpt-image-2", "flux-dev"],
            "prices": {"flux-dev": [{"usd_per_image": 1, "since": "2999-01-01"}, {"usd_per_image": 0.04}]},
        }
    )
    by_id = {model["id"]: model for model in (await proxy.get("/v1/models"))["data"]}
    assert set(by_id) == {"dall-e-3", "flux-dev", "gpt-image-1.5", "gpt-image-2", "ours"}
    two = by_id["gpt-image-2"]
    assert (two["alias_of"], two["aliases"]) == (None, ["dall-e-3"])
    assert two["capabilities"]["qualities"] == ["low", "medium", "high"]
    assert (two["capabilities"]["sizes"], two["capabilities"]["size_rules"]["max_edge"]) == (None, 3840)
    assert (two["prices"]["unit"], two["prices"]["image_out"]) == ("million_tokens", 30.0)
    old = by_id["gpt-image-1.5"]["capabilities"]
    assert (old["sizes"], old["size_rules"]) == (["1024x1024", "1024x1536", "1536x1024"], None)
    assert (old["input_fidelity"], old["markup"]) == (["low", "high"], False)
    alias = by_id["dall-e-3"]
    assert (alias["alias_of"], alias["aliases"]) == ("gpt-image-2", [])
    assert (alias["capabilities"], alias["prices"]) == (two["capabilities"], two["prices"])
    assert (by_id["ours"]["alias_of"], by_id["flux-dev"]["aliases"]) == ("flux-dev", ["ours"])
    assert by_id["ours"]["prices"] == {"currency": "usd", "unit": "image", "image": 0.04}
    assert by_id["ours"]["capabilities"] is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "flux-dev"}, "model"),
        ({"output_format": "svg"}, "svg"),
        ({"output_format": "svg", "svg": {"model": "gpt-5.5"}}, "svg"),
        ({"svg": {"model": "gpt-5.5"}}, "svg"),
    ],
)
@pytest.mark.parametrize("budget", ["usd_per_day", "usd_per_month"])
async def test_who_has_a_budget_needs_a_price(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, fields: dict[str, Any], param: str, budget: str
) -> None:
    """What has no price would count as free: it is refused, before anything is sent or taken."""
    proxy = await proxy_with(limits={budget: 100})
    status, _, body = await proxy.request("POST", GENERATIONS, json={"prompt": "a cat", **fields})
    error = error_of(body)
    assert (status, error["code"], error["param"]) == (400, "unpriced_model", param)
    assert fields.get("model", "gpt-5.5" if "svg" in fields else "") in error["message"]
    assert upstream.requests == []
    assert await ledger_rows(proxy) == []


async def test_who_has_none_may_go_without(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """The call is made, flagged in the ledger and counted, and says nothing of a cost; a failed one costs nothing."""
    status, headers, _ = await proxy.request(
        "POST", GENERATIONS, json={"prompt": "a cat", "model": "flux-dev"}
    )
    assert status == 200
    assert "x-pixie-cost-usd" not in headers
    upstream.script(error_json(400))
    await proxy.request("POST", GENERATIONS, json={"prompt": "a cat", "model": "flux-dev"})
    rows = await ledger_rows(proxy)
    assert [(row.flags, row.cost_micros) for row in rows] == [(("unpriced",), 0)] * 2
    assert context_of(proxy).metrics.unpriced_calls.value("other") == 2


async def test_a_price_of_the_settings_is_charged(proxy_with: ProxyWith, upstream: ScriptedUpstream) -> None:
    """So much an image that came, whatever is reported, and nothing is odd about that."""
    proxy = await proxy_with(
        limits={"usd_per_month": 100}, models={"prices": {"flux-dev": {"usd_per_image": 0.04}}}
    )
    upstream.script(image_json(2, usage=False))
    fields = {"prompt": "a cat", "model": "flux-dev", "n": 3}
    _, headers, _ = await proxy.request("POST", GENERATIONS, json=fields)
    (row,) = await ledger_rows(proxy)
    assert (row.call.hold_micros, row.cost_micros, row.flags) == (120_000, 80_000, ())
    assert headers["x-pixie-cost-usd"] == "0.080000"


async def test_a_model_that_is_not_offered_is_not_found(proxy: RunningProxy) -> None:
    """It answers as OpenAI does, so that SDKs raise their own NotFoundError."""
    with pytest.raises(openai.NotFoundError) as caught:
        await proxy.sdk().models.retrieve("gpt-image-9")
    assert (caught.value.code, caught.value.param) == ("not_found", "model")
