"""A data folder with a large collection in its index, made once and kept in build/: rows only, no pictures."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path

from benchmarks import servers
from benchmarks.answers import SEED
from benchmarks.processes import ROOT, BenchError
from pixie_proxy.index import search
from pixie_proxy.index.batch import SqliteTx
from pixie_proxy.index.migrate import migrations
from pixie_proxy.records import IdKind, base32hex

KEYS = {name: f"px-benchmark-key-that-is-long-enough-{name:0>9}" for name in ("boss", "maker", "guest")}
USERS = [
    {"name": "boss", "key": KEYS["boss"], "role": "admin"},
    {"name": "maker", "key": KEYS["maker"], "role": "member"},
    {"name": "guest", "key": KEYS["guest"], "role": "viewer"},
]
"""An admin; one of forty who make images; one who sees only what is shared: three of ten."""
MODELS = ("gpt-image-2", "gpt-image-1", "gpt-image-1-mini")
FIRST_MS, STEP_MS = 1_760_000_000_000, 30_000
RARE_EVERY = 50_000
"""Each word `rare…` is in one of so many images."""

_OTHERS = 38
_AT_ONCE = 50_000
_SOUNDS = (
    "ka",
    "to",
    "ri",
    "mu",
    "sen",
    "pho",
    "gra",
    "lo",
    "fi",
    "ve",
    "an",
    "el",
    "da",
    "ru",
    "ost",
    "bi",
    "ne",
)
_WORDS = 30_000


def vocabulary() -> list[str]:
    """Make up words, the most frequent first."""
    dice = random.Random(SEED)
    made = ("".join(dice.choices(_SOUNDS, k=dice.randint(2, 5))) for _ in range(3 * _WORDS))
    return list(dict.fromkeys(made))[:_WORDS]


def image_id(number: int) -> str:
    """Give the id of an image by its number: one every half minute, back from now for a year a million."""
    return _id("img", number, FIRST_MS + number * STEP_MS)


def collection(images: int, step: Callable[[str], None]) -> Path:
    """Give the data folder of a proxy with so many images; the first call makes it, which takes minutes a million."""
    version = max(migrations())
    folder = ROOT / "build" / "collections" / f"{images}-{version}-{SEED}"
    if not (folder / "made").exists():
        if shutil.disk_usage(ROOT).free < images * 6_000 + 2_000_000_000:
            raise BenchError(f"no room for a collection of {images:,} images")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _make(folder, images, step)
        (folder / "made").touch()
    return folder


def _make(folder: Path, images: int, step: Callable[[str], None]) -> None:
    step(f"gallery: making an index of {images:,} images")
    with servers.proxy(folder, "http://127.0.0.1:9", users=USERS):
        pass  # it makes the schema, users and keys
    with closing(sqlite3.connect(folder / "proxy-0" / "pixie.db", isolation_level=None)) as database:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA synchronous = OFF")
        owners = [row["id"] for row in database.execute("SELECT id FROM users WHERE name IN ('maker')")]
        others = [(f"usr_{number:026d}", f"user{number}") for number in range(_OTHERS)]
        database.execute("BEGIN")
        database.executemany(
            "INSERT INTO users (id, name, role, created_us) VALUES (?, ?, 'member', 0)", others
        )
        owners += [user for user, _ in others]
        database.execute("COMMIT")
        rows = _rows(images, owners)
        for first in range(0, images, _AT_ONCE):
            step(f"gallery: {first:,} of {images:,} images")
            page = [row for row, _ in zip(rows, range(min(_AT_ONCE, images - first)), strict=False)]
            database.execute("BEGIN")
            database.executemany(_REQUEST, page)
            database.executemany(_IMAGE, page)
            database.execute("COMMIT")
        step(f"gallery: making {images:,} images searchable")
        database.execute("BEGIN")
        search.fill(SqliteTx(database))
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_REQUEST = """
INSERT INTO requests (id, user_id, kind, requested_model, model, prompt, params, images_asked, is_stream, fingerprint,
    state, hold_micros, cost_micros, process, created_us, settled_us, skeleton)
VALUES (:request, :owner, 'generation', :model, :model, :prompt, '{"n": 1, "size": "1024x1024"}', 1, 0, :request,
    'done', 50000, 40000, 'p', :at_us, :at_us, :skeleton)
"""
_IMAGE = """
INSERT INTO images (id, request_id, position, owner_id, ref, mime, size_bytes, width, height, sha256, visibility,
    created_us, kind, model, siblings)
VALUES (:image, :request, 0, :owner, 'images/' || :request || '/0.png', 'image/png', 1500000, 1024, 1024,
    printf('%064d', :number), :visibility, :at_us, 'generation', :model, 1)
"""


def _rows(images: int, owners: list[str]) -> Iterator[dict[str, object]]:
    """Make up images: `photograph` in every prompt, `lantern` in half, `secretly` where only its owner sees it."""
    dice, words = random.Random(SEED), vocabulary()
    weights = list(accumulate(1 / (rank + 8) for rank in range(len(words))))
    skeleton = json.dumps({"created": 1, "data": [{}], "usage": {"total_tokens": 7}}).encode() * 3
    for number in range(images):
        visibility = dice.choices(("private", "team", "public"), (70, 28, 2))[0]
        owner = dice.choice(owners)
        said = [*dice.choices(words, cum_weights=weights, k=25), "photograph", f"rare{number % RARE_EVERY}"]
        if number % 2:
            said[0] = "lantern"
        if visibility == "private" and owner != owners[0]:
            said[1] = "secretly"
        made_ms = FIRST_MS + number * STEP_MS
        yield {
            "number": number,
            "image": image_id(number),
            "request": _id("req", number, made_ms),
            "owner": owner,
            "visibility": visibility,
            "model": dice.choices(MODELS, (80, 19, 1))[0],
            "prompt": " ".join(said),
            "at_us": made_ms * 1000,
            "skeleton": skeleton,
        }


def _id(kind: IdKind, number: int, made_ms: int) -> str:
    return f"{kind}_{base32hex((made_ms << 80 | number << 40) << 2, 26)}"
