"""Versions of the program beside each other on one PostgreSQL: what a step of the schema asks of those before it."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from pixie_proxy.errors import ConfigError
from pixie_proxy.index import processes
from pixie_proxy.index.migrate import migrations, newest_schema
from pixie_proxy.index.places import SqlitePlace
from pixie_proxy.index.postgres import open_postgres, schema
from pixie_proxy.index.postgres.checkup import look_at_postgres
from pixie_proxy.index.postgres.place import PostgresPlace
from pixie_proxy.index.postgres.target import Target
from pixie_proxy.index.postgres.tx import PostgresTx
from tests.support.postgres import Server, execute, rows
from tests.support.waiting import eventually

KNOWN = newest_schema(schema.MIGRATIONS)
NEXT, BEHIND = KNOWN + 1, KNOWN + 2
ADDS = "CREATE TABLE added (n BIGINT); ALTER TABLE users ADD COLUMN added BIGINT NOT NULL DEFAULT 7;"
BREAKS = (
    f"-- Breaks programs before schema {NEXT}: they read users.added.\nALTER TABLE users DROP COLUMN added;"
)

Migrate = Callable[..., int]


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.database()


@pytest.fixture
def migrate(tmp_path: Path, url: str) -> Iterator[Migrate]:
    """Be a program that knows more steps than this one, and migrate as its start does."""
    link, _ = Target.of(url).connect(is_patient=True)
    folders = count()

    def apply(*scripts: str) -> int:
        folder = tmp_path / f"steps-{next(folders)}"
        shutil.copytree(schema.MIGRATIONS, folder)
        for number, script in enumerate(scripts, NEXT):
            (folder / f"{number:04d}_later.sql").write_text(script)
        return schema.migrate(link, folder)

    with link:
        yield apply


async def start(url: str) -> None:
    """Do what a start of this version does with its index."""
    index = await open_postgres(url, connections=2)
    await index.close()


def enter(url: str, name: str, *, knows: int, beats: int) -> None:
    """Let a process have beaten."""
    with psycopg.connect(url) as link:
        link.execute(
            "INSERT INTO processes (id, spool, schema, beats) VALUES (%s, 's', %s, %s)"
            " ON CONFLICT (id) DO UPDATE SET beats = excluded.beats",
            [name, knows, beats],
        )


async def test_what_was_only_added_to_is_used(url: str, migrate: Migrate) -> None:
    """By a program that knows nothing of it: it starts, leaves the schema alone, and says so when it is asked."""
    assert migrate(ADDS) == NEXT
    await start(url)
    assert rows(url, "SELECT version, oldest FROM schema_version") == [{"version": NEXT, "oldest": 0}]
    seen = look_at_postgres(url)
    assert seen is not None
    assert (seen.version, seen.newest_version, seen.oldest_version) == (NEXT, KNOWN, 0)


async def test_what_was_broken_is_refused(url: str, migrate: Migrate) -> None:
    """With the way out, and also when further steps have come, which only add."""
    assert migrate(ADDS, BREAKS, "CREATE TABLE other (n BIGINT);") == BEHIND + 1
    refusal = (
        f"programs before schema {NEXT} can't use the database any more, and this pixie_proxy knows {KNOWN}"
    )
    with pytest.raises(ConfigError, match=refusal):
        await start(url)
    with pytest.raises(ConfigError, match=refusal):
        PostgresPlace(url).check()
    seen = look_at_postgres(url)
    assert seen is not None
    assert seen.oldest_version > seen.newest_version


def test_a_step_that_is_not_made_breaks_nobody(url: str, migrate: Migrate) -> None:
    """Who may use the database is written with the step, or neither is."""
    with pytest.raises(psycopg.errors.UndefinedTable):
        migrate(ADDS, BREAKS + "DROP TABLE nothing;")
    assert rows(url, "SELECT version, oldest FROM schema_version") == [{"version": NEXT, "oldest": 0}]


async def test_no_step_breaks_a_program_that_runs(
    url: str, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named. One whose heart stands still is dead, one that has left is gone, one that knows enough may stay."""
    monkeypatch.setattr(schema, "_LISTEN_S", 2.0)
    for name, knows in (("old", KNOWN), ("dead", KNOWN), ("gone", KNOWN), ("new", NEXT)):
        enter(url, name, knows=knows, beats=1)
    starting = asyncio.ensure_future(asyncio.to_thread(migrate, ADDS, BREAKS))
    await eventually(lambda: rows(url, "SELECT version FROM schema_version") == [{"version": NEXT}])
    for beats in count(2):
        enter(url, "old", knows=KNOWN, beats=beats)
        enter(url, "new", knows=NEXT, beats=beats)
        execute(url, "DELETE FROM processes WHERE id = 'gone'")
        await asyncio.sleep(0.1)
        if starting.done():
            break
    with pytest.raises(ConfigError, match=rf"would break .* before schema {NEXT}, and 1 .*\(processes old\)"):
        await starting
    await start(url)
    execute(url, "DELETE FROM processes WHERE id = 'old'")
    assert await asyncio.to_thread(migrate, ADDS, BREAKS) == BEHIND


async def test_a_step_waits_for_a_table_without_keeping_others_from_it(
    url: str, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody reads for long, a dump: who comes behind the step is answered, and the step is made in the end."""
    monkeypatch.setattr(schema, "_LOCK_MS", 200)
    with psycopg.connect(url) as dump:
        dump.execute("SELECT count(*) FROM users")
        starting = asyncio.ensure_future(asyncio.to_thread(migrate, ADDS))
        await eventually(lambda: waits_for_users(url))
        index = await open_postgres(url, connections=2)
        for _ in range(5):
            assert await index.read(lambda tx: tx.all("SELECT id FROM users")) == []
        await index.close()
        assert not starting.done()
    assert await starting == NEXT


def waits_for_users(url: str) -> bool:
    return bool(rows(url, "SELECT 1 FROM pg_locks WHERE relation = to_regclass('users') AND NOT granted"))


async def test_a_backup_of_what_was_added_to(url: str, migrate: Migrate, tmp_path: Path) -> None:
    """It holds what this version knows, and is one that it can restore."""
    index = await open_postgres(url, connections=2)
    await index.write(
        lambda tx: tx.run(
            "INSERT INTO users (id, name, role, created_us) VALUES ('usr_1', 'ann', 'admin', 1)"
        )
    )
    await index.close()
    migrate(ADDS)
    place, copy = PostgresPlace(url), tmp_path / "pixie.db"
    place.check()
    place.copy_to(copy)
    with SqlitePlace(copy).live() as tx:
        (user,) = tx.all("SELECT * FROM users")
    assert user["name"] == "ann"
    assert "added" not in dict(user)
    assert SqlitePlace(copy).schema() == KNOWN


def test_a_process_says_what_it_knows(url: str) -> None:
    """And one from before, which does not, counts as one that knows nothing."""
    with Target.of(url).connect()[0] as link:
        tx = PostgresTx(link)
        processes.beat(tx, "new", "s", NEXT, "")
        processes.beat(tx, "new", "s", NEXT, "")
        tx.run("INSERT INTO processes (id, spool, beats) VALUES ('old', 's', 1)")
        assert {(each.id, each.schema, each.beats) for each in processes.every(tx).values()} == {
            ("new", NEXT, 2),
            ("old", 0, 1),
        }


# --- What a step may do -----------------------------------------------------------------------------------------------

_BODY = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)
_ADDITION = re.compile(r"CREATE (TABLE|INDEX|TRIGGER|FUNCTION|UNIQUE INDEX \S+ ON (?P<unique>\S+)) .*")
_COLUMN = re.compile(r"ADD COLUMN .*|ALTER COLUMN \S+ SET STATISTICS \d+")
_CONSTANT = re.compile(r".* DEFAULT ('[^']*'|-?\d+)( .*|$)")


def faults(script: str) -> list[str]:
    """Name what a program of the version before could not live with."""
    script = re.sub(r"--[^\n]*", "", _BODY.sub("''", script))
    statements = [" ".join(each.split()) for each in script.split(";") if each.strip()]
    made = {words[2] for each in statements if (words := each.split())[:2] == ["CREATE", "TABLE"]}
    return [each for each in statements if not _only_adds(each, made)]


def _only_adds(statement: str, made: set[str]) -> bool:
    if re.search(r"REFERENCES (?!(\S+ )(\([^)]*\) )?ON DELETE (CASCADE|SET NULL))", statement):
        return False  # the version before deletes rows, and knows nothing of what refers to them
    if alter := re.fullmatch(r"ALTER TABLE \S+ (.*)", statement):
        return all(map(_is_easy, re.split(r", (?=ADD|ALTER|DROP|RENAME)", alter[1])))
    addition = _ADDITION.fullmatch(statement)
    return addition is not None and (addition["unique"] is None or addition["unique"] in made)


def _is_easy(clause: str) -> bool:
    """Tell whether rows may still be written without naming this column."""
    if not _COLUMN.fullmatch(clause) or re.search(r"UNIQUE|PRIMARY KEY", clause):
        return False
    return "NOT NULL" not in clause or _CONSTANT.fullmatch(clause) is not None


@pytest.mark.parametrize("number", [each for each in migrations(schema.MIGRATIONS) if each >= 15])
def test_every_step_only_adds_or_says_whom_it_breaks(number: int) -> None:
    """So versions can be replaced one by one, and the way back is open: docs/operations.md, Upgrade several hosts."""
    script = migrations(schema.MIGRATIONS)[number].read_text(encoding="utf-8")
    if oldest := schema.breaks(script):
        assert oldest <= number
    else:
        assert faults(script) == []


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE a (b TEXT UNIQUE, c TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE)",
        "CREATE TABLE a (b TEXT); CREATE UNIQUE INDEX c ON a (b)",
        "CREATE INDEX a ON images (model)",
        "ALTER TABLE images ADD COLUMN a BYTEA, ADD COLUMN b BIGINT NOT NULL DEFAULT -1 CHECK (b IN (-1, 2))",
        "ALTER TABLE images ADD COLUMN a TEXT COLLATE \"C\" NOT NULL DEFAULT ''",
        "-- Drops nothing; really.\nCREATE FUNCTION f() RETURNS trigger AS $$ BEGIN DELETE FROM a; END $$;",
        "CREATE TRIGGER t AFTER INSERT ON images FOR EACH ROW EXECUTE FUNCTION f();",
    ],
)
def test_what_only_adds_passes(script: str) -> None:
    assert faults(script) == []


@pytest.mark.parametrize(
    "script",
    [
        "DROP TABLE images",
        "UPDATE images SET visibility = 'secret'",
        "ALTER TABLE images DROP COLUMN model",
        "ALTER TABLE images ADD COLUMN a TEXT, DROP COLUMN model",
        "ALTER TABLE images RENAME COLUMN model TO a",
        "ALTER TABLE images ALTER COLUMN placeholder SET NOT NULL",
        "ALTER TABLE images ADD COLUMN a TEXT NOT NULL",
        "ALTER TABLE images ADD COLUMN a BIGINT NOT NULL DEFAULT random()",
        "ALTER TABLE images ADD COLUMN a TEXT UNIQUE",
        "ALTER TABLE images ADD CHECK (model <> '')",
        "ALTER TABLE images ADD COLUMN a TEXT REFERENCES users (id)",
        "CREATE TABLE a (b TEXT REFERENCES images (id))",
        "CREATE UNIQUE INDEX a ON images (model)",
        "CREATE OR REPLACE FUNCTION f() RETURNS trigger AS $$ BEGIN END $$",
    ],
)
def test_what_breaks_is_found(script: str) -> None:
    assert len(faults(script)) == 1
