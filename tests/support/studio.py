"""An upstream that never paints the same picture twice, and writes down what it sold: the first of the four ledgers.

async with Studio(seed=1) as studio:
    studio.takes_s = lambda prompt: 0.5
    ...
    assert [sale.prompt for sale in studio.sales] == ["a fox"]
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from tests.support.pictures import png
from tests.support.sockets import flushed
from tests.support.upstream import (
    Exchange,
    Received,
    ScriptedUpstream,
    head,
    image_json_bytes,
    image_sse_events,
)

_PIECE = 64 * 1024


@dataclass(slots=True, kw_only=True)
class Sale:
    """One call that was charged. Of its images (SHA-256 in hex), the other end's kernel has the first `sent` whole."""

    prompt: str
    images: tuple[str, ...]
    sent: int = 0


class Studio(ScriptedUpstream):
    """The server. What a prompt is for tells calls apart, so each logical call needs one of its own.

    An answer begins after `waits_s` and then takes `takes_s` (a stream: in even steps); both may depend on the prompt.
    """

    def __init__(self, seed: int = 0, *, sizes_bytes: tuple[int, ...] = (1_000, 20_000, 60_000)) -> None:
        """Paint noise of one of these sizes, by lot."""
        super().__init__()
        self.sales: list[Sale] = []
        self.charges: Counter[str] = Counter()
        self.waits_s: Callable[[str], float] = lambda _: 0.0
        self.takes_s: Callable[[str], float] = lambda _: 0.0
        self._seed = seed
        self.sizes_bytes = sizes_bytes
        self.default(self.sell)

    def size_bytes(self, prompt: str) -> int:
        """Tell how large each picture for a prompt is."""
        return Random(f"{self._seed}/{prompt}").choice(self.sizes_bytes)

    def _paint(self, prompt: str, n: int) -> list[bytes]:
        """Paint pictures of which there is only one, also when a prompt comes again."""
        random = Random(f"{self._seed}/{prompt}/{self.charges[prompt]}")
        return [png(size_bytes=self.size_bytes(prompt), seed=random.getrandbits(60)) for _ in range(n)]

    async def sell(self, exchange: Exchange) -> None:
        """Answer a request as the real service does, and write the sale down."""
        prompt, n, is_stream = _order(exchange.request)
        self.charges[prompt] += 1
        pictures = self._paint(prompt, n)
        hashes = tuple(hashlib.sha256(picture).hexdigest() for picture in pictures)
        sale = Sale(prompt=prompt, images=hashes)
        self.sales.append(sale)
        await asyncio.sleep(self.waits_s(prompt))
        if is_stream:
            await self._stream(exchange, sale, pictures)
            return
        await asyncio.sleep(self.takes_s(prompt))
        answer = image_json_bytes(pictures)
        await head(200, length=len(answer)).run(exchange)
        for at in range(0, len(answer), _PIECE):
            await exchange.send(answer[at : at + _PIECE])
        if await flushed(exchange.writer):
            sale.sent = n

    async def _stream(self, exchange: Exchange, sale: Sale, pictures: list[bytes]) -> None:
        """Send a partial image and the final one of each picture, at even distances."""
        kind: Literal["edit", "generation"] = (
            "edit" if exchange.request.path.endswith("edits") else "generation"
        )
        events = image_sse_events(pictures, partials=1, kind=kind)
        pause_s = self.takes_s(sale.prompt) / len(events)
        await head(200, [("Content-Type", "text/event-stream")], "chunked").run(exchange)
        for number, event in enumerate(events, 1):
            await asyncio.sleep(pause_s)
            await exchange.send(event)
            if number % 2 == 0 and await flushed(exchange.writer):
                sale.sent = number // 2


def _order(request: Received) -> tuple[str, int, bool]:
    """Read what is wanted: prompt, count, and whether as a stream."""
    if request.parts:
        said = {part.name: (part.data or b"").decode() for part in request.parts if part.filename is None}
        return said["prompt"], int(said.get("n", 1)), said.get("stream") == "true"
    asked = request.json()
    return asked["prompt"], asked.get("n") or 1, bool(asked.get("stream"))
