"""What was deleted is in no byte of the database's files, once the index was scrubbed (R89)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pixie_proxy.disk.watch import Room
from pixie_proxy.errors import IndexUnavailable
from pixie_proxy.index import Tx, rewriting, settings
from tests.index.conftest import OpenIndex


def words(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("pixie.db*") if b"canary" in path.read_bytes()}


def fill(tx: Tx) -> None:
    """Rows in no order, a third of them with the word: pages are split, and what moved leaves a copy in a gap."""
    dice = Random(1)
    for number in range(3000):
        word = "others" if number % 3 else "canary"
        settings.put(tx, f"{word[0]}{dice.random():.12f}"[::-1], word * dice.randint(3, 20))


def empty(tx: Tx) -> None:
    tx.run("DELETE FROM settings WHERE value LIKE 'canary%'")


async def test_no_copy_stays_in_a_gap(tmp_path: Path, open_index: OpenIndex) -> None:
    """Deleting leaves words in gaps and in the log, whatever `secure_delete` says; scrubbing leaves none."""
    index = await open_index()
    await index.write(fill)
    await index.write(empty)
    await index._keep_log()
    assert words(tmp_path) == {"pixie.db"}
    files = {path.name for path in tmp_path.iterdir()}
    await index.scrub()
    assert words(tmp_path) == set()
    assert index.log_bytes == 0
    assert {path.name for path in tmp_path.iterdir()} == files


async def test_another_program_that_reads_is_in_its_way(tmp_path: Path, open_index: OpenIndex) -> None:
    """Then the log still holds what was deleted: that is an error, and the next time it works."""
    index = await open_index()
    await index.write(fill)
    with closing(sqlite3.connect(tmp_path / "pixie.db", isolation_level=None)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT * FROM settings").fetchone()
        with pytest.raises(IndexUnavailable, match="another program reads"):
            await index.scrub()
        await index.write(empty)
    await index.scrub()
    assert words(tmp_path) == set()


async def test_a_disk_without_room_is_left_alone(
    open_index: OpenIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rewrite takes the database's size twice for a while; where that is not there, it is not begun."""
    index = await open_index()

    def no_room(path: Any) -> Room:
        return Room(1_000_000, 10**9)

    monkeypatch.setattr(rewriting, "room", no_room)
    with pytest.raises(IndexUnavailable, match="no room"):
        await index.scrub()
    await index.write(lambda tx: settings.put(tx, "a", "1"))
