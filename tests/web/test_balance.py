"""Budgets over HTTP: what a refusal says, and what is left."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from pixie_proxy.records import bounds, period
from tests.support.proxy import OTHER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, cut, error_json
from tests.web.calling import CAT, GENERATIONS, account, ended, error_of
from tests.web.conftest import ProxyWith

BALANCE = "/v1/credits/balance"
FLAT = {"prices": {"gpt-image-2": {"usd_per_image": 0.04}}}
NOTHING = dict.fromkeys(("limit_usd", "spent_usd", "held_usd", "remaining_usd", "resets_at"))


async def test_who_has_no_budget_has_no_balance(proxy: RunningProxy) -> None:
    """Null, not 0."""
    expected: dict[str, Any] = {"object": "balance", "currency": "usd", **NOTHING, "budgets": []}
    assert await proxy.get(BALANCE) == expected


async def test_a_balance_tells_the_tightest_budget_and_all(
    proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """Done, refused and unknown calls, each as it is booked; the team's budget has been shared."""
    proxy = await proxy_with(
        models=FLAT, limits={"usd_per_day": 1, "usd_total": 9}, team={"usd_per_month": 1}
    )
    assert (await proxy.request("POST", GENERATIONS, json=CAT))[0] == 200
    assert (await proxy.request("POST", GENERATIONS, json=CAT, key=OTHER_KEY))[0] == 200
    upstream.script(*error_json(400))
    assert (await proxy.request("POST", GENERATIONS, json={**CAT, "prompt": "no"}))[0] == 400
    upstream.script(cut())
    assert (await proxy.request("POST", GENERATIONS, json={**CAT, "prompt": "cut"}))[0] == 502
    await ended(proxy)
    now = period(time.time_ns() // 1000)
    day, month = (bounds(now[each])[1] // 1_000_000 for each in ("day", "month"))

    def left(limit: float, spent: float, resets_at: int | None) -> dict[str, Any]:
        return {
            "limit_usd": limit,
            "spent_usd": spent,
            "held_usd": 0,
            "remaining_usd": round(limit - spent, 6),
            "resets_at": resets_at,
        }

    said = await proxy.get(BALANCE)
    assert said.pop("budgets") == [
        {"subject": "team", "period": "month", **left(1, 0.12, month)},
        {"subject": "user", "period": "day", **left(1, 0.08, day)},
        {"subject": "user", "period": "total", **left(9, 0.08, None)},
    ]
    assert said == {"object": "balance", "currency": "usd", **left(1, 0.12, month)}


async def test_an_exhausted_budget_is_no_reason_to_try_again(
    proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """The SDK gives up at once, as with OpenAI's own; nothing is sent, taken or charged."""
    proxy = await proxy_with(models=FLAT, limits={"usd_per_month": 0.1})
    sdk = proxy.sdk(max_retries=3)
    for prompt in ("one", "two"):
        await sdk.images.generate(model="gpt-image-2", prompt=prompt)
    await ended(proxy)
    before = await account(proxy)
    with pytest.raises(openai.RateLimitError) as refused:
        await sdk.images.generate(model="gpt-image-2", prompt="three")
    assert (refused.value.type, refused.value.code) == ("insufficient_quota", "budget_exhausted")
    status, headers, body = await proxy.request("POST", GENERATIONS, json=CAT)
    assert (status, headers["x-should-retry"]) == (429, "false")
    assert "Your budget of $0.10 a month has $0.02 left" in error_of(body)["message"]
    assert (await account(proxy), len(upstream.requests)) == (before, 2)


async def test_me_tells_all_limits(proxy_with: ProxyWith) -> None:
    """One's own, the key's and the team's."""
    proxy = await proxy_with(limits={"usd_total": 5}, team={"images_per_day": 70})
    said = await proxy.get("/v1/me")
    assert (said["limits"]["usd_total"], said["team_limits"]["images_per_day"]) == (5, 70)
    assert set(said["key_limits"].values()) == {None}
