"""An upgrade that dies on its way loses nothing, and leaves the way back open (R55)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from pixie_proxy.errors import ConfigError
from pixie_proxy.index import migrate
from pixie_proxy.index.migrate import check_schema, migrations, schema_version, upgrade
from pixie_proxy.index.sqlite import open_sqlite
from tests.support.figures import RecordFigure
from tests.support.powercut import disk

ROOT = Path(__file__).parents[2]
NEWEST = max(migrations())
SEED = 55

UPGRADE = """
import asyncio, sys
from pathlib import Path
from pixie_proxy.index import migrate
from pixie_proxy.index.sqlite import open_sqlite
migrate.MIGRATIONS = Path(sys.argv[2])
migrate.upgrade.__defaults__ = migrate.migrate.__defaults__ = migrate.migrations.__defaults__ = (migrate.MIGRATIONS,)
migrate.check_schema.__defaults__ = (migrate.MIGRATIONS,)
path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
asyncio.run(open_sqlite(path, lock_path=path.with_name("pixie.lock")))
print("done", flush=True)
sys.stdin.readline()
"""
"""Open an index as a program does whose newest migration is the last one of a folder."""

SEEDING = """
INSERT INTO users (id, name, role, created_us) VALUES ('usr_1', 'ann', 'member', 1);
WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT {rows})
INSERT INTO requests (id, user_id, kind, model, prompt, images_asked, is_stream, fingerprint, state, hold_micros,
    cost_micros, process, created_us, skeleton)
SELECT printf('req_%08d', n), 'usr_1', 'generation', 'm', 'a fox ' || n, 1, 0, 'f' || n, 'done', 5, 3, 'p', n,
    zeroblob(200)
FROM c;
INSERT INTO images (id, request_id, position, owner_id, ref, mime, size_bytes, sha256, visibility, created_us, kind,
    model, siblings)
SELECT 'img_' || id, id, 0, user_id, 'images/' || id, 'image/png', 9, id, 'team', created_us, kind, model, 1
FROM requests;
"""


def until(folder: Path, version: int) -> Path:
    """Give the migrations that a program of this schema has."""
    made = folder / f"until-{version}"
    if not made.exists():
        made.mkdir()
        for number, path in migrations().items():
            if number <= version:
                shutil.copy(path, made)
    return made


def an_index(path: Path, steps: Path, rows: int) -> None:
    """Make an index as an older program has left it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        first = until(steps, 1)
        migrate.migrate(database, first)
        database.executescript("BEGIN;" + SEEDING.format(rows=rows) + "COMMIT;")


def step(path: Path, folder: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate.migrate(database, folder)


def check(path: Path, rows: int) -> int:
    """See that an index is sound and has all that it had; give its version."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute(
            "SELECT count(*), sum(cost_micros), sum(length(skeleton)), min(prompt) FROM requests"
        ).fetchone() == (rows, 3 * rows, 200 * rows, "a fox 1")
        assert database.execute("SELECT count(DISTINCT sha256) FROM images").fetchone() == (rows,)
        return schema_version(database)


def begin(path: Path, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", UPGRADE, path, folder],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def duration_s(path: Path, folder: Path) -> float:
    began = time.monotonic()
    process = begin(path, folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    took_s = time.monotonic() - began
    end(process)
    return took_s


@pytest.mark.parametrize(
    ("rows", "kills", "oldest"), [(2000, 2, NEWEST), pytest.param(100_000, 50, 2, marks=pytest.mark.torture)]
)
def test_a_killed_migration_loses_nothing(
    tmp_path: Path, record_figure: RecordFigure, rows: int, kills: int, oldest: int
) -> None:
    """Every migration, killed at random instants: it was made or it was not, and the next start goes on from there.

    The copy from before it, once it has its name, is what the program before can read.
    """
    random = Random(SEED)
    path, seed = tmp_path / "data" / "pixie.db", tmp_path / "seed.db"
    path.parent.mkdir()
    an_index(seed, tmp_path, rows)
    step(seed, until(tmp_path, oldest - 1))
    halfway = 0
    for version in range(oldest, NEWEST + 1):
        shutil.copy(seed, path)
        took_s = duration_s(path, until(tmp_path, version))
        for _ in range(kills):
            for left in path.parent.glob("pixie.db*"):
                left.unlink()
            shutil.copy(seed, path)
            process = begin(path, until(tmp_path, version))
            time.sleep(random.uniform(0, took_s))
            end(process)
            found = check(path, rows)
            assert found in {version - 1, version}
            kept = path.with_name(f"pixie.db.before-{version}")
            halfway += kept.exists() and found < version
            if kept.exists():
                assert check(kept, rows) == version - 1
                step(kept, until(tmp_path, version - 1))  # nothing to do, and nothing to refuse
            duration_s(path, until(tmp_path, version))
            assert check(path, rows) == version
        step(seed, until(tmp_path, version))
    record_figure(
        "R55",
        migrations=NEWEST + 1 - oldest,
        rows=rows,
        kills=kills * (NEWEST + 1 - oldest),
        killed_halfway=halfway,
        lost=0,
    )


@pytest.mark.parametrize(("rows", "cuts"), [(2000, 1), pytest.param(100_000, 5, marks=pytest.mark.torture)])
def test_a_power_cut_in_a_migration_loses_nothing(
    tmp_path: Path, record_figure: RecordFigure, rows: int, cuts: int
) -> None:
    """The same when the power goes: a whole upgrade from the oldest schema, on ext4."""
    random = Random(SEED)
    seed, took_s = tmp_path / "seed.db", 0.0
    an_index(seed, tmp_path, rows)
    folder = until(tmp_path, NEWEST)
    with disk(tmp_path, "ext4") as power:
        data = power.path / "data"
        data.mkdir()
        path = data / "pixie.db"
        for number in range(cuts + 1):
            for left in data.iterdir():
                left.unlink()
            shutil.copy(seed, path)
            os.sync()
            if number == 0:
                took_s = duration_s(path, folder)
                continue
            process = begin(path, folder)
            time.sleep(random.uniform(0, took_s))
            power.cut_power()
            end(process)
            power.remount()
            assert 1 <= check(path, rows) <= NEWEST
            kept = path.with_name(f"pixie.db.before-{NEWEST}")
            if kept.exists():
                assert check(kept, rows) == 1
            duration_s(path, folder)
            assert check(path, rows) == NEWEST
    record_figure("R55", rows=rows, power_cuts=cuts, lost=0)


async def test_an_upgrade_keeps_what_was_before(tmp_path: Path) -> None:
    """Going back is: the copy takes the index's place, and the older program serves it."""
    path = tmp_path / "pixie.db"
    an_index(path, tmp_path, 20)
    await (await open_sqlite(path, lock_path=tmp_path / "pixie.lock")).close()
    kept = tmp_path / f"pixie.db.before-{NEWEST}"
    assert (check(path, 20), check(kept, 20), kept.stat().st_mode & 0o777) == (NEWEST, 1, 0o600)
    with pytest.raises(ConfigError, match="go back to the copy from before its upgrade"):
        check_schema(NEWEST, until(tmp_path, NEWEST - 1))
    for left in tmp_path.glob("pixie.db-*"):
        left.unlink()
    kept.rename(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert upgrade(database, path, until(tmp_path, NEWEST - 1)) == NEWEST - 1
    assert check(tmp_path / f"pixie.db.before-{NEWEST - 1}", 20) == 1


async def test_a_first_start_and_a_start_without_an_upgrade_keep_nothing(tmp_path: Path) -> None:
    """There is nothing to go back to."""
    for _ in range(2):
        await (await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock")).close()
    assert list(tmp_path.glob("*before*")) == []


def test_an_upgrade_that_was_killed_keeps_the_copy_of_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one from half way, which neither the old nor the new program is for. After a way back it is made anew."""
    path, kept, newest = (
        tmp_path / "pixie.db",
        tmp_path / f"pixie.db.before-{NEWEST}",
        until(tmp_path, NEWEST),
    )

    def start() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            upgrade(database, path, newest)

    an_index(path, tmp_path, 20)
    half_way, whole = until(tmp_path, NEWEST - 1), migrate.migrate
    with monkeypatch.context() as killed:
        killed.setattr(migrate, "migrate", lambda database, _: whole(database, half_way))
        start()
    assert (check(path, 20), check(kept, 20)) == (NEWEST - 1, 1)
    start()
    assert (check(path, 20), check(kept, 20)) == (NEWEST, 1)
    path.unlink()
    an_index(path, tmp_path, 30)
    start()
    assert check(kept, 30) == 1


def test_an_upgrade_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is changed."""
    path = tmp_path / "pixie.db"
    an_index(path, tmp_path, 20)
    monkeypatch.setattr(migrate, "_SPARE_BYTES", 1 << 60)
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as database,
        pytest.raises(ConfigError, match="no room to upgrade"),
    ):
        upgrade(database, path)
    assert check(path, 20) == 1
