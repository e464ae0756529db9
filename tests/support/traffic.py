"""Calls of every kind through a proxy that may die at any moment, and the comparison of all that is left behind."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from tests.support import outside
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, RunningProxy
from tests.support.upstream import Exchange, image_json_bytes, image_sse_events

_TRIES = 10
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call: what for, and how."""

    n: int = 1
    size_bytes: int = 3000
    stream: bool = False
    is_edit: bool = False
    wants_url: bool = False


class Traffic:
    """Clients and upstream in one: knows which images were sent, and which came whole to a client.

    `received` are hashes; `links` are the addresses that clients were given in place of bytes.
    """

    def __init__(
        self, seed: int, *, sizes: Sequence[int] = (1000, 30_000, 400_000), pause_s: float = 0.02
    ) -> None:
        self.random = Random(seed)
        self.sent: set[str] = set()
        self.received: set[str] = set()
        self.links: set[str] = set()
        self.is_cut = False
        """The disk is gone: what is answered from now on is of no interest."""
        self._sizes = sizes
        self._pause_s = pause_s
        self._number = 1_000_000 * seed

    async def answer(self, exchange: Exchange) -> None:
        """Be the upstream: different pictures each time, in pieces with pauses between."""
        request = exchange.request
        names = ("n", "stream", "size_bytes")
        asked = {name: json.loads(request.text(name)) for name in names} if request.parts else request.json()
        pictures = []
        for _ in range(asked["n"]):
            self._number += 1
            pictures.append(png(size_bytes=asked["size_bytes"], seed=self._number))
        self.sent |= {_hash(picture) for picture in pictures}
        pieces = image_sse_events(pictures, partials=1) if asked["stream"] else [image_json_bytes(pictures)]
        kind = "text/event-stream" if asked["stream"] else "application/json"
        await exchange.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n"
            f"Content-Length: {sum(map(len, pieces))}\r\n\r\n".encode()
        )
        for piece in pieces:
            for at in range(0, len(piece), 100_000):
                if self._pause_s:
                    await asyncio.sleep(self.random.random() * self._pause_s)
                await exchange.write(piece[at : at + 100_000])

    def anything(self) -> Asked:
        """Think of a call."""
        random = self.random
        return Asked(
            n=random.randint(1, 4),
            size_bytes=random.choice(self._sizes),
            stream=random.random() < 0.4,
            is_edit=random.random() < 0.3,
            wants_url=random.random() < 0.1,
        )

    async def client(self, proxy: RunningProxy) -> None:
        """Make one call after the other until the proxy is gone."""
        while await self.call(proxy, self.anything()):
            pass

    async def call(self, proxy: RunningProxy, asked: Asked) -> bool:
        """Make a call and remember what came whole; False if the proxy was gone before the end."""
        fields: dict[str, Any] = {
            "prompt": f"fox {self.random.random()}",  # a call equal to a lost one would be taken for its retry
            "n": asked.n, "stream": asked.stream, "partial_images": 1,
            "size_bytes": asked.size_bytes,
        }  # fmt: skip
        if asked.wants_url:
            fields["response_format"] = "url"
        options: dict[str, Any] = {"json": fields}
        if asked.is_edit:
            texts = {
                name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()
            }
            form = aiohttp.FormData(texts)
            form.add_field("image", png(), filename="a.png", content_type="image/png")
            options = {"data": form}
        got = bytearray()
        with suppress(aiohttp.ClientError, ConnectionError):
            async with proxy.session.post(
                proxy.url + (EDITS if asked.is_edit else GENERATIONS),
                headers={"Authorization": f"Bearer {MEMBER_KEY}"},
                **options,
            ) as response:
                if response.status != 200 and self.is_cut:
                    return False
                assert response.status == 200, await response.read()
                try:
                    async for piece in response.content.iter_any():
                        got += piece
                finally:
                    if asked.stream:
                        self._take_events(got)
            if not asked.stream:
                for item in json.loads(got)["data"]:
                    self._take(item)
            return True
        return False

    def _take_events(self, got: bytearray) -> None:
        for event in got.split(b"\n\n")[:-1]:
            if b".completed" in event:
                self._take(json.loads(event[event.index(b"data: ") + 6 :]))

    def _take(self, item: dict[str, Any]) -> None:
        if "url" in item:
            self.links.add(urlsplit(item["url"]).path)
        if "b64_json" in item:
            self.received.add(_hash(base64.b64decode(item["b64_json"])))

    async def check(self, proxy: RunningProxy, data_dir: Path, processes: int = 1) -> None:
        """Compare the four: what was sent, what came whole to clients, storage, index; and the accounts with the bill.

        Nothing is missing, nothing is there but whole images, nobody holds a slot or money.
        """
        await outside.settled(data_dir, processes)
        listed = await outside.gallery(proxy)
        hashes = [image["sha256"] for image in listed]
        assert len(hashes) == len(set(hashes))
        assert self.received <= set(hashes) <= self.sent
        in_storage = outside.stored(data_dir)
        assert {
            f"{image['request_id']}/{image['index']}.png": image["sha256"] for image in listed
        } == in_storage
        for link in self.links:
            assert _hash(await _opened(proxy, link)) in hashes
        calls = outside.calls(data_dir)
        assert {call["state"] for call in calls} <= {"done", "unknown"}
        assert [
            call
            for call in calls
            if call["state"] == "unknown" and call["cost_micros"] != call["hold_micros"]
        ] == []
        assert outside.account(data_dir)["spent_micros"] == sum(call["cost_micros"] for call in calls)


async def _opened(proxy: RunningProxy, link: str) -> bytes:
    """Open a link. A storage that fails now and then may cost a reader some tries, never wrong bytes."""
    for _ in range(_TRIES):
        with suppress(aiohttp.ClientPayloadError):
            status, _, body = await proxy.request("GET", link, key=None)
            if status == 200:
                return body
            assert status == 503, (status, body)
    raise AssertionError(link)


@dataclass(frozen=True, slots=True)
class Ended:
    """What no later start may change: how each call ended, what is known of each image, and the bytes in storage."""

    calls: dict[str, Any]
    images: dict[str, Any]
    stored: dict[str, str]

    @classmethod
    def of(cls, data_dir: Path) -> Self:
        """Look at a data directory where everything has ended."""
        calls = outside.rows(
            data_dir, "SELECT id, state, cost_micros, settled_us, flags, error FROM requests"
        )
        images = outside.rows(
            data_dir, "SELECT id, request_id, position, ref, sha256, visibility FROM images"
        )
        return cls(
            {row["id"]: row for row in calls}, {row["id"]: row for row in images}, outside.stored(data_dir)
        )

    def is_in(self, later: Ended) -> bool:
        """Tell whether all this is still so."""
        return all(
            all(theirs.get(name) == found for name, found in ours.items())
            for ours, theirs in [
                (self.calls, later.calls),
                (self.images, later.images),
                (self.stored, later.stored),
            ]
        )


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
