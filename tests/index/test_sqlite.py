"""How the SQLite index commits, waits, fails and closes."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.errors import ConfigError, IndexUnavailable
from pixie_proxy.index import Tx, settings, sqlite
from pixie_proxy.index.lock import FileLock
from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite
from tests.index.conftest import OpenIndex

ROOT = Path(__file__).parents[2]
HOLD_LOCK = """
import fcntl, sys, time
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(0.3)
"""
WRITE_MANY = """
import asyncio, sys
from pathlib import Path
from pixie_proxy.index.sqlite import open_sqlite
async def main(folder, me):
    index = await open_sqlite(folder / "pixie.db", lock_path=folder / "pixie.lock", readers=1)
    for n in range(100):
        await index.write(lambda tx: tx.run("INSERT INTO settings VALUES (:n, :v)", n=f"{me}-{n}", v="x" * 500))
    await index.close()
asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.fixture
async def index(open_index: OpenIndex) -> SqliteIndex:
    return await open_index()


def put(name: str, value: str = "x") -> Any:
    return lambda tx: settings.put(tx, name, value)


async def names(index: SqliteIndex) -> list[str]:
    rows = await index.read(lambda tx: tx.all("SELECT name FROM settings ORDER BY name"))
    return [row["name"] for row in rows]


async def test_works_that_wait_together_share_one_commit(index: SqliteIndex) -> None:
    """Twenty writes asked for at once cost one commit, and no savepoint while all go well."""
    seen: list[str] = []
    await index._writer.set_trace_callback(seen.append)
    await asyncio.gather(*[index.write(put(f"n{n}")) for n in range(20)])
    assert (seen.count("COMMIT"), seen.count("SAVEPOINT work")) == (1, 0)
    await index.write(put("alone"))
    assert (seen.count("COMMIT"), seen.count("SAVEPOINT work")) == (2, 0)


async def test_nothing_is_answered_before_commit(index: SqliteIndex) -> None:
    """While COMMIT is about to run, no caller has an answer and no reader sees a thing."""
    reached, go = threading.Event(), threading.Event()

    def at(statement: str) -> None:
        if statement == "COMMIT":
            reached.set()
            go.wait(1)

    await index._writer.set_trace_callback(at)
    tasks = [asyncio.ensure_future(index.write(put(f"n{n}"))) for n in range(3)]
    await asyncio.to_thread(reached.wait, 1)
    assert await names(index) == []
    assert not any(task.done() for task in tasks)
    go.set()
    await asyncio.gather(*tasks)
    assert len(await names(index)) == 3


async def test_work_of_a_caller_who_left_is_committed(index: SqliteIndex) -> None:
    """Cancelling the caller takes nothing back, whether its work runs or still waits."""
    go = threading.Event()

    def slow(tx: Tx) -> None:
        go.wait(1)
        settings.put(tx, "running", "x")

    running = asyncio.ensure_future(index.write(slow))
    await asyncio.sleep(0.02)
    waiting = asyncio.ensure_future(index.write(put("waiting")))
    await asyncio.sleep(0)
    running.cancel()
    waiting.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    go.set()
    await index.write(put("next"))
    assert await names(index) == ["next", "running", "waiting"]


async def test_works_run_again_alone_when_sqlite_gives_the_transaction_up(index: SqliteIndex) -> None:
    """A statement that rolls the whole batch back costs its neighbours nothing."""
    await index.write(put("taken"))

    def give_up(tx: Tx) -> None:
        tx.run("INSERT OR ROLLBACK INTO settings (name, value) VALUES ('taken', 'x')")

    outcomes = await asyncio.gather(
        *[index.write(work) for work in (put("a"), give_up, put("b"))], return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), sqlite3.IntegrityError, type(None)]
    assert await names(index) == ["a", "b", "taken"]


@pytest.mark.parametrize("neighbours", [0, 3])
async def test_work_that_ends_its_own_transaction_fails_alone(index: SqliteIndex, neighbours: int) -> None:
    """Even a work that breaks the rules gets an error, and leaves a connection that works."""
    works = [*[put(f"n{n}") for n in range(neighbours)], lambda tx: tx.run("ROLLBACK")]
    outcomes = await asyncio.gather(*[index.write(work) for work in works], return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome is not None] == [outcomes[-1]]
    assert isinstance(outcomes[-1], IndexUnavailable)
    assert len(await names(index)) == neighbours


async def test_errors_of_a_work_pass_as_they_are(index: SqliteIndex) -> None:
    """A constraint, a wrong statement, and even StopIteration come back; the thread lives on."""

    def stop(tx: Tx) -> None:
        raise StopIteration

    with pytest.raises(sqlite3.IntegrityError):
        await index.write(lambda tx: tx.run("INSERT INTO settings (name, value) VALUES ('a', NULL)"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await index.write(lambda tx: tx.run("DELETE FROM nowhere"))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await index.write(stop)
    await index.write(put("a"))


async def test_full_disk_is_said_and_passes(index: SqliteIndex) -> None:
    """Without room a write is a 503 that tells so, reads go on; with room again writes work."""
    await index.write(put("a"))
    pages = await index._writer.hop(lambda: index._writer._conn.execute("PRAGMA page_count").fetchone()[0])
    await index._writer.hop(index._writer._conn.execute, f"PRAGMA max_page_count = {pages}")
    outcomes = await asyncio.gather(
        index.write(put("big", "x" * 100_000)), index.write(put("small")), return_exceptions=True
    )
    assert isinstance(outcomes[0], IndexUnavailable)
    assert "full" in outcomes[0].message
    assert outcomes[1] is None
    assert await names(index) == ["a", "small"]
    await index._writer.hop(index._writer._conn.execute, "PRAGMA max_page_count = 100000")
    await index.write(put("big", "x" * 100_000))


async def test_locked_database_is_unavailable_after_the_busy_timeout(
    open_index: OpenIndex, tmp_path: Path
) -> None:
    """Nobody waits longer than that, not those who came later either; readers never wait; it heals by itself."""
    index = await open_index(busy_timeout_ms=150)
    other = sqlite3.connect(tmp_path / "pixie.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    first = asyncio.ensure_future(index.write(put("first")))
    await asyncio.sleep(0.05)
    late = asyncio.ensure_future(index.write(put("late")))
    assert await names(index) == []
    await asyncio.wait({first})
    assert late.done()
    assert 0.1 < time.monotonic() - started < 1
    errors = await asyncio.gather(first, late, return_exceptions=True)
    for error in errors:
        assert isinstance(error, IndexUnavailable)
        assert error.headers == {"retry-after": "5"}
    assert errors[0] is not errors[1]
    other.execute("ROLLBACK")
    other.close()
    await index.write(put("after"))
    assert await names(index) == ["after"]


async def test_write_waits_for_a_process_that_holds_the_lock(
    open_index: OpenIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an old SQLite no write starts while another process may write or checkpoint."""
    monkeypatch.setattr(sqlite, "WAL_RESET_FIXED", (99, 0, 0))
    index = await open_index()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, tmp_path / "pixie.lock"], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        await asyncio.to_thread(holder.stdout.readline)
        started = time.monotonic()
        await index.write(put("a"))
        assert time.monotonic() - started > 0.2


async def test_lock_that_stays_held_makes_writes_unavailable(
    open_index: OpenIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for the lock ends; closing without it keeps everything for the next start."""
    monkeypatch.setattr(sqlite, "WAL_RESET_FIXED", (99, 0, 0))
    index = await open_index(busy_timeout_ms=100)
    await index.write(put("kept"))
    foreign = FileLock(tmp_path / "pixie.lock", 1)
    with foreign.hold():
        with pytest.raises(IndexUnavailable, match="locked"):
            await index.write(put("refused"))
        with pytest.raises(IndexUnavailable, match="locked"):
            await open_index(busy_timeout_ms=100)
        await index.close()
        assert (tmp_path / "pixie.db-wal").stat().st_size > 0
    foreign.close()
    assert await names(await open_index()) == ["kept"]


async def test_new_sqlite_needs_no_lock(
    open_index: OpenIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite is mended, writes don't touch the lock file."""
    monkeypatch.setattr(sqlite, "WAL_RESET_FIXED", (3, 0, 0))
    index = await open_index(busy_timeout_ms=100)
    foreign = FileLock(tmp_path / "pixie.lock", 1)
    with foreign.hold():
        await index.write(put("a"))
    foreign.close()


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    """The server and two commands share the file: nothing is lost, nothing is damaged."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE_MANY, tmp_path, str(n)], cwd=ROOT) for n in range(3)
    ]
    assert [writer.wait(30) for writer in writers] == [0] * 3
    database = sqlite3.connect(tmp_path / "pixie.db")
    assert database.execute("SELECT count(*) FROM settings").fetchone() == (300,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


async def test_read_is_one_snapshot(index: SqliteIndex) -> None:
    """What is committed while a reading work runs is not in it."""
    started, go = threading.Event(), threading.Event()

    def read(tx: Tx) -> list[str | None]:
        before = settings.get(tx, "a")
        started.set()
        go.wait(1)
        return [before, settings.get(tx, "a")]

    reading = asyncio.ensure_future(index.read(read))
    await asyncio.to_thread(started.wait, 1)
    await index.write(put("a"))
    go.set()
    assert await reading == [None, None]
    assert await index.read(lambda tx: settings.get(tx, "a")) == "x"


async def test_slow_read_leaves_the_other_reader_free(index: SqliteIndex) -> None:
    """A read takes a connection that is free; when none is, it waits for whichever comes first."""
    go = threading.Event()

    def wait(tx: Tx) -> None:
        go.wait(1)

    slow = asyncio.ensure_future(index.read(wait))
    assert await asyncio.wait_for(asyncio.gather(*[names(index) for _ in range(20)]), 0.5) == [[]] * 20
    assert not slow.done()
    go.set()
    await slow


@pytest.mark.parametrize(
    ("name", "setting"), [("synchronous", "NORMAL"), ("journal_mode", "DELETE"), ("foreign_keys", "OFF")]
)
async def test_wrong_pragma_stops_the_start(
    open_index: OpenIndex, monkeypatch: pytest.MonkeyPatch, name: str, setting: str
) -> None:
    """SQLite is asked what it really runs with, and one line says what is wrong."""
    monkeypatch.setitem(sqlite.PRAGMAS, name, (setting, sqlite.PRAGMAS[name][1]))
    with pytest.raises(ConfigError, match=name) as refused:
        await open_index()
    assert len(str(refused.value).splitlines()) == 1


async def test_files_are_private_and_tidy(open_index: OpenIndex, tmp_path: Path) -> None:
    """Only the owner may read prompts and digests; after close the log is folded into the database."""
    index = await open_index()
    await index.write(put("a"))
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o600"}
    await index.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pixie.db", "pixie.lock"]


async def test_start_says_what_is_wrong_with_the_file(open_index: OpenIndex, tmp_path: Path) -> None:
    """A file that is no database and a folder that is not there stop the start by name, and leave no thread."""
    threads = threading.active_count()
    (tmp_path / "junk.db").write_bytes(b"junk" * 5000)
    with pytest.raises(IndexUnavailable, match=r"junk\.db.*no SQLite database"):
        await open_index(name="junk.db")
    with pytest.raises(IndexUnavailable, match=r"nowhere/pixie\.lock"):
        await open_sqlite(tmp_path / "nowhere/pixie.db", lock_path=tmp_path / "nowhere/pixie.lock")
    with pytest.raises(IndexUnavailable, match=r"nowhere/pixie\.db"):
        await open_index(name="nowhere/pixie.db")
    assert threading.active_count() <= threads + 3  # the loop's own to_thread workers
    assert not [thread for thread in threading.enumerate() if "_connection_worker_thread" in thread.name]
