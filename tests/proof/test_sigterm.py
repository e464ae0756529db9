"""SIGTERM under load fails nobody: what runs ends well, and connections are closed politely (R93)."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from random import Random

import aiohttp
import pytest

from tests.support.callers import orders, place
from tests.support.figures import RecordFigure
from tests.support.ledgers import compare
from tests.support.proxy import MEMBER_KEY, RunningProxy, spawn_proxy
from tests.support.studio import Studio
from tests.support.upstream import pause
from tests.support.waiting import eventually

SEED = 93
IN_FLIGHT = 200
KEPT_ALIVE = 40
_AUTHORIZED = {"Authorization": f"Bearer {MEMBER_KEY}"}


class KeepAliveClient:
    """Asks for something free over one connection, as long as it is kept alive, and counts what happens."""

    def __init__(self, proxy: RunningProxy, seen: Counter[str]) -> None:
        self._url = f"{proxy.url}/v1/me"
        self._seen = seen
        self._is_reused = False
        self.is_connected = asyncio.Event()

    async def run(self) -> None:
        """Ask until nobody listens any more, which is no failure: somebody else would listen by then."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(self._on_reuse)
        async with aiohttp.ClientSession(headers=_AUTHORIZED, trace_configs=[trace]) as session:
            session._retry_connection = False  # it would hide a reset by asking again
            while True:
                self._is_reused = False
                try:
                    async with session.get(self._url) as answer:
                        assert answer.status == 200
                        self._seen["closed politely" if answer.headers.get("Connection") else "kept"] += 1
                except aiohttp.ClientConnectorError:
                    return
                except aiohttp.ClientConnectionError:
                    self._seen["reset while kept alive" if self._is_reused else "came too late"] += 1
                self.is_connected.set()
                await asyncio.sleep(0.1)

    async def _on_reuse(self, *event: object) -> None:
        self._is_reused = True


@pytest.mark.parametrize("longest_s", [4.0, pytest.param(30.0, marks=pytest.mark.torture)])
async def test_a_drain_fails_none_of_two_hundred_calls(
    tmp_path: Path, record_figure: RecordFigure, longest_s: float
) -> None:
    """JSON, streams and edits of all durations, beside clients that keep their connections."""
    data, seen, all_are_there = tmp_path / "data", Counter[str](), asyncio.Event()
    wanted = orders(IN_FLIGHT, SEED, label="through a drain")
    async with Studio(SEED) as studio, spawn_proxy(data, studio.base_url) as proxy:
        assert proxy.process is not None
        studio.takes_s = lambda prompt: Random(prompt).uniform(longest_s / 4, longest_s)
        studio.default(pause(all_are_there), studio.sell)
        sdk = proxy.sdk()
        calls = [asyncio.ensure_future(place(sdk, order)) for order in wanted]
        polite = [KeepAliveClient(proxy, seen) for _ in range(KEPT_ALIVE)]
        polling = [asyncio.ensure_future(client.run()) for client in polite]
        await asyncio.gather(*[client.is_connected.wait() for client in polite])
        await studio.wait_for_requests(IN_FLIGHT, 60)
        all_are_there.set()
        proxy.process.terminate()
        told = time.monotonic()
        await eventually(lambda: seen["closed politely"] > 0)
        refused = await asyncio.gather(*[ask_for_more(proxy) for _ in range(20)])
        receipts = await asyncio.gather(*calls)
        answered = time.monotonic()
        code = await asyncio.wait_for(proxy.process.wait(), 20)
        ended = time.monotonic()
        await asyncio.gather(*polling)
        report = compare(data, sales=studio.sales, receipts=receipts, once=True)
    failed = [receipt.error for receipt in receipts if receipt.error is not None]
    record_figure(
        "R93",
        seed=SEED,
        calls_in_flight=IN_FLIGHT,
        calls_failed=len(failed),
        answers_with_connection_close=seen["closed politely"],
        resets_of_kept_connections=seen["reset while kept alive"],
        drain_s=round(answered - told, 2),
        exit_after_the_last_answer_s=round(ended - answered, 2),
        violations=len(report.violations),
    )
    assert (failed, seen["reset while kept alive"], code) == ([], 0, 0), seen
    assert seen["came too late"] <= KEPT_ALIVE / 10, "accepted, and left without an answer"
    report.assert_clean(SEED)
    assert refused == [(503, "shutting_down", "1", "close")] * 20
    assert ended - answered < 5


async def ask_for_more(proxy: RunningProxy) -> tuple[int, str, str, str]:
    """Make a paid call in the drain; give what says that it should be made elsewhere."""
    status, headers, body = await proxy.request("POST", "/v1/images/generations", json={"prompt": "late"})
    return status, json.loads(body)["error"]["code"], headers["Retry-After"], headers["Connection"]
