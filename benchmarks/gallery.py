"""The gallery with a large collection: how long pages and searches take at the server, each kind with its query."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable
from urllib.parse import quote_plus

from benchmarks import servers
from benchmarks.answers import SEED
from benchmarks.bench import Bench
from benchmarks.collection import (
    COLLECTION,
    FIRST_MS,
    KEYS,
    MODELS,
    RARE_EVERY,
    STEP_MS,
    USERS,
    collection,
    image_id,
    vocabulary,
)
from benchmarks.processes import HOST, BenchError
from benchmarks.result import Figure, number, percentile

_PAGE_MS, _SEARCH_MS = 10, 25
_WORDS = vocabulary()

Query = Callable[[random.Random, int], str]
"""Writes a query, given how many images there are."""


def _some_image(dice: random.Random, images: int) -> str:
    return image_id(dice.randrange(images))


def _days(dice: random.Random, images: int) -> str:
    since_s = (FIRST_MS + dice.randrange(images) * STEP_MS) // 1000
    return f"since={since_s}&until={since_s + 7 * 86_400}"


def _q(text: str) -> str:
    return f"q={quote_plus(text)}"


PAGES: dict[str, Query] = {
    "newest": lambda _, __: "",
    "a hundred": lambda _, __: "limit=100",
    "deep": lambda dice, images: f"after={_some_image(dice, images)}",
    "backwards": lambda dice, images: f"before={_some_image(dice, images)}",
    "oldest first": lambda dice, images: f"order=asc&after={_some_image(dice, images)}",
    "owner": lambda dice, images: f"owner=user{dice.randrange(38)}&after={_some_image(dice, images)}",
    "own": lambda dice, images: f"owner=me&after={_some_image(dice, images)}",
    "model": lambda dice, images: f"model={dice.choice(MODELS)}&after={_some_image(dice, images)}",
    "week": _days,
    "edits": lambda dice, images: f"kind=edit&after={_some_image(dice, images)}",
    "variations": lambda dice, images: f"kind=variation&after={_some_image(dice, images)}",
    "rare kind of an owner": lambda dice, _: f"kind=variation&owner=user{dice.randrange(38)}",
    "tag": lambda dice, images: f"tag=wip&after={_some_image(dice, images)}",
    "rare tag": lambda dice, images: f"tag=best&before={_some_image(dice, images)}",
    "favourites": lambda dice, images: f"favorite=true&after={_some_image(dice, images)}",
    "collection": lambda dice, images: f"collection={COLLECTION}&after={_some_image(dice, images)}",
    "tag in a collection": lambda _, __: f"collection={COLLECTION}&tag=best",
    "children": lambda _, __: f"parent={image_id(0)}",
    "trash": lambda dice, images: f"deleted=true&after={_some_image(dice, images)}",
}
SEARCHES: dict[str, Query] = {
    "in every prompt": lambda dice, images: _q("photograph") + f"&after={_some_image(dice, images)}",
    "in half": lambda dice, images: _q("lantern") + f"&before={_some_image(dice, images)}",
    "frequent": lambda dice, images: _q(dice.choice(_WORDS[:200])) + f"&after={_some_image(dice, images)}",
    "any word": lambda dice, _: _q(dice.choice(_WORDS)),
    "rare": lambda dice, _: _q(f"rare{dice.randrange(RARE_EVERY)}"),
    "in none": lambda dice, _: _q(f"missing{dice.randrange(10**6)}"),
    "of others only": lambda dice, images: _q("secretly") + f"&after={_some_image(dice, images)}",
    "three words": lambda dice, _: _q("photograph lantern " + dice.choice(_WORDS[:200])),
    "frequent and rare": lambda dice, _: _q(f"photograph rare{dice.randrange(RARE_EVERY)}"),
    "phrase": lambda dice, _: _q(f'"{_WORDS[dice.randrange(20)]} photograph"'),
    "short beginning": lambda dice, images: (
        _q(dice.choice(_WORDS)[:2] + "*") + f"&after={_some_image(dice, images)}"
    ),
    "long beginning": lambda dice, _: _q(dice.choice(_WORDS)[:5] + "*"),
    "beginning in every prompt": lambda dice, images: _q("photogr*") + f"&after={_some_image(dice, images)}",
    "word of an owner": lambda dice, _: _q(dice.choice(_WORDS[:200])) + f"&owner=user{dice.randrange(38)}",
    "own word": lambda dice, _: _q(dice.choice(_WORDS[:200])) + "&owner=me",
    "word of a model": lambda dice, _: _q(dice.choice(_WORDS[:200])) + f"&model={dice.choice(MODELS)}",
    "word of edits": lambda dice, _: _q(dice.choice(_WORDS[:200])) + "&kind=edit",
    "word with a tag": lambda dice, _: _q(dice.choice(_WORDS[:200])) + "&tag=wip",
    "rare word with a tag": lambda dice, _: _q(f"rare{dice.randrange(RARE_EVERY)}") + "&tag=wip",
    "word with a rare tag": lambda dice, _: _q(dice.choice(_WORDS[:200])) + "&tag=best",
    "word of favourites": lambda dice, _: _q(dice.choice(_WORDS)) + "&favorite=true",
    "word in a collection": lambda dice, _: _q(dice.choice(_WORDS)) + f"&collection={COLLECTION}",
    "phrase in a collection": lambda dice, _: (
        _q(f'"{_WORDS[dice.randrange(20)]} photograph"') + f"&collection={COLLECTION}"
    ),
    "word in the trash": lambda dice, _: _q(dice.choice(_WORDS[:200])) + "&deleted=true",
    "word of a week": lambda dice, images: _q(dice.choice(_WORDS[:200])) + "&" + _days(dice, images),
}


def gallery(bench: Bench) -> list[Figure]:
    """Ask a proxy with the collection by each kind of query, as each of three viewers, one after the other."""
    images = bench.plan.images
    folder = collection(images, bench.step)
    with servers.proxy(
        bench.folder, "http://127.0.0.1:9", users=USERS, data_dir=folder / "proxy-0"
    ) as server:
        server.settle()
        return [
            _figure(bench, server.port, "page", PAGES, _PAGE_MS),
            _figure(bench, server.port, "search", SEARCHES, _SEARCH_MS),
        ]


def _figure(bench: Bench, port: int, name: str, queries: dict[str, Query], bar_ms: float) -> Figure:
    dice = random.Random(SEED)
    details: dict[str, dict[str, object]] = {}
    all_ms: list[float] = []
    worst = ("", 0.0)
    for kind, query in queries.items():
        bench.step(f"gallery: {name}, {kind}")
        drawn = [(who, query(dice, bench.plan.images)) for who in KEYS for _ in range(bench.plan.asked_each)]
        dice.shuffle(drawn)
        took_ms = sorted(_ask(port, drawn))
        all_ms += took_ms
        p95_ms = percentile(took_ms, 95)
        details[kind] = {
            "query": f"/v1/images?{drawn[0][1]}",
            "count": len(drawn),
            "p50_ms": round(percentile(took_ms, 50), 2),
            "p95_ms": round(p95_ms, 2),
            "max_ms": round(took_ms[-1], 2),
        }
        worst = max(worst, (kind, p95_ms), key=lambda each: each[1])
    return Figure(
        name=f"gallery-{name}",
        title=f"gallery {name}, {bench.plan.images:,} images: p95 of the slowest kind",
        bar=bar_ms,
        at_most=True,
        unit="ms",
        value=round(worst[1], 2),
        context=f"“{worst[0]}”: `{details[worst[0]]['query']}`; all kinds together "
        f"p50 {number(percentile(sorted(all_ms), 50))} ms, p95 {number(percentile(sorted(all_ms), 95))} ms",
        details=details,
    )


def _ask(port: int, drawn: list[tuple[str, str]]) -> list[float]:
    """Ask on one connection and time each whole answer. Raises BenchError where one is no 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    took_ms = []
    try:
        for who, query in drawn:
            started = time.perf_counter()
            connection.request("GET", f"/v1/images?{query}", headers={"Authorization": f"Bearer {KEYS[who]}"})
            response = connection.getresponse()
            answer = response.read()
            took_ms.append((time.perf_counter() - started) * 1000)
            if response.status != 200:
                raise BenchError(f"{query}: {response.status} {answer[:300]!r}")
    except (OSError, http.client.HTTPException) as exc:
        raise BenchError(f"the gallery gave no answer: {exc!r}") from exc
    finally:
        connection.close()
    return took_ms
