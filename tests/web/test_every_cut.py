"""R32–R35: an answer that ends early, at any byte, in any framing, is never taken for a whole one.

The judge is the official SDK: what it returns without an error must be all that was asked for.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import openai
import pytest

from tests.support.outside import stored
from tests.support.pictures import png
from tests.support.proxy import RunningProxy
from tests.support.upstream import (
    Exchange,
    ScriptedUpstream,
    body,
    cut,
    head,
    image_json_bytes,
    image_sse_events,
)
from tests.web.calling import CAT, AnySdk, files_of, ledger_rows

RecordFigure = Callable[..., None]
Ending = Literal["fin", "rst"]
Framing = Literal["length", "chunked", "eof"]

PICTURES = [png(seed=seed) for seed in range(4)]
SEED = 20261121
LANES = 8
"""How many calls run at once."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An answer that gets cut. `whole_from`: what is cut behind this byte lacks nothing that matters."""

    name: str
    sent: bytes
    images: int
    is_stream: bool
    whole_from: int


def _shapes() -> list[Shape]:
    one, four = image_json_bytes(PICTURES[:1]), image_json_bytes(PICTURES, indent=None)
    events = [b"".join(image_sse_events(PICTURES[:count], partials=1)) for count in (1, 4)]
    return [
        Shape("JSON", one, 1, False, len(one)),
        Shape("JSON, n=4", four, 4, False, len(four)),
        # Of the last event only its two line ends may be missing: then it is whole, and gets them.
        Shape("SSE", events[0], 1, True, len(events[0]) - 2),
        Shape("SSE, n=4", events[1], 4, True, len(events[1]) - 2),
    ]


SHAPES = _shapes()
WAYS: list[tuple[Framing, Ending]] = [
    (framing, how) for framing in ("length", "chunked", "eof") for how in ("fin", "rst")
]


@dataclass(frozen=True, slots=True)
class Cut:
    """One answer that ends early."""

    shape: Shape
    at: int
    framing: Framing
    how: Ending

    @property
    def lacks_nothing(self) -> bool:
        return self.at >= self.shape.whole_from


def _boundaries(shape: Shape) -> set[int]:
    """Give the places where things end: brackets and lines, and at both ends of the answer also quotes."""
    marks = {0, 1, len(shape.sent)}
    for place, byte in enumerate(shape.sent):
        is_near_end = place < 60 or len(shape.sent) - place < 100
        if byte in b"{}[]\n" or (byte in b'"' and is_near_end):
            marks |= {place, place + 1}
    return marks


def sampled(count: int) -> list[Cut]:
    """Choose cuts at random, and at all boundaries of each shape in one way each."""
    rng = random.Random(SEED)
    cuts = []
    for shape in SHAPES:
        near = sorted(_boundaries(shape))
        places = (
            near
            if len(near) >= count // 4
            else near + rng.sample(range(len(shape.sent)), count // 4 - len(near))
        )
        cuts += [Cut(shape, at, *WAYS[number % len(WAYS)]) for number, at in enumerate(places)]
    return cuts


def every_cut() -> list[Cut]:
    """Cut at every byte; the framing and the way of ending go round, so that each offset meets two of the six."""
    return [
        Cut(shape, at, *WAYS[(at + turn) % len(WAYS)])
        for shape in SHAPES
        for at in range(len(shape.sent) + 1)
        for turn in (0, 3)
    ]


async def judge(sdk: openai.AsyncOpenAI, one: Cut, number: int) -> str:
    """Call once, `number` telling the upstream which cut it is; tell what came of it."""
    fields: dict[str, Any] = {**CAT, "n": one.shape.images, "prompt": str(number)}
    try:
        if one.shape.is_stream:
            stream = await sdk.images.generate(**fields, stream=True)
            finals = [event async for event in stream if event.type == "image_generation.completed"]
            got = [base64.b64decode(event.b64_json, validate=True) for event in finals]
        else:
            got = files_of(await sdk.images.generate(**fields))
    except openai.APIError as exc:
        return "whole one refused" if one.lacks_nothing else type(exc).__name__
    return "success" if got == PICTURES[: one.shape.images] else "false success"


async def judge_all(proxy: RunningProxy, upstream: ScriptedUpstream, cuts: Sequence[Cut]) -> Counter[str]:
    """Make a call for each cut, LANES at once, and count what came of them."""

    async def answer(exchange: Exchange) -> None:
        one = cuts[int(exchange.request.json()["prompt"])]
        kind = "text/event-stream" if one.shape.is_stream else "application/json"
        length = len(one.shape.sent) + (one.at == len(one.shape.sent))  # never met
        await exchange.play(
            head(200, [("Content-Type", kind)], one.framing, length=length),
            body(one.shape.sent[: one.at]),
            cut(one.how),
        )

    upstream.default(answer)
    counts: Counter[str] = Counter()
    todo = iter(range(len(cuts)))
    sdk = proxy.sdk()

    async def lane() -> None:
        for number in todo:
            found = await judge(sdk, cuts[number], number)
            assert found not in {"false success", "whole one refused"}, (found, cuts[number])
            counts[found] += 1

    await asyncio.gather(*[lane() for _ in range(LANES)])
    states = Counter(row.state for row in await ledger_rows(proxy))
    assert states == Counter(done=counts["success"], unknown=len(cuts) - counts["success"])
    return counts


async def test_a_cut_answer_is_never_a_success(
    proxy: RunningProxy, upstream: ScriptedUpstream, record_figure: RecordFigure
) -> None:
    """R32, R33: at every boundary and at random bytes; behind all that was asked for it is none, and is healed."""
    cuts = sampled(200)
    counts = await judge_all(proxy, upstream, cuts)
    assert counts["success"] == sum(one.lacks_nothing for one in cuts)
    record_figure("R32", cuts=len(cuts), false_successes=0, **counts)


@pytest.mark.torture
async def test_no_byte_of_an_answer_is_one_to_cut_it_at(
    proxy: RunningProxy, upstream: ScriptedUpstream, record_figure: RecordFigure
) -> None:
    """R32, R33: at every byte, each in two of the six ways."""
    cuts = every_cut()
    counts = await judge_all(proxy, upstream, cuts)
    record_figure("R32", cuts=len(cuts), false_successes=0, **counts)
    unframed = [one for one in cuts if one.framing == "eof"]
    record_figure("R33", cuts=len(unframed), false_successes=0)


def _before_image(sent: bytes, number: int) -> int:
    """Give a place within the base64 of a final picture, counted from 0."""
    at = -1
    for picture in PICTURES_OF_TEN[: number + 1]:
        at = sent.index(base64.b64encode(picture), at + 1)
    return at + 50


PICTURES_OF_TEN = [png(seed=100 + seed) for seed in range(10)]


@pytest.mark.parametrize("is_stream", [False, True], ids=["JSON", "SSE"])
async def test_whole_images_of_a_cut_answer_are_salvaged(
    proxy: RunningProxy, upstream: ScriptedUpstream, record_figure: RecordFigure, is_stream: bool
) -> None:
    """R34: j of n, for all n up to ten: neither more nor fewer, told and charged as unknown."""
    cases = [(n, j) for n in range(1, 11) for j in range(n)]

    async def answer(exchange: Exchange) -> None:
        n, j = cases[int(exchange.request.json()["prompt"])]
        files = PICTURES_OF_TEN[:n]
        sent = b"".join(image_sse_events(files, partials=1)) if is_stream else image_json_bytes(files)
        kind = "text/event-stream" if is_stream else "application/json"
        await exchange.play(
            head(200, [("Content-Type", kind)], "chunked"), body(sent[: _before_image(sent, j)]), cut()
        )

    upstream.default(answer)

    async def call(number: int) -> None:
        fields = {"model": "gpt-image-2", "prompt": str(number), "n": cases[number][0], "stream": is_stream}
        with pytest.raises(openai.APIError):
            await AnySdk(proxy, "async").images("generate", **fields)

    for first in range(0, len(cases), LANES):
        await asyncio.gather(*[call(number) for number in range(first, min(first + LANES, len(cases)))])
    rows = await ledger_rows(proxy)
    assert {(row.state, row.cost_micros == row.call.hold_micros) for row in rows} == {("unknown", True)}
    salvaged = stored(proxy.data_dir)
    for row in rows:
        n, j = cases[int(row.call.prompt or "")]
        got = {name: digest for name, digest in salvaged.items() if name.startswith(row.call.id)}
        assert got == {
            f"{row.call.id}/{place}.png": hashlib.sha256(PICTURES_OF_TEN[place]).hexdigest()
            for place in range(j)
        }, (n, j)
    assert len(salvaged) == sum(j for _, j in cases)
    record_figure("R34", answers=len(cases), salvaged=len(salvaged), wrong=0)


async def test_a_cut_behind_the_last_event_is_healed(
    proxy: RunningProxy, upstream: ScriptedUpstream, record_figure: RecordFigure
) -> None:
    """R35: the SDK ends without an exception, a hundred times of a hundred, and every image is kept."""
    cuts = [
        Cut(shape, len(shape.sent) - number % 3, *WAYS[number % len(WAYS)])
        for shape in SHAPES
        if shape.is_stream
        for number in range(50)
    ]
    counts = await judge_all(proxy, upstream, cuts)
    assert counts == Counter(success=100)
    assert len(stored(proxy.data_dir)) == 50 * (1 + 4)
    record_figure("R35", cuts=100, healed=100)
