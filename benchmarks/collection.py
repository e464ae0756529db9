"""A data folder with a large collection in its index, made once and kept in build/: rows only, no pictures."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import accumulate, islice
from pathlib import Path

from benchmarks import servers
from benchmarks.answers import SEED
from benchmarks.processes import ROOT, BenchError
from pixie_proxy.index import search
from pixie_proxy.index.batch import SqliteTx
from pixie_proxy.index.migrate import migrations
from pixie_proxy.records import IdKind, Kind, base32hex

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

COLLECTION = f"col_{0:026d}"
COLLECTED = 10_000
"""As many as a collection may hold."""

_OTHERS = 38
_AT_ONCE = 50_000
_LAYOUT = 2
"""Raised with what is in a collection: an older one is not used."""
_SOUNDS = [
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
]
_WORDS = 30_000
_EDIT, _VARIATION, _TRASHED = 9, 5, 50
"""Which of ten images, of ten thousand, of a hundred."""


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
    folder = ROOT / "build" / "collections" / f"{images}-{version}-{SEED}-{_LAYOUT}"
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
    enter(folder / "proxy-0" / "pixie.db", images, "maker", tuple(KEYS), step)


def enter(path: Path, images: int, maker: str, fans: Sequence[str], step: Callable[[str], None]) -> None:
    """Enter images into the index at `path`, which nobody has open: of `maker`, and of users made for it.

    Each of `fans`, who are users by name, likes one image of a thousand.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA synchronous = OFF")
        ids = {row["name"]: row["id"] for row in database.execute("SELECT id, name FROM users")}
        others = [(f"usr_{number:026d}", f"user{number}") for number in range(_OTHERS)]
        with _transaction(database):
            database.executemany(
                "INSERT INTO users (id, name, role, created_us) VALUES (?, ?, 'member', 0)", others
            )
        rows = _rows(images, [ids[maker], *[user for user, _ in others]])
        for first in range(0, images, _AT_ONCE):
            step(f"gallery: {first:,} of {images:,} images")
            page = list(islice(rows, _AT_ONCE))
            with _transaction(database):
                database.executemany(_REQUEST, page)
                database.executemany(_IMAGE, page)
        with _transaction(database):
            _shelve(database, images, ids[maker], [ids[fan] for fan in fans])
        step(f"gallery: making {images:,} images searchable")
        with _transaction(database):
            search.fill(SqliteTx(database))
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _shelve(database: sqlite3.Connection, images: int, maker_id: str, fan_ids: Sequence[str]) -> None:
    """Tag one of ten images and one of a thousand, like some, collect some, and make some of the first."""
    for tag, every in (("wip", 10), ("best", 1000)):
        tagged = [(tag, image_id(number)) for number in range(0, images, every)]
        database.executemany("INSERT INTO image_tags (tag, image_id) VALUES (?, ?)", tagged)
    liked = [(fan, image_id(number)) for fan in fan_ids for number in range(3, images, 1000)]
    database.executemany("INSERT INTO favorites (user_id, image_id) VALUES (?, ?)", liked)
    database.execute(
        "INSERT INTO collections (id, owner_id, name, visibility, created_us) VALUES (?, ?, 'best', 'team', 0)",
        (COLLECTION, maker_id),
    )
    collected = [(COLLECTION, image_id(number)) for number in range(0, images, max(1, images // COLLECTED))]
    database.executemany(
        "INSERT INTO collection_images (collection_id, image_id) VALUES (?, ?)", collected[:COLLECTED]
    )
    edits = range(_EDIT, images, 10)
    parents = [
        (_request_id(number), image_id(0 if number % 5000 == _EDIT else number // 2)) for number in edits
    ]
    database.executemany("INSERT INTO parents (request_id, parent_id, position) VALUES (?, ?, 0)", parents)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN")
    yield
    database.execute("COMMIT")


_REQUEST = """
INSERT INTO requests (id, user_id, kind, requested_model, model, prompt, params, images_asked, is_stream, fingerprint,
    state, hold_micros, cost_micros, process, created_us, settled_us, skeleton)
VALUES (:request, :owner, :kind, :model, :model, :prompt, '{"n": 1, "size": "1024x1024"}', 1, 0, :request,
    'done', 50000, 40000, 'p', :at_us, :at_us, :skeleton)
"""
_IMAGE = """
INSERT INTO images (id, request_id, position, owner_id, ref, mime, size_bytes, width, height, sha256, visibility,
    created_us, deleted_us, kind, model, siblings, tags)
VALUES (:image, :request, 0, :owner, 'images/' || :request || '/0.png', 'image/png', 1500000, 1024, 1024,
    printf('%064d', :number), :visibility, :at_us, :deleted_us, :kind, :model, 1, :tags)
"""


def _rows(images: int, owners: list[str]) -> Iterator[dict[str, object]]:
    """Make up images: `photograph` in every prompt, `lantern` in half, `secretly` where only its owner sees it.

    One of ten is an edit, one of ten thousand a variation; one of a hundred is in the trash.
    """
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
            "request": _request_id(number),
            "owner": owner,
            "visibility": visibility,
            "model": dice.choices(MODELS, (80, 19, 1))[0],
            "prompt": " ".join(said),
            "at_us": made_ms * 1000,
            "deleted_us": made_ms * 1000 if number % 100 == _TRASHED else None,
            "kind": _kind(number),
            "tags": json.dumps(
                ["best", "wip"] if number % 1000 == 0 else ["wip"] if number % 10 == 0 else []
            ),
            "skeleton": skeleton,
        }


def _kind(number: int) -> Kind:
    if number % 10_000 == _VARIATION:
        return "variation"
    return "edit" if number % 10 == _EDIT else "generation"


def _request_id(number: int) -> str:
    return _id("req", number, FIRST_MS + number * STEP_MS)


def _id(kind: IdKind, number: int, made_ms: int) -> str:
    return f"{kind}_{base32hex((made_ms << 80 | number << 40) << 2, 26)}"
