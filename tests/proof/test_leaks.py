"""However calls end, no slot stays in use and no money held (R71, R74)."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

import aiohttp
import pytest

from tests.support import outside
from tests.support.figures import RecordFigure
from tests.support.ledgers import compare
from tests.support.proxy import MEMBER_KEY, OTHER_KEY, RunningProxy, spawn_proxy
from tests.support.studio import Studio
from tests.support.upstream import Exchange, cut, error_json

SEED = 71
AT_ONCE = 24
SLOTS = 16
"""Fewer than callers, so that refusals happen as well."""
SILENCE_S = 0.5
UPSTREAM = {"idle_timeout_s": SILENCE_S, "max_retries": 1}
_PATIENCE_S = 30.0


class Moods:
    """An upstream that sells, refuses, breaks off or says nothing, by lot."""

    def __init__(self, studio: Studio, seed: int) -> None:
        self._studio = studio
        self._random = Random(seed)

    async def answer(self, exchange: Exchange) -> None:
        """Be in some mood."""
        mood = self._random.choices(["sell", "refuse", "break", "silence"], [70, 15, 10, 5])[0]
        if mood == "sell":
            await self._studio.sell(exchange)
        elif mood == "silence":
            await asyncio.sleep(2 * SILENCE_S)
            await exchange.close()
        else:
            for step in (
                error_json(self._random.choice([400, 429, 500])) if mood == "refuse" else [cut("rst")]
            ):
                await step.run(exchange)


class Callers:
    """Clients that wait for their answer, leave before it, or lose their patience; `ends` counts how calls ended."""

    def __init__(self, count: int, seed: int) -> None:
        self.ends: Counter[str] = Counter()
        self._left = count
        self._seed = seed
        self._random = Random(seed)

    async def run(self, proxy: RunningProxy) -> None:
        """Call until the count is reached or the proxy is gone."""
        while self._left > 0:
            self._left -= 1
            if not await self._call(proxy):
                return

    async def _call(self, proxy: RunningProxy) -> bool:
        random = self._random
        patience_s = random.uniform(0, 0.3) if random.random() < 0.6 else _PATIENCE_S
        body = {
            "prompt": f"call {self._left} of seed {self._seed}",
            "n": random.randint(1, 2),
            "stream": random.random() < 0.4,
        }
        headers = {"Authorization": f"Bearer {random.choice([MEMBER_KEY, OTHER_KEY])}"}
        try:
            async with asyncio.timeout(patience_s), aiohttp.ClientSession() as session:
                url = f"{proxy.url}/v1/images/generations"
                async with session.post(url, json=body, headers=headers) as answer:
                    await answer.read()
                    self.ends[str(answer.status)] += 1
        except TimeoutError:
            self.ends["left"] += 1
        except aiohttp.ClientPayloadError:
            self.ends["broken"] += 1
        except (aiohttp.ClientError, ConnectionError):
            self.ends["cut off"] += 1
            return proxy.process is not None and _is_alive(proxy.process.pid)
        return True


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize(("count", "kills"), [(120, 1), pytest.param(10_000, 25, marks=pytest.mark.torture)])
async def test_nothing_leaks_however_calls_end(
    tmp_path: Path, record_figure: RecordFigure, count: int, kills: int
) -> None:
    """Random aborts, timeouts, refusals, broken answers and kills; at rest nothing is in use and nothing held."""
    data, random = tmp_path / "data", Random(SEED)
    limits = {"concurrent_requests": SLOTS}
    ends: Counter[str] = Counter()
    async with Studio(SEED, sizes_bytes=(1_000, 20_000)) as studio:
        studio.default(Moods(studio, SEED).answer)
        studio.takes_s = lambda prompt: Random(prompt).uniform(0, 0.3)
        for number in range(kills + 1):
            share = count // (kills + 1) if number < kills else count - sum(ends.values())
            callers = Callers(share, SEED + number)
            async with spawn_proxy(data, studio.base_url, limits=limits, upstream=UPSTREAM) as proxy:
                calls = [asyncio.ensure_future(callers.run(proxy)) for _ in range(AT_ONCE)]
                if number < kills:
                    at = random.uniform(0.3, 0.9) * share
                    while sum(callers.ends.values()) < at:
                        await asyncio.wait(calls, timeout=0.01)
                    await outside.kill(proxy)
                    await asyncio.gather(*calls)
                else:
                    await asyncio.gather(*calls)
                    await outside.settled(data)
            ends += callers.ends
        found = outside.account(data)
        report = compare(data, sales=studio.sales, kills=True)
    record_figure(
        "R71",
        seed=SEED,
        calls=sum(ends.values()),
        callers_who_left=ends["left"],
        kills=kills,
        slots_in_use_at_rest=found["in_flight"],
        violations=len(report.violations),
    )
    record_figure("R74", seed=SEED, calls=sum(ends.values()), micros_held_at_rest=found["held_micros"])
    assert (found["in_flight"], found["held_micros"]) == (0, 0)
    report.assert_clean(SEED)
    assert ends["left"] > count // 10
    assert ends["429"] + ends["502"] + ends["200"] > count // 10, ends
