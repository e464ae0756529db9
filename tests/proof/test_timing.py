"""Keys that are not good can't be told apart by what comes, nor by when (R69)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import fmean, quantiles, variance
from urllib.parse import urlsplit

import pytest

from pixie_proxy.accounts.keys import new_key
from tests.support.dead_keys import DEAD, make_dead_keys
from tests.support.figures import RecordFigure
from tests.support.proxy import run_proxy, spawn_proxy
from tests.support.upstream import refused_base_url
from tests.web.calling import context_of

SEED = 69
MOST_T = 4.5
END = "zzzz"
"""All keys end so, and begin with px-: what a refusal shows of them is the same."""
KINDS = ("unknown", *DEAD)


class Line:
    """A connection that is kept, and a clock at it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, key: str) -> tuple[int, bytes]:
        """Show a key; give how long the answer took, in ns, and the answer without what is its own."""
        request = f"GET /v1/me HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        begun = time.perf_counter_ns()
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        took = time.perf_counter_ns() - begun
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        own = (b"date:", b"x-request-id:")
        body = await self._reader.readexactly(length)
        return took, b"\n".join(line for line in lines if not line.startswith(own)) + body


def welch_t(one: Sequence[float], other: Sequence[float]) -> float:
    """Compare two means: the further from 0, the surer they differ."""
    spread = variance(one) / len(one) + variance(other) / len(other)
    return (fmean(one) - fmean(other)) / math.sqrt(spread)


@pytest.mark.parametrize("samples", [50, pytest.param(20_000, marks=pytest.mark.torture)])
async def test_keys_that_are_not_good_can_not_be_told_apart(
    tmp_path: Path, record_figure: RecordFigure, samples: int
) -> None:
    """Interleaved by lot: the same bytes for each kind, and Welch's |t| against an unknown key below 4.5.

    The slowest tenth, which is the machine's and not ours, is left out of each kind alike. Few samples show bytes only.
    """
    data, upstream = tmp_path / "data", refused_base_url()
    async with run_proxy(data, upstream) as proxy:
        dead = await context_of(proxy).index.write(lambda tx: make_dead_keys(tx, END))
    texts = {**dead, "unknown": new_key() + END}
    random = Random(SEED)
    took: dict[str, list[int]] = {kind: [] for kind in KINDS}
    answers: set[bytes] = set()
    async with spawn_proxy(data, upstream) as proxy:
        address = urlsplit(proxy.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        line = Line(reader, writer)
        for _ in range(samples):
            for kind in random.sample(KINDS, len(KINDS)):
                took_ns, answer = await line.ask(texts[kind])
                took[kind].append(took_ns)
                answers.add(answer)
        writer.close()
    assert len(answers) == 1, answers
    assert b"401" in answers.pop()
    most = quantiles([each for every in took.values() for each in every], n=10)[-1]
    kept = {kind: [each for each in every if each <= most] for kind, every in took.items()}
    found = {kind: welch_t(kept[kind], kept["unknown"]) for kind in KINDS[1:]}
    worst = max(map(abs, found.values()))
    if samples < 1000:
        return
    record_figure(
        "R69",
        seed=SEED,
        samples_of_each=samples,
        kinds=len(KINDS),
        median_us=round(quantiles(took["unknown"], n=2)[0] / 1000),
        largest_t=round(worst, 2),
        violations=sum(abs(t) >= MOST_T for t in found.values()),
    )
    assert worst < MOST_T, found
