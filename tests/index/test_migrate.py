"""How a database comes to the schema that the code knows."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pixie_proxy.errors import ConfigError
from pixie_proxy.index.migrate import migrate, migrations, schema_version, statements
from tests.index.conftest import OpenIndex

ROOT = Path(__file__).parents[2]
MIGRATE = """
import sqlite3, sys
from pathlib import Path
from pixie_proxy.index.migrate import migrate
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
print("ready", flush=True)
sys.stdin.readline()
print(migrate(database, Path(sys.argv[2])))
"""


def write_migrations(folder: Path, *scripts: str) -> Path:
    folder.mkdir()
    for number, script in enumerate(scripts, start=1):
        (folder / f"{number:04d}_step.sql").write_text(script)
    return folder


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def test_migrations_are_numbered_without_gaps() -> None:
    """0001, 0002, …: a number is the version it leads to."""
    assert list(migrations()) == list(range(1, len(migrations()) + 1))


async def test_second_start_changes_nothing(open_index: OpenIndex) -> None:
    """Migrating is idempotent."""
    sql = "SELECT name, sql FROM sqlite_master ORDER BY name"
    first, second = await open_index(), await open_index()
    rows = [[tuple(row) for row in await index.read(lambda tx: tx.all(sql))] for index in (first, second)]
    assert rows[0] == rows[1]
    assert "requests" in [name for name, _ in rows[0]]


def test_four_processes_race(tmp_path: Path) -> None:
    """Every step is applied once, and all of them see the end."""
    folder = write_migrations(
        tmp_path / "steps",
        "CREATE TABLE t (n); INSERT INTO t VALUES (1);",
        *["INSERT INTO t VALUES (1);"] * 9,
    )
    database = tmp_path / "race.db"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE, database, folder],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    assert [racer.communicate(timeout=30)[0] for racer in racers] == ["10\n"] * 4
    connection = connect(database)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (10,)
    connection.close()


def test_step_that_another_process_took_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is read again once no one else can write: who was overtaken meanwhile applies nothing twice."""
    folder = write_migrations(tmp_path / "steps", "CREATE TABLE a (n);", "CREATE TABLE b (n);")
    mine, other = (
        connect(tmp_path / "x.db"),
        sqlite3.connect(tmp_path / "x.db", timeout=0, isolation_level=None),
    )
    found: list[int] = []

    def overtaken(connection: sqlite3.Connection) -> int:
        version = schema_version(connection)
        found.append(version)
        if len(found) == 1:
            monkeypatch.undo()
            migrate(other, folder)
            monkeypatch.setattr("pixie_proxy.index.migrate.schema_version", overtaken)
        if connection.in_transaction:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        return version

    monkeypatch.setattr("pixie_proxy.index.migrate.schema_version", overtaken)
    assert migrate(mine, folder) == 2
    assert found == [0, 2, 2, 2]
    mine.close()
    other.close()


def test_failing_step_leaves_the_version_before_it(tmp_path: Path) -> None:
    """A step is applied whole or not at all; mended, it goes on from there."""
    folder = write_migrations(
        tmp_path / "steps", "CREATE TABLE a (n);", "CREATE TABLE b (n); INSERT INTO nowhere VALUES (1);"
    )
    connection = connect(tmp_path / "x.db")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, folder)
    assert schema_version(connection) == 1
    assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["a"]
    (folder / "0002_step.sql").write_text("CREATE TABLE b (n);")
    assert migrate(connection, folder) == 2
    connection.close()


async def test_database_of_a_newer_version_is_refused(open_index: OpenIndex, tmp_path: Path) -> None:
    """One line says so, and the file stays as it is."""
    await (await open_index()).close()
    connection = connect(tmp_path / "pixie.db")
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    with pytest.raises(ConfigError, match="schema 9999") as refused:
        await open_index()
    assert len(str(refused.value).splitlines()) == 1


def test_statements_end_where_sqlite_says() -> None:
    """Semicolons in strings, comments and triggers are part of their statement."""
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; DELETE FROM c; END;"
    script = f"-- one; two\nINSERT INTO a VALUES ('x;y'); {trigger}\n/* ; */ SELECT 1;\n\n"
    assert [statement.split()[-1] for statement in statements(script)] == ["('x;y');", "END;", "1;"]


def test_accounts_of_keys_and_team_come_from_the_ledger(tmp_path: Path) -> None:
    """Who upgrades finds every account to be the sum of its ledger, as `pixie verify` wants it."""
    older = tmp_path / "older"
    older.mkdir()
    for number, path in migrations().items():
        if number < 6:
            (older / path.name).write_text(path.read_text())
    connection = connect(tmp_path / "pixie.db")
    migrate(connection, older)
    connection.executescript(
        """
        INSERT INTO users (id, name, role, created_us)
            VALUES ('usr_1', 'ann', 'member', 1), ('usr_2', 'ben', 'member', 1);
        INSERT INTO accounts (subject, in_flight, day, spent_day_micros, spent_life_micros, held_micros)
            VALUES ('usr_1', 1, '2026-11-21', 7, 7, 50), ('usr_2', 0, '2026-11-21', 5, 5, 0);
        """
    )
    for at, (user, key, state, hold, cost) in enumerate(
        [
            ("usr_1", "key_1", "done", 9, 7),
            ("usr_1", "key_1", "sent", 50, None),
            ("usr_1", "key_2", "failed", 9, 0),
            ("usr_2", None, "unknown", 5, 5),
        ]
    ):
        connection.execute(
            "INSERT INTO requests (id, user_id, key_id, kind, model, images_asked, is_stream, fingerprint, state,"
            " hold_micros, cost_micros, process, created_us)"
            " VALUES (?, ?, ?, 'generation', 'm', 1, 0, 'f', ?, ?, ?, 'p', 1)",
            (f"req_{at}", user, key, state, hold, cost),
        )
    migrate(connection)
    rows = connection.execute(
        "SELECT subject, in_flight, day, spent_life_micros, held_micros FROM accounts ORDER BY subject"
    )
    assert rows.fetchall() == [
        ("key_1", 1, "", 7, 50),
        ("key_2", 0, "", 0, 0),
        ("team", 1, "", 12, 50),
        ("usr_1", 1, "", 7, 50),
        ("usr_2", 0, "", 5, 0),
    ]
    connection.close()
