"""How the PostgreSQL index connects, commits, waits, fails and comes back."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pixie_proxy.errors import ConfigError, IndexUnavailable
from pixie_proxy.index import Tx, postgres, settings
from pixie_proxy.index.migrate import migrate as migrate_sqlite
from pixie_proxy.index.migrate import migrations
from pixie_proxy.index.postgres import PostgresIndex, open_postgres, schema
from pixie_proxy.index.postgres.checkup import look_at_postgres
from pixie_proxy.index.postgres.target import About, Target
from pixie_proxy.index.postgres.tx import rewritten
from pixie_proxy.index.tables import NUL, TABLES
from tests.index.conftest import OpenPostgres
from tests.support.postgres import Server, rows, running_postgres
from tests.support.waiting import eventually

GOOD = About(15, "15.8", "UTF8", "on", is_standby=False, synchronous_commit="on")


@pytest.fixture
async def index(open_pg: OpenPostgres) -> PostgresIndex:
    return await open_pg()


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that may be killed: no other module uses it."""
    with running_postgres(max_connections="20") as server:
        server.make_template()
        yield server


def put(name: str, value: str = "x") -> Any:
    return lambda tx: settings.put(tx, name, value)


async def names(index: PostgresIndex) -> list[str]:
    found = await index.read(lambda tx: tx.all("SELECT name FROM settings ORDER BY name"))
    return [row["name"] for row in found]


def test_queries_are_rewritten() -> None:
    """`:name` becomes psycopg's own, a cast stays one, and a per cent sign is no parameter."""
    sql = "SELECT x::text, :a FROM t WHERE n LIKE 'a%' AND b = :b_1 AND c = :a"
    assert rewritten(sql) == b"SELECT x::text, %(a)s FROM t WHERE n LIKE 'a%%' AND b = %(b_1)s AND c = %(a)s"


async def test_values_are_as_with_sqlite(index: PostgresIndex) -> None:
    """Sums are whole numbers, bytes are bytes, and a text with the one character that can't be kept is kept."""
    row = await index.read(lambda tx: tx.one("SELECT sum(n) AS n FROM (SELECT 1::bigint AS n) t"))
    assert row is not None
    assert (row["n"], type(row["n"])) == (1, int)
    assert await index.write(lambda tx: settings.put_if_absent(tx, "a\0b", "c\0")) == f"c{NUL}"


# --- Trouble ----------------------------------------------------------------------------------------------------------


async def test_a_work_that_loses_its_connection_runs_again(index: PostgresIndex) -> None:
    """Terminated before its COMMIT, it was never done; it is done once, and its caller hears nothing."""
    runs = []

    def work(tx: Tx) -> int:
        settings.count_up(tx, "n")
        runs.append(1)
        if len(runs) == 1:
            tx.one("SELECT pg_terminate_backend(pg_backend_pid())")
        return len(runs)

    assert await index.write(work) == 2
    assert await index.read(lambda tx: settings.get(tx, "n")) == "1"


async def test_connections_that_died_while_idle_are_made_anew(
    index: PostgresIndex, open_pg: OpenPostgres
) -> None:
    """After a restart of the server the next works just work."""
    await asyncio.gather(*[index.write(put(f"n{n}")) for n in range(6)], *[names(index) for _ in range(6)])
    other = await open_pg()
    await other.write(
        lambda tx: tx.all(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    )
    assert len(await names(index)) == 6
    await asyncio.gather(*[index.write(put(f"m{n}")) for n in range(6)])
    assert len(await names(index)) == 12


@asynccontextmanager
async def cutting(server: Server, database: str, *, after: bool) -> AsyncIterator[tuple[str, list[int]]]:
    """Serve as the server's address, and cut the connection of the first COMMIT: before it is there, or its answer."""
    cuts: list[int] = []
    served: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        there, thither = await asyncio.open_connection("127.0.0.1", server.port)
        is_cut = False

        async def forward() -> None:
            nonlocal is_cut
            while data := await reader.read(65536):
                if b"COMMIT\0" in data and not cuts:
                    cuts.append(1)
                    is_cut = True
                    if not after:
                        break
                thither.write(data)
            thither.close()
            await thither.wait_closed()

        async def back() -> None:
            while data := await there.read(65536):
                if is_cut:
                    break
                writer.write(data)
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(forward(), back(), return_exceptions=True)

    relay = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = relay.sockets[0].getsockname()[1]
    async with relay:
        yield f"postgresql://postgres@127.0.0.1:{port}/{database}", cuts
        await asyncio.gather(*served)


@pytest.mark.parametrize("after", [False, True], ids=["lost on its way", "answer lost"])
async def test_a_commit_without_an_answer_is_done_once(postgres: Server, after: bool) -> None:
    """Whether or not it was done, the server tells; then it is done exactly once, and the caller gets its result."""
    database = postgres.database().rpartition("/")[2]
    runs = []

    def work(tx: Tx) -> int:
        runs.append(1)
        settings.count_up(tx, "n")
        return len(runs)

    async with cutting(postgres, database, after=after) as (url, cuts):
        index = await open_postgres(url, connections=3)
        result = await index.write(work)
        assert cuts == [1]
        assert result == len(runs) == (1 if after else 2)
        assert await index.read(lambda tx: settings.get(tx, "n")) == "1"
        await index.close()


async def test_who_is_in_the_others_way_tries_again(index: PostgresIndex) -> None:
    """Two works that lock two rows in opposite order both end: the server ends one of them, which runs again."""
    await index.write(put("a"))
    await index.write(put("b"))

    def work(first: str, second: str) -> Any:
        def both(tx: Tx) -> None:
            settings.put(tx, first, first)
            tx.one("SELECT pg_sleep(0.1)")
            settings.put(tx, second, first)

        return both

    await asyncio.gather(index.write(work("a", "b")), index.write(work("b", "a")))


async def test_a_row_that_stays_locked_is_unavailable(
    index: PostgresIndex, open_pg: OpenPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for too long is told so, and it works as soon as the row is free."""
    await index.write(put("a"))
    monkeypatch.setattr("pixie_proxy.index.postgres.target.LOCK_TIMEOUT_MS", 100)
    impatient = await open_pg()
    is_held, is_enough = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        put("a", "held")(tx)
        is_held.set()
        is_enough.wait(10)

    holder = asyncio.ensure_future(index.write(hold))
    await eventually(is_held.is_set)
    with pytest.raises(IndexUnavailable, match="locked by another program"):
        await impatient.write(put("a", "mine"))
    is_enough.set()
    await holder
    await impatient.write(put("a", "mine"))


async def test_a_transaction_that_stands_still_loses_its_locks(
    postgres: Server, open_pg: OpenPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that was stopped in the middle of one does not keep the others from working."""
    monkeypatch.setattr("pixie_proxy.index.postgres.target.IDLE_TIMEOUT_MS", 300)
    one, other = await open_pg(), await open_pg()
    runs = []

    def stand_still(tx: Tx) -> None:
        settings.put(tx, "a", "stopped")
        runs.append(1)
        if len(runs) == 1:
            time.sleep(1.0)

    stopped = asyncio.ensure_future(one.write(stand_still))
    await eventually(lambda: bool(runs))
    began = time.monotonic()
    await other.write(put("a", "mine"))
    assert time.monotonic() - began < 0.9
    await stopped
    assert len(runs) == 2


async def test_a_read_without_an_end_is_ended(open_pg: OpenPostgres) -> None:
    """And says so; the next one works."""
    index = await open_pg(read_limit_s=0.2)
    with pytest.raises(IndexUnavailable, match="took too long"):
        await index.read(lambda tx: tx.one("SELECT pg_sleep(5)"))
    assert await names(index) == []


async def test_a_server_that_is_gone_is_unavailable_at_once(own_server: Server) -> None:
    """Killed and not back: every caller hears it within a second. When it is back, all goes on."""
    index = await open_postgres(own_server.database(), connections=6)
    await index.write(put("kept"))
    await asyncio.to_thread(own_server.stop, "immediate")
    began = time.monotonic()
    outcomes = await asyncio.gather(
        *[index.write(put(f"n{n}")) for n in range(20)],
        *[names(index) for _ in range(20)],
        return_exceptions=True,
    )
    assert {type(outcome) for outcome in outcomes} == {IndexUnavailable}
    assert time.monotonic() - began < 1
    await asyncio.to_thread(own_server.start)
    await index.write(put("more"))
    assert await names(index) == ["kept", "more"]
    await index.close()


async def test_a_server_that_hangs_is_unavailable_in_time(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes while every connection hangs is told so; what was begun is done when the server goes on."""
    monkeypatch.setattr(postgres, "PATIENCE_S", 0.3)
    index = await open_postgres(own_server.database(), connections=3)
    await asyncio.gather(*[index.write(put(f"n{n}")) for n in range(3)])
    with own_server.stopped():
        begun = [asyncio.ensure_future(index.write(put(f"m{n}"))) for n in range(2)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        with pytest.raises(IndexUnavailable, match="does not answer"):
            await index.write(put("late"))
        assert time.monotonic() - began < 1
    await asyncio.gather(*begun)
    assert await names(index) == ["m0", "m1", "n0", "n1", "n2"]
    await index.close()


async def test_a_close_leaves_a_server_that_hangs(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, and those who wait hear that the outcome can't be told."""
    monkeypatch.setattr(postgres, "_CLOSE_S", 0.2)
    index = await open_postgres(own_server.database(), connections=3)
    await index.write(put("n"))
    with own_server.stopped():
        begun = asyncio.ensure_future(index.write(put("m")))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(index.close(), 8)
        with pytest.raises(IndexUnavailable):
            await begun


async def test_a_server_without_a_connection_left_is_used_as_far_as_it_goes(own_server: Server) -> None:
    """Of six connections three are to be had: every work is done by these."""
    own_server.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 3")
    own_server.execute("GRANT postgres TO few")
    few = await open_postgres(
        f"{own_server.database()}?options=-crole%3Dpostgres".replace("postgres@", "few@"), connections=6
    )
    assert await names(few) == []
    await asyncio.gather(*[few.write(put(f"n{n}")) for n in range(40)])
    assert len(await names(few)) == 40
    await few.close()


# --- The start --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (GOOD._replace(version=12, version_text="12.1"), "PostgreSQL 12.1 is too old"),
        (GOOD._replace(encoding="SQL_ASCII"), "encoding is SQL_ASCII"),
        (GOOD._replace(synchronous_commit="off"), "synchronous_commit = off"),
    ],
)
def test_what_no_index_may_be_in_is_said(about: About, said: str) -> None:
    """With what to do about it."""
    assert GOOD.fault is None
    assert said in (about.fault or "")


async def test_a_server_that_forgets_is_refused(postgres: Server, open_pg: OpenPostgres) -> None:
    """At the start; and when it is set so later, by the connections that are made from then on."""
    url = postgres.database()
    name = url.rpartition("/")[2]
    index = await open_pg(at=url)
    await index.write(put("a"))
    postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(ConfigError, match="synchronous_commit = off"):
        await open_pg(at=url)
    await index.write(put("b"))  # this connection was made before
    await index.write(lambda tx: tx.all("SELECT set_config('synchronous_commit', 'on', false)"))
    with pytest.raises(IndexUnavailable, match="synchronous_commit = off"):
        await names(index)


async def test_what_comes_first_makes_the_tables(postgres: Server) -> None:
    """Of eight that open an empty database at once, one makes it and all find it made."""
    url = postgres.database(is_empty=True)
    with pytest.raises(ConfigError, match="holds no index"):
        await open_postgres(url, connections=2, must_exist=True)
    assert look_at_postgres(url) is None
    opened = await asyncio.gather(*[open_postgres(url, connections=2) for _ in range(8)])
    for index in opened:
        await index.close()
    assert rows(url, "SELECT version FROM schema_version") == [
        {"version": max(migrations(schema.MIGRATIONS))}
    ]
    seen = look_at_postgres(url)
    assert seen is not None
    assert seen.server.startswith("PostgreSQL 1")


async def test_a_user_who_may_not_make_tables_is_told(postgres: Server) -> None:
    """And what to do; the database stays as it was."""
    url = postgres.database(is_empty=True)
    postgres.execute("DROP ROLE IF EXISTS guest")
    postgres.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(ConfigError, match=r"may not make tables .*make it the owner"):
        await open_postgres(url.replace("postgres@", "guest@"), connections=2)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://pixie:s3cret%zz@127.0.0.1/pixie",
        "postgresql://pixie:s3@cret@127.0.0.1/pixie",
        "postgresql://pixie:s3/cret@127.0.0.1/pixie",
        "postgresql://pixie:s3?cret@127.0.0.1/pixie",
        "postgresql://pixie:s3cret@127.0.0.1:1/pixie",
        "s3cret",
    ],
)
async def test_no_error_shows_a_password(url: str) -> None:
    """Whether it is written wrongly, or nobody is there."""
    with pytest.raises((ConfigError, IndexUnavailable)) as raised:
        await open_postgres(url, connections=2)
    shown = str(raised.value) + repr(raised.value) + str(getattr(raised.value, "problems", ""))
    assert "s3" not in shown
    assert "cret" not in shown


def test_a_target_names_itself_without_secrets() -> None:
    """Host, port and database."""
    assert Target.of("postgresql://u:s3cret@db:5433/pixie").spoken == "postgresql://db:5433/pixie"
    assert "s3cret" not in repr(Target.of("postgresql://u:s3cret@db:5433/pixie"))


# --- The schema -------------------------------------------------------------------------------------------------------


def test_both_databases_have_the_same_tables(postgres: Server) -> None:
    """After each step: the same columns of the same kinds, which may or may not be empty."""
    with sqlite3.connect(":memory:", isolation_level=None) as lite:
        version = migrate_sqlite(lite)
        ours = {
            (table, name, {"BLOB": "bytea", "INTEGER": "bigint"}.get(kind, kind.lower()), not not_null)
            for table in TABLES
            for _, name, kind, not_null, _, _ in lite.execute(f"PRAGMA table_info({table})")
        }
    url = postgres.database()
    theirs = {
        (row["table_name"], row["column_name"], row["data_type"], row["is_nullable"] == "YES")
        for row in rows(url, "SELECT * FROM information_schema.columns WHERE table_schema = 'public'")
        if row["table_name"] in TABLES
    }
    assert theirs == ours
    assert version == max(migrations(schema.MIGRATIONS))


def test_every_text_is_compared_byte_by_byte(postgres: Server) -> None:
    """Ids sort by time only so; whatever the database's own order is."""
    odd = rows(
        postgres.database(),
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'",
    )
    assert odd == []


def test_every_table_is_scrubbed_and_moved(postgres: Server) -> None:
    """No table is missing in the list of all."""
    found = rows(postgres.database(), "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    made_again = {"schema_version", "searchable", "processes", "attempts"}
    assert {row["tablename"] for row in found} - made_again == {*TABLES}


async def test_scrubbing_leaves_nothing_of_what_was_deleted(own_server: Server) -> None:
    """In no file of the database, nor in the statistics that the planner keeps."""
    url = own_server.database()
    index = await open_postgres(url, connections=3)
    secret = "canary" * 40

    def fill(tx: Tx) -> None:
        for number in range(300):
            settings.put(tx, f"{number}", f"{secret}{number}" if number % 3 else "others")

    await index.write(fill)
    own_server.execute("CHECKPOINT")
    assert own_server.files_with(b"canarycanary")
    await index.write(lambda tx: tx.run("DELETE FROM settings WHERE value LIKE 'canary%'"))
    await index.scrub()
    own_server.execute("CHECKPOINT")
    assert own_server.files_with(b"canarycanary") == []
    assert len(await names(index)) == 100
    await index.close()
