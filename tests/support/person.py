"""Somebody who leaves traces of every kind in a proxy, each with a word in it that is nowhere else."""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import orjson

from tests.cli.running import pixie_here
from tests.support import outside
from tests.support.pictures import png_of
from tests.support.proxy import ADMIN_KEY, RunningProxy
from tests.support.upstream import (
    ScriptedUpstream,
    body,
    error_json,
    head,
    image_json,
    image_json_bytes,
    sse_event,
    usage_of,
)

GENERATIONS, EDITS, USERS = "/v1/images/generations", "/v1/images/edits", "/v1/admin/users"

_BLACK = zlib.compress(bytes(8 * (1 + 3 * 8)))


@dataclass(kw_only=True)
class Person:
    """A member with a key of its own. `canaries` are the words, by what they were in."""

    dice: Random
    canaries: dict[str, bytes] = field(default_factory=dict)
    name: str = ""
    id: str = ""
    key: str = ""
    image_ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    @classmethod
    async def join(cls, proxy: RunningProxy, seed: int) -> Person:
        """Add the user, with a key that has a label."""
        person = cls(dice=Random(seed))
        person.name = person.word("name")
        told = {"name": person.name, "limits": {"usd_per_month": 4321}}
        made = outside.json_of(await proxy.request("POST", USERS, json=told, key=ADMIN_KEY))
        person.id = made["id"]
        label = {"user": person.name, "name": person.word("key label")}
        made = outside.json_of(await proxy.request("POST", "/v1/admin/keys", json=label, key=ADMIN_KEY))
        person.key = made["key"]
        person.canaries["key"] = person.key.encode()
        person.canaries["key digest"] = hashlib.sha256(person.key.encode()).hexdigest().encode()
        return person

    def word(self, what: str) -> str:
        """Make a word up, and remember what it was in."""
        word = f"canary-{self.dice.getrandbits(96):024x}"
        self.canaries[what] = word.encode()
        return word

    def picture(self, what: str) -> bytes:
        """Make a picture with a word in its bytes; its digest is a word, too."""
        picture = png_of(8, 8, (b"tEXt", self.word(f"bytes of {what}").encode()), pixels=_BLACK)
        self.canaries[f"sha256 of {what}"] = hashlib.sha256(picture).hexdigest().encode()
        return picture

    async def live(self, proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
        """Do everything that leaves a trace. The upstream answers nobody else meanwhile."""
        upstream.script(self._revised(["image 0", "image 1"]))
        words = {
            "prompt": self.word("prompt"),
            "user": self.word("user parameter"),
            "n": 2,
            "size": "1024x1024",
        }
        key = {"Idempotency-Key": self.word("idempotency key")}
        await self._buys(proxy, json={**words, "model": "gpt-image-2"}, headers=key)
        upstream.script(self._streamed())
        streamed = {"prompt": self.word("prompt of a stream"), "stream": True, "partial_images": 1}
        await self._buys(proxy, json={**streamed, "model": "gpt-image-2"})
        upstream.script(image_json([self.picture("an edit")]))
        form = aiohttp.FormData({"prompt": self.word("prompt of an edit"), "model": "gpt-image-2"})
        source = png_of(8, 8, (b"tEXt", self.word("bytes of an input").encode()))
        form.add_field("image", source, filename=f"{self.word('file name')}.png", content_type="image/png")
        await self._buys(proxy, EDITS, data=form)
        said = self.word("error text")
        upstream.script(error_json(400, message=said, code="moderation_blocked", param=None))
        status, _, answer = await self._asks(proxy, json={"prompt": self.word("refused prompt")})
        assert status == 400, answer
        upstream.script(image_json([self.picture("a deleted image")]))
        await self._buys(proxy, json={"prompt": self.word("prompt of a deleted image")})
        await outside.settled(proxy.data_dir)
        shown = (await proxy.get("/v1/images?owner=me", self.key))["data"]
        self.image_ids = [image["id"] for image in shown]
        for image in shown:
            status, _, _ = await proxy.request("GET", f"{image['thumbnail_url']}?size=256", key=self.key)
            assert status == 200
            self.links.append("/i/" + image["url"].rpartition("/")[2])
        outside.json_of(await proxy.request("DELETE", f"/v1/images/{shown[0]['id']}", key=self.key))
        await self._corrected(proxy.data_dir)

    async def delete(self, proxy: RunningProxy) -> tuple[int, Any]:
        """Have an admin delete this user."""
        path = f"{USERS}/{self.id}?confirm={self.name}"
        status, _, answer = await proxy.request("DELETE", path, key=ADMIN_KEY)
        return status, orjson.loads(answer)

    def traces(self, *roots: Path) -> list[tuple[str, str]]:
        """Look for every word in every byte of what lies below some folders: (file, what it was).

        For their ends, for the search cuts them, and writes a beginning that two words share once.
        """
        files = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
        found = []
        for path in files:
            try:
                data = path.read_bytes()
            except (FileNotFoundError, IsADirectoryError):
                continue
            found += [(path.name, what) for what, word in self.canaries.items() if word[-16:] in data]
            found += [
                (path.name, "thumbnail") for image_id in self.image_ids if path.name.startswith(image_id)
            ]
        return found

    async def _corrected(self, data_dir: Path) -> None:
        said = await pixie_here(
            "usage", "correct", self.name, "--usd", "0.25", "--reason", self.word("reason of a correction"),
            "--data", str(data_dir),
        )  # fmt: skip
        assert said.code == 0, said.err

    def _revised(self, names: list[str]) -> list[Any]:
        data = [
            {
                "b64_json": base64.b64encode(self.picture(name)).decode(),
                "revised_prompt": self.word(f"revised prompt of {name}"),
            }
            for name in names
        ]
        told = (("Content-Type", "application/json"), ("x-request-id", self.word("upstream request id")))
        return [head(200, told), body(image_json_bytes(len(names), data=data))]

    def _streamed(self) -> list[Any]:
        partial = png_of(8, 8, (b"tEXt", self.word("bytes of a partial image").encode()))
        events: list[dict[str, Any]] = [
            {
                "type": "image_generation.partial_image",
                "partial_image_index": 0,
                "b64_json": _base64(partial),
            },
            {
                "type": "image_generation.completed",
                "b64_json": _base64(self.picture("a stream")),
                "usage": usage_of(1),
            },
        ]
        return [
            head(200, (("Content-Type", "text/event-stream"),), "chunked"),
            *[body(sse_event(event)) for event in events],
        ]

    async def _asks(
        self, proxy: RunningProxy, path: str = GENERATIONS, **options: Any
    ) -> tuple[int, Any, bytes]:
        return await proxy.request("POST", path, key=self.key, **options)

    async def _buys(self, proxy: RunningProxy, path: str = GENERATIONS, **options: Any) -> None:
        status, _, answer = await self._asks(proxy, path, **options)
        assert status == 200, answer


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
