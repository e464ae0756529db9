"""What a request would cost, asked without making it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream
from tests.web.calling import (
    GENERATIONS,
    account,
    context_of,
    error_of,
    ledger_rows,
    post_form,
)
from tests.web.conftest import ProxyWith

ESTIMATE = "/v1/images/estimate"
IMAGE = {"image_url": "data:image/png;base64,AAAA"}


async def ask(proxy: RunningProxy, fields: dict[str, Any], key: str = MEMBER_KEY) -> dict[str, Any]:
    """Ask for an estimate that must be given."""
    return await _json(await proxy.request("POST", ESTIMATE, json={"prompt": "a cat", **fields}, key=key))


async def _json(answer: Any) -> dict[str, Any]:
    status, _, body = answer
    assert status == 200, body
    said: dict[str, Any] = json.loads(body)
    return said


async def test_an_estimate_of_what_is_named(proxy: RunningProxy) -> None:
    """Size and quality make it exact but for the prompt's tokens; the prices it counts with stand beside it."""
    said = await ask(proxy, {"size": "1024x1024", "quality": "low", "n": 2, "partial_images": 1})
    assert said == {
        "object": "estimate",
        "model": "gpt-image-2",
        "requested_model": None,
        "images": 2,
        "inputs": 0,
        "currency": "usd",
        "estimated_usd": 2 * (296 * 30 + 2 * 5) / 1e6,
        "ceiling_usd": 2 * (296 * 30 + 5 * 5) / 1e6,
        "open": [],
        "priced": True,
        "prices": {
            "currency": "usd",
            "unit": "million_tokens",
            "text_in": 5.0,
            "cached_text_in": 1.25,
            "image_in": 8.0,
            "cached_image_in": 2.0,
            "image_out": 30.0,
            "text_out": None,
        },
    }


@pytest.mark.parametrize(
    ("fields", "open_fields", "ceiling_micros"),
    [
        ({}, ["size", "quality"], 23719 * 30),
        ({"size": "auto", "quality": "low"}, ["size"], 659 * 30),
        ({"size": "1024x1024", "quality": "ultra"}, ["quality"], 7024 * 30),
        ({"size": "1024x1024", "quality": "low", "output_format": "gif"}, [], 23719 * 30),
        ({"size": "1024x1024", "model": "gpt-image-2.6-flare"}, [], 720_000),
    ],
)
async def test_what_is_open_has_a_ceiling_only(
    proxy: RunningProxy, fields: dict[str, Any], open_fields: list[str], ceiling_micros: int
) -> None:
    """It is the hold of that very call, and says which fields would lower it."""
    said = await ask(proxy, fields)
    assert (said["estimated_usd"], said["open"]) == (None, open_fields)
    assert said["ceiling_usd"] == (ceiling_micros + 25) / 1e6
    status, _, body = await proxy.request("POST", GENERATIONS, json={"prompt": "a cat", **fields})
    assert status == 200, body
    (row,) = await ledger_rows(proxy)
    assert row.call.hold_micros == round(said["ceiling_usd"] * 1e6)


async def test_inputs_are_counted_in_both_forms(proxy: RunningProxy) -> None:
    """References in JSON, files in a form, the mask too; no file of it stays behind."""
    named = {"size": "1024x1024", "quality": "low"}
    by_json = await ask(proxy, {**named, "images": [IMAGE, IMAGE], "mask": IMAGE})
    parts = [("prompt", b"a cat"), *[(name, value.encode()) for name, value in named.items()]]
    status, body = await post_form(
        proxy,
        *parts,
        ("image[]", png(), "a.png"),
        ("image[]", png(), "b.png"),
        ("mask", png(), "m.png"),
        path=ESTIMATE,
    )
    by_form = await _json((status, {}, body))
    assert by_form == by_json
    assert (by_json["inputs"], by_json["ceiling_usd"]) == (3, (196 * 30 + 3 * 6821 * 8 + 25) / 1e6)
    assert by_json["estimated_usd"] == (196 * 30 + 3 * 1457 * 8 + 2 * 5) / 1e6
    assert list(context_of(proxy).spool.uploads.iterdir()) == []


async def test_an_estimate_takes_nothing(proxy_with: ProxyWith, upstream: ScriptedUpstream) -> None:
    """A viewer may ask, and somebody without a token left; no bucket, row or upstream hears of it."""
    proxy = await proxy_with(limits={"requests_per_minute": 1, "images_per_minute": 1, "usd_per_day": 0.01})
    assert (await proxy.request("POST", GENERATIONS, json={"prompt": "a cat"}))[0] in {200, 429}
    calls, before, rows = len(upstream.requests), await account(proxy), len(await ledger_rows(proxy))
    for _ in range(5):
        assert (await ask(proxy, {"n": 10}))["images"] == 10
    assert (await ask(proxy, {}, VIEWER_KEY))["priced"]
    assert (len(upstream.requests), await account(proxy), len(await ledger_rows(proxy))) == (
        calls,
        before,
        rows,
    )


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"n": 11}, 400, "invalid_value", "n"),
        ({"prompt": ""}, 400, "invalid_value", "prompt"),
        ({"prompt": None}, 400, "missing_required_parameter", "prompt"),
        ({"images": [{"file_id": "file-1"}]}, 400, "invalid_value", "images"),
        ({"model": "flux"}, 403, "model_not_allowed", "model"),
    ],
)
async def test_it_refuses_what_the_real_route_refuses(
    proxy_with: ProxyWith, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    """With the same answer."""
    proxy = await proxy_with(models={"allow": ["gpt-image-2"]})
    sent = {"prompt": "a cat", **fields}
    answers = [await proxy.request("POST", path, json=sent) for path in (ESTIMATE, "/v1/images/edits")]
    for found, _, body in answers:
        error = error_of(body)
        assert (found, error["code"], error["param"]) == (status, code, param)
    assert answers[0][2] == answers[1][2]


async def test_an_estimate_through_an_alias_and_without_a_price(proxy_with: ProxyWith) -> None:
    """It is for what would be sent, and says what was changed; without a price there is no figure."""
    proxy = await proxy_with(
        models={"aliases": {"dall-e-3": "gpt-image-2"}, "prices": {"flux": {"usd_per_image": 0.04}}}
    )
    fields = {"prompt": "a cat", "model": "dall-e-3", "quality": "hd", "size": "1024x1024"}
    status, headers, body = await proxy.request("POST", ESTIMATE, json=fields)
    said = await _json((status, headers, body))
    assert (said["model"], said["requested_model"]) == ("gpt-image-2", "dall-e-3")
    assert said["estimated_usd"] == (7024 * 30 + 2 * 5) / 1e6
    assert headers["x-pixie-translated"] == "model=dall-e-3->gpt-image-2, quality=hd->high"
    flat = await ask(proxy, {"model": "flux", "n": 3})
    assert (flat["estimated_usd"], flat["ceiling_usd"]) == (0.12, 0.12)
    assert flat["prices"] == {"currency": "usd", "unit": "image", "image": 0.04}
    unpriced = await ask(proxy, {"model": "sd-xl"})
    assert (unpriced["priced"], unpriced["estimated_usd"], unpriced["ceiling_usd"]) == (False, None, None)
    assert unpriced["prices"] is None
