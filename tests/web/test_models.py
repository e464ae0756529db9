"""Which model a call is for: the default, aliases, what is allowed, and the list of them."""

from __future__ import annotations

from datetime import date
from typing import Any

import openai
import pytest

from tests.support.pictures import png
from tests.support.proxy import RunningProxy
from tests.support.upstream import ScriptedUpstream
from tests.web.calling import GENERATIONS, error_of, ledger_rows, listed, post_form
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


async def test_a_model_that_is_not_offered_is_not_found(proxy: RunningProxy) -> None:
    """It answers as OpenAI does, so that SDKs raise their own NotFoundError."""
    with pytest.raises(openai.NotFoundError) as caught:
        await proxy.sdk().models.retrieve("gpt-image-9")
    assert (caught.value.code, caught.value.param) == ("not_found", "model")
