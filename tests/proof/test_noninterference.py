"""Two worlds that differ in what one person keeps private: nobody else can tell in which one they are (R67)."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.figures import RecordFigure
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, OTHER_KEY, RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import Browser, sign_in

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
ASKED = {"model": "gpt-image-2", "size": "1024x1024", "quality": "low"}
_ID = re.compile(r"(?:img|req|key|usr|col)_[0-9a-v]{26}")
_OWN = (
    (re.compile(r"http://127\.0\.0\.1:\d+"), "URL"),
    (re.compile(r"(?<=-)[0-9a-v]{26}(?=\.\w+)|(?<=-)[\w-]{22}(?=\.\w+)"), "SIGNATURE"),
    (re.compile(r'"(created|duration_s|until|since|deleted_at)":-?[\d.]+'), r'"\1":T'),
    (re.compile(r'(?<=name="csrf" value=")[^"]+'), "TOKEN"),
    (re.compile(r"<time[^>]*>[^<]*</time>|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?( UTC)?"), "T"),
)
_CHANGES: list[tuple[str, str, Any]] = [
    ("DELETE", "", None),
    ("POST", "/restore", None),
    ("GET", "/thumbnail", None),
    ("GET", "/content", None),
    ("POST", "", {"revoke_url": True}),
    ("POST", "", {"tags": ["fox", "owl"]}),
    ("POST", "/favorite", None),
]
SOUGHT = (
    "bob",
    "carol",
    "carol*",
    "s",
    "bob+1*",
    "%22carol+s+1%22",
    "s&owner=carol",
    "carol&deleted=true",
    "c*&order=asc",
)
_CLOCK = {"date", "x-request-id", "last-modified", "age"}


class Bob:
    """Somebody in one of the worlds: does what he is told, and takes down what he sees, freed of what is random."""

    def __init__(self, proxy: RunningProxy, browser: Browser, picture: bytes) -> None:
        self.picture = picture
        self.seen: list[object] = []
        self.images: list[str] = []
        self._proxy, self._browser = proxy, browser
        self._names: dict[str, str] = {}

    async def call(self, method: str, path: str, body: Any = None) -> None:
        options = {} if body is None else {"json": body}
        await self._note(*await self._proxy.request(method, path, key=MEMBER_KEY, **options))

    async def open(self, path: str) -> None:
        status, headers, text = await self._browser.get(path)
        await self._note(status, headers, text.encode())

    async def make(self, number: int, edits: bytes | None = None) -> None:
        """Make an image, from the bytes of another that somebody else may have as well."""
        path = GENERATIONS
        body: dict[str, Any] = {**ASKED, "prompt": f"bob's {number}"}
        if edits is not None:
            path, ref = EDITS, "data:image/png;base64," + base64.b64encode(edits).decode()
            body |= {"images": [{"image_url": ref}]}
        status, headers, answer = await self._proxy.request("POST", path, json=body, key=MEMBER_KEY)
        await self._note(status, headers, answer)
        images = (await self._proxy.get(f"/v1/requests/{headers['x-request-id']}", MEMBER_KEY))["images"]
        self.images += images

    async def _note(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        shown = {name.lower(): value for name, value in headers.items() if name.lower() not in _CLOCK}
        text = body.decode("latin-1")
        if '"duration_s"' in text:  # how long one's own calls took has as many digits as it has
            del shown["content-length"]
        self.seen.append((status, self._plain(str(sorted(shown.items()))), self._plain(text)))

    def _plain(self, text: str) -> str:
        text = _ID.sub(lambda found: self._names.setdefault(found[0], f"#{len(self._names)}"), text)
        for pattern, word in _OWN:
            text = pattern.sub(word, text)
        return text


class Carol:
    """Somebody whose images are all private: what she does is of no concern to anybody."""

    def __init__(self, proxy: RunningProxy, random: Random) -> None:
        self.acts = 0
        self._proxy, self._random = proxy, random
        self._images: list[str] = []

    async def act(self) -> None:
        self.acts += 1
        if self._images and self._random.random() < 0.1:
            await self._send("POST", "/v1/collections", {"name": f"carol's {self.acts}"})
            return
        if not self._images or self._random.random() < 0.5:
            body = {
                **ASKED,
                "prompt": f"carol's {self.acts}",
                "model": self._random.choice(["gpt-image-2", "flux-dev"]),
            }
            await self._send("POST", GENERATIONS, body)
            listed = await self._proxy.get("/v1/images?owner=me&limit=1", OTHER_KEY)
            self._images += [image["id"] for image in listed["data"]]
            return
        image = self._random.choice(self._images)
        method, path, said = self._random.choice(_CHANGES)
        await self._send(method, f"/v1/images/{image}{path}", said)

    async def _send(self, method: str, path: str, body: Any) -> None:
        options = {} if body is None else {"json": body}
        await self._proxy.request(method, path, key=OTHER_KEY, **options)


def plan(random: Random, steps: int) -> list[tuple[str, int, int]]:
    """Draw what Bob does: a kind of step, and two numbers that choose among what he has."""
    kinds = (
        "make", "list", "owner", "model", "trash", "before", "image", "content", "thumbnail", "unchanged", "hide",
        "show", "delete", "restore", "ledger", "usage", "me", "models", "balance", "estimate", "wall", "page", "carols",
        "broken", "search", "edit", "children", "tag", "tagged", "like", "liked", "collect", "collections", "bulk",
    )  # fmt: skip
    drawn = [(random.choice(kinds), random.randrange(10**6), random.randrange(1, 30)) for _ in range(steps)]
    return [("make", 0, 1), *drawn]


async def step(bob: Bob, kind: str, which: int, limit: int) -> None:
    """Do one thing; it is the same in both worlds, on images of one's own that are as old in both."""
    image = bob.images[which % len(bob.images)] if bob.images else ""
    calls: dict[str, tuple[str, str, Any]] = {
        "list": ("GET", f"/v1/images?limit={limit}", None),
        "owner": ("GET", f"/v1/images?owner=carol&limit={limit}", None),
        "model": ("GET", f"/v1/images?model={'flux-dev' if which % 2 else 'gpt-image-2'}", None),
        "trash": ("GET", "/v1/images?deleted=true", None),
        "before": (
            "GET",
            f"/v1/images?before={image}&limit={limit}&order={'asc' if which % 2 else 'desc'}",
            None,
        ),
        "image": ("GET", f"/v1/images/{image}", None),
        "content": ("GET", f"/v1/images/{image}/content", None),
        "thumbnail": ("GET", f"/v1/images/{image}/thumbnail?size=256", None),
        "unchanged": ("HEAD", f"/v1/images/{image}/content", None),
        "hide": ("POST", f"/v1/images/{image}", {"visibility": "private"}),
        "show": ("POST", f"/v1/images/{image}", {"visibility": "team"}),
        "delete": ("DELETE", f"/v1/images/{image}", None),
        "restore": ("POST", f"/v1/images/{image}/restore", None),
        "ledger": ("GET", f"/v1/requests?limit={limit}", None),
        "usage": ("GET", f"/v1/usage?by={('user', 'key', 'model', 'day')[which % 4]}", None),
        "me": ("GET", "/v1/me", None),
        "models": ("GET", "/v1/models", None),
        "balance": ("GET", "/v1/credits/balance", None),
        "estimate": ("POST", "/v1/images/estimate", {**ASKED, "prompt": "a fox"}),
        "carols": ("GET", "/v1/requests?owner=carol", None),
        "search": ("GET", f"/v1/images?q={SOUGHT[which % len(SOUGHT)]}&limit={limit}", None),
        "broken": ("POST", GENERATIONS, {"prompt": ""}),
        "children": ("GET", f"/v1/images?parent={image}", None),
        "tag": ("POST", f"/v1/images/{image}", {"tags": ["fox"]}),
        "tagged": ("GET", f"/v1/images?tag={('fox', 'owl')[which % 2]}&limit={limit}", None),
        "like": ("DELETE" if which % 3 == 0 else "POST", f"/v1/images/{image}/favorite", None),
        "liked": ("GET", f"/v1/images?favorite=true&limit={limit}", None),
        "collect": ("POST", "/v1/collections", {"name": f"bob's {which}"}),
        "collections": ("GET", "/v1/collections", None),
        "bulk": ("POST", "/v1/images/bulk", {"ids": bob.images[-limit:], "action": "tag", "tags": ["hen"]}),
    }
    if kind == "make":
        await bob.make(which)
    elif kind == "edit":
        await bob.make(which, bob.picture)
    elif kind == "wall":
        await bob.open(f"/?owner={('me', 'carol', 'bob')[which % 3]}" if which % 4 else "/?q=carol*")
    elif kind == "page":
        await bob.open(f"/images/{image}")
    else:
        await bob.call(*calls[kind])


@pytest.mark.parametrize(
    ("seed", "steps"),
    [(1, 120), *[pytest.param(seed, 1250, marks=pytest.mark.torture) for seed in range(2, 6)]],
)
async def test_what_others_keep_private_changes_nothing(
    tmp_path: Path, upstream: ScriptedUpstream, seed: int, steps: int, record_figure: RecordFigure
) -> None:
    """Lists, filters, cursors, ETags, thumbnails, ledger, usage, errors and pages are the same, byte for byte."""
    upstream.default(*image_json([png(seed=seed)]))
    private: dict[str, Any] = {
        "gallery": {"visibility": "private"},
        "models": {"prices": {"flux-dev": {"usd_per_image": 0.04}}},
    }
    async with (
        run_proxy(tmp_path / "alone", upstream.base_url, **private) as alone,
        run_proxy(tmp_path / "crowded", upstream.base_url, **private) as crowded,
    ):
        random = Random(seed)
        carol = Carol(crowded, Random(seed))
        bobs = [Bob(proxy, await sign_in(proxy, MEMBER_KEY), png(seed=seed)) for proxy in (alone, crowded)]
        for number, (kind, which, limit) in enumerate(plan(random, steps)):
            for _ in range(random.choice((0, 1, 1, 3))):
                await carol.act()
            await asyncio.gather(*[step(bob, kind, which, limit) for bob in bobs])
            seen = [bob.seen[-1] for bob in bobs]
            assert seen[0] == seen[1], f"step {number}, {kind}, seed {seed}"
        assert len(bobs[0].images) == len(bobs[1].images) > 0
        assert carol.acts > steps / 2
        told = list(itertools.chain.from_iterable(map(str, bob.seen) for bob in bobs))
        assert not any("carol's" in each for each in told)
    record_figure("R67", seed=seed, answers=len(bobs[0].seen), acts_of_another=carol.acts, differences=0)
