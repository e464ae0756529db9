"""Collections of any size and age, made in seconds: rows and files as if calls had been kept long ago."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

from pixie_proxy.index import Index, Tx
from pixie_proxy.index.sqlite import open_sqlite
from pixie_proxy.records import IdKind, StoredImage, base32hex, new_id
from pixie_proxy.spool.finish import settle_kept
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import MANIFEST, folder_ref
from tests.support import outside
from tests.support.calls import a_call, a_manifest
from tests.support.pictures import png

PICTURE = png()
DAY_S = 24 * 60 * 60
_PAGE = 200


def old_calls(
    calls: int, images: int, *, days: float, owner: tuple[str, str], seed: int = 0
) -> list[Manifest]:
    """Make up calls of `images` pictures each, all of them so many days old; `owner` is id and name."""
    dice, made_ms = Random(seed), round((time.time() - days * DAY_S) * 1000)
    return [_old_call(dice, made_ms + number, images, *owner) for number in range(calls)]


def _old_call(dice: Random, made_ms: int, images: int, owner_id: str, owner_name: str) -> Manifest:
    call = a_call(id=_id("req", made_ms, dice), user_id=owner_id, process="gone", created_us=made_ms * 1000)
    pictures = [
        StoredImage(
            id=_id("img", made_ms, dice),
            position=position,
            file=f"{position}.png",
            mime="image/png",
            size_bytes=len(PICTURE),
            sha256=hashlib.sha256(PICTURE).hexdigest(),
            width=8,
            height=8,
        )
        for position in range(images)
    ]
    return replace(a_manifest(call, tuple(pictures)), owner_name=owner_name)


def _id(kind: IdKind, made_ms: int, dice: Random) -> str:
    return f"{kind}_{base32hex(made_ms << 82 | dice.getrandbits(80) << 2, 26)}"


def files(manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    """Give what lies in storage of a call, by ref."""
    folder = folder_ref(manifest.call.id)
    for image in manifest.images:
        yield f"{folder}/{image.file}", PICTURE
    yield f"{folder}/{MANIFEST}", manifest.to_json()


async def add_rows(index: Index, manifests: Sequence[Manifest]) -> None:
    """Tell an index, which knows the owners, of calls that were kept."""
    for first in range(0, len(manifests), _PAGE):
        await index.write(partial(_settle_all, manifests=manifests[first : first + _PAGE]))


def _settle_all(tx: Tx, manifests: Iterable[Manifest]) -> None:
    for manifest in manifests:
        settle_kept(tx, manifest)


def put_files(root: Path, manifests: Iterable[Manifest]) -> None:
    """Lay calls into a local storage, without the fsyncs that only a power cut would miss."""
    for manifest in manifests:
        (root / folder_ref(manifest.call.id)).mkdir(parents=True)
        for ref, data in files(manifest):
            (root / ref).write_bytes(data)


async def add_to(
    data_dir: Path, calls: int, images: int, *, days: float, owner: str = "bob"
) -> list[Manifest]:
    """Add a collection to the data directory of a proxy that does not run, and was started once."""
    (found,) = outside.rows(data_dir, f"SELECT id, name FROM users WHERE name = '{owner}'")  # noqa: S608
    manifests = old_calls(calls, images, days=days, owner=(found["id"], found["name"]))
    index = await open_sqlite(data_dir / "pixie.db", lock_path=data_dir / "pixie.lock")
    try:
        await add_rows(index, manifests)
    finally:
        await index.close()
    await asyncio.to_thread(put_files, data_dir / "storage", manifests)
    return manifests


def leave_open(data_dir: Path, picture: bytes, calls: int) -> Path:
    """Leave what a process leaves that is killed with many calls open: rows, holds, slots, and its folder in the spool.

    A third of them is sealed, a third has a whole image, a third nothing.
    """
    process = data_dir / "spool" / ("d" * 16)
    process.mkdir()
    image = StoredImage(
        id="", position=0, file="0.png", mime="image/png", size_bytes=len(picture),
        sha256=hashlib.sha256(picture).hexdigest(), width=8, height=8,
    )  # fmt: skip
    with closing(sqlite3.connect(data_dir / "pixie.db")) as db, db:
        user, key = db.execute("SELECT user_id, key_id FROM requests").fetchone()
        columns = (
            "user_id, key_id, kind, requested_model, model, prompt, images_asked, is_stream, fingerprint"
        )
        for number in range(calls):
            call = a_call(user_id=user, key_id=key, process=process.name, hold_micros=7)
            db.execute(
                f"INSERT INTO requests (id, state, process, hold_micros, created_us, {columns})"  # noqa: S608
                f" SELECT ?, 'sent', ?, 7, ?, {columns} FROM requests LIMIT 1",
                (call.id, process.name, call.created_us),
            )
            if number % 3 < 2:
                (process / call.id).mkdir()
                (process / call.id / "0.png").write_bytes(picture)
            if number % 3 == 0:
                manifest = a_manifest(call, (replace(image, id=new_id("img")),))
                (process / call.id / "request.json").write_bytes(manifest.to_json())
        db.execute(
            "UPDATE accounts SET in_flight = in_flight + ?, held_micros = held_micros + ? WHERE subject = ?",
            (calls, 7 * calls, user),
        )
    return process
