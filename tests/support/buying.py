"""Paid calls whose pictures are all different, so that after any fault one can tell which of them are still there."""

from __future__ import annotations

import asyncio
import base64
import itertools
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.support import outside
from tests.support.pictures import png
from tests.support.proxy import RunningProxy
from tests.support.upstream import Exchange, image_json_bytes, image_sse_events

GENERATIONS = "/v1/images/generations"


async def draw(exchange: Exchange) -> None:
    """Be an upstream that draws what is asked for: `n` pictures of `size_bytes` after `wait_s`, over `take_s`."""
    asked = exchange.request.json()
    pictures = [png(size_bytes=asked["size_bytes"], seed=asked["seed"] + at) for at in range(asked["n"])]
    pieces = image_sse_events(pictures, partials=1) if asked["stream"] else [image_json_bytes(pictures)]
    data = b"".join(pieces)
    kind = "text/event-stream" if asked["stream"] else "application/json"
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    await asyncio.sleep(asked["wait_s"])
    await exchange.write(head.encode())
    for at in range(0, len(data), step := max(1, len(data) // 10)):
        await exchange.write(data[at : at + step])
        await asyncio.sleep(asked["take_s"] / 10)


@dataclass(slots=True)
class Buyer:
    """Buys pictures of a proxy, and remembers each that came whole."""

    had: list[bytes] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    """Status and code of each call that brought none."""
    _seeds: itertools.count[int] = field(default_factory=lambda: itertools.count(1000, 10))

    async def buy(
        self,
        proxy: RunningProxy,
        *,
        n: int = 1,
        size_bytes: int = 3000,
        stream: bool = False,
        wait_s: float = 0,
        take_s: float = 0,
    ) -> bool:
        """Make one call; True if its pictures came."""
        seed = next(self._seeds)
        body: dict[str, Any] = {
            "prompt": "a fox", "n": n, "stream": stream, "partial_images": 1,
            "seed": seed, "size_bytes": size_bytes, "wait_s": wait_s, "take_s": take_s,
        }  # fmt: skip
        status, _, answer = await proxy.request("POST", GENERATIONS, json=body)
        if status != 200:
            self.refused.append((status, orjson.loads(answer)["error"]["code"]))
            return False
        wanted = [png(size_bytes=size_bytes, seed=seed + at) for at in range(n)]
        assert all(base64.b64encode(picture) in answer for picture in wanted), answer[-300:]
        self.had += wanted
        return True

    async def lost(self, proxy: RunningProxy) -> int:
        """Count the pictures that came and are not in the gallery, byte for byte."""
        kept = {await outside.content(proxy, image) for image in await outside.gallery(proxy)}
        return len(set(self.had) - kept)
