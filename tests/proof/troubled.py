"""Calls whose network breaks: a plan of faults between client and proxy, and callers who live with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from openai import AsyncOpenAI

from tests.support.callers import Order, Receipt, orders, place
from tests.support.faulty import Fault, FaultRelay, cut, gateway, in_order
from tests.support.studio import Studio

CLIENT_TIMEOUT_S = 1.0
TOO_LONG_S = 1.6
"""How long the upstream takes where the client's patience ends before: the first attempt never gets an answer."""

_TRIES = 3
_HEAD_BYTES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One call and what happens to it: the faults of its first connections, and the client's own timeout."""

    order: Order
    name: str
    faults: tuple[Fault, ...] = ()
    timeout_s: float | None = None


def troubles(count: int, studio: Studio, seed: int) -> list[Trouble]:
    """Give each call trouble that the SDK answers with retries; the network's strikes its first two connections.

    A stream that was cut after it had begun is not retried by the SDK: see `broken_streams`.
    """
    random = Random(seed)
    return [_trouble(order, studio, random) for order in orders(count, seed)]


def _trouble(order: Order, studio: Studio, random: Random) -> Trouble:
    name = random.choice(
        ["cut before headers", "client timeout", "502 of a front proxy"]
        + ([] if order.is_stream else ["cut in the answer"] * 2)
    )
    if name == "client timeout":
        return Trouble(order=order, name=name, timeout_s=CLIENT_TIMEOUT_S)

    def fault() -> Fault:
        if name == "502 of a front proxy":
            return gateway(502, after_s=random.uniform(0, 0.2))
        if name == "cut before headers":
            return cut(0, how=random.choice(["fin", "rst"]))
        return _cut_inside(order, studio, random)

    return Trouble(order=order, name=name, faults=(fault(), fault()))


def broken_streams(count: int, studio: Studio, seed: int) -> list[Trouble]:
    """Plan streams that are cut once after they have begun."""
    random = Random(seed)
    wanted = orders(count, seed, label="stream", share_of_streams=1)
    return [
        Trouble(order=order, name="broken stream", faults=(_cut_inside(order, studio, random),))
        for order in wanted
    ]


def _cut_inside(order: Order, studio: Studio, random: Random) -> Fault:
    """Cut at any byte of an answer's body."""
    base64_bytes = studio.size_bytes(order.prompt) * order.n * 4 // 3
    at = random.randint(_HEAD_BYTES, _HEAD_BYTES + base64_bytes)
    return cut(at, how=random.choice(["fin", "rst"]))


@dataclass(slots=True, kw_only=True)
class Ends:
    """How calls ended: every receipt, and what really happened to connections."""

    receipts: list[Receipt]
    done: Counter[str]
    connections: int = 0

    @property
    def helped(self) -> set[str]:
        """The prompts whose callers ended with their images."""
        return {receipt.order.prompt for receipt in self.receipts if receipt.error is None}

    def errors(self) -> Counter[str]:
        """Count how the others ended."""
        last = {receipt.order.prompt: receipt.error for receipt in self.receipts}
        return Counter(error for error in last.values() if error is not None)


async def endure(
    url: str, key: str, plan: Sequence[Trouble], *, at_once: int, is_keyed: bool = False
) -> Ends:
    """Make the calls through the official SDK at its defaults, each over a relay of its own."""
    ends, turns = Ends(receipts=[], done=Counter()), asyncio.Semaphore(at_once)
    async with AsyncOpenAI(base_url=url, api_key=key) as sdk:

        async def call(trouble: Trouble) -> None:
            async with turns, FaultRelay(url, in_order(*trouble.faults)) as relay:
                options = {} if trouble.timeout_s is None else {"timeout": trouble.timeout_s}
                own = sdk.with_options(base_url=relay.url, **options)  # type: ignore[arg-type]
                ends.receipts += await insist(own, trouble.order, is_keyed=is_keyed)
                ends.done += relay.done
                ends.connections += relay.connections

        await asyncio.gather(*[call(trouble) for trouble in plan])
    return ends


async def insist(sdk: AsyncOpenAI, order: Order, *, is_keyed: bool = False) -> list[Receipt]:
    """Make a call; where a stream broke after it had begun, which the SDK does not retry, ask for the same again."""
    receipts: list[Receipt] = []
    idempotency_key = order.prompt if is_keyed else None
    while len(receipts) < _TRIES:
        receipts.append(receipt := await place(sdk, order, idempotency_key=idempotency_key))
        if receipt.error in {None, "upstream_outcome_unknown"} or not receipt.has_begun:
            break
    return receipts
