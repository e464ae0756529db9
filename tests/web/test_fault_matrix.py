"""R31: whatever the upstream does wrong, clients get their pictures or a proper error, soon, and the ledger closes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json

import pytest

from tests.support.outside import stored
from tests.support.proxy import RunningProxy
from tests.support.upstream import Exchange, ScriptedUpstream, refused_base_url
from tests.web.broken_answers import FAULTS, PICTURES, Ask, Fault, ask_of
from tests.web.calling import (
    CAT,
    EDITS,
    FORM_TYPE,
    GENERATIONS,
    RawAnswer,
    account,
    error_of,
    form,
    http,
    ledger_rows,
    raw_call,
)
from tests.web.conftest import ProxyWith
from tests.web.faulty_calls import ASKS, HAT, by_sdk, check_sdk

DIGESTS = {hashlib.sha256(picture).hexdigest() for picture in PICTURES}
IMPATIENT = {"connect_timeout_s": 0.7, "idle_timeout_s": 0.7}
"""An upstream may be silent for 0.7 s, and drip for four times that."""
PATIENT = {"connect_timeout_s": 5, "idle_timeout_s": 10}
BOUND_S = 20
"""Far less than a PATIENT proxy would wait for a drip; the rest is a slow machine's."""


async def by_hand(proxy: RunningProxy, ask: Ask) -> RawAnswer:
    """Call over a bare socket, to see how the answer's framing ends."""
    if not ask.is_edit:
        return await raw_call(proxy.url, http(GENERATIONS, {**CAT, "n": 2, "stream": ask.is_stream}))
    texts = {**CAT, "n": "2", "stream": str(ask.is_stream).lower()}
    parts = [(name, value.encode()) for name, value in texts.items()]
    return await raw_call(proxy.url, http(EDITS, form(*parts, ("image", HAT, "a.png")), headers=FORM_TYPE))


def check_framing(answer: RawAnswer, fault: Fault, ask: Ask) -> None:
    if fault.end == "any":
        return
    if answer.status != 200:
        assert fault.end != "images"
        assert answer.end == "whole"
        assert error_of(answer.body)["code"] == fault.code
        return
    assert answer.headers["content-type"].startswith(ask.type)
    is_refused = fault.end == "failed"  # in a stream, an event of the upstream's own
    assert (answer.end == "whole") == (fault.end == "images" or (is_refused and ask.is_stream)), answer.end
    if fault.end == "images" and not ask.is_stream:
        data = json.loads(answer.body)["data"]
        assert [base64.b64decode(item["b64_json"], validate=True) for item in data] == list(fault.gives)


async def check(proxy: RunningProxy, fault: Fault) -> None:
    """Call in every form at once, and look at what the clients got, at the ledger and at the pictures."""
    async with asyncio.timeout(BOUND_S):
        by_sdks, by_hands = await asyncio.gather(
            asyncio.gather(*[by_sdk(proxy.sdk(), ask) for ask in ASKS]),
            asyncio.gather(*[by_hand(proxy, ask) for ask in ASKS]),
        )
    for ask, found, answer in zip(ASKS, by_sdks, by_hands, strict=True):
        check_sdk(found, fault, ask)
        check_framing(answer, fault, ask)
    rows = await ledger_rows(proxy)
    states = {"images": {"done"}, "unknown": {"unknown"}, "failed": {"failed"}, "any": {"done", "unknown"}}
    assert {row.state for row in rows} <= states[fault.end]
    assert [not row.cost_micros for row in rows] == [fault.end == "failed"] * 8
    taken = await account(proxy)
    assert (taken.in_flight, taken.held_micros) == (0, 0)
    assert taken.spent_life_micros == sum(row.cost_micros or 0 for row in rows)
    if fault.end == "any":
        return
    digests = [hashlib.sha256(picture).hexdigest() for picture in fault.gives[: fault.kept]]
    found_digests = [digest for digest in stored(proxy.data_dir).values() if digest in DIGESTS]
    assert sorted(found_digests) == sorted(digests * 8)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
async def test_an_upstream_that_does_wrong(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, fault: Fault, no_backoff: list[int]
) -> None:
    """For document and stream, generation and edit, to the SDK and over a bare socket."""
    proxy = await proxy_with(upstream=IMPATIENT if fault.is_slow else PATIENT)

    async def answer(exchange: Exchange) -> None:
        if fault.before_body:
            exchange.request.body = await exchange.reader.read(2000)
        await exchange.play(fault.script(ask_of(exchange.request)))

    upstream.default(answer, before_body=fault.before_body)
    await check(proxy, fault)
    assert len(upstream.requests) == 8 * fault.sends


@pytest.mark.parametrize("where", ["nobody listens", "no such name", "TLS to a server without"], ids=str)
async def test_an_upstream_that_is_not_there(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, where: str, no_backoff: list[int]
) -> None:
    """Nothing was sent: free, and safe to try again."""
    url = {
        "nobody listens": refused_base_url(),
        "no such name": "http://upstream.invalid/v1",
        "TLS to a server without": upstream.base_url.replace("http:", "https:"),
    }[where]
    proxy = await proxy_with(url, upstream=IMPATIENT)
    await check(proxy, Fault(lambda _: [], "failed", code="upstream_unreachable"))
    assert upstream.charged == 0
