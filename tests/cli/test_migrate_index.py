"""`pixie migrate-index`: the index in another database, each row as it was, and a proxy that goes on with it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pixie_proxy.index.tables import TABLES
from tests.cli.running import Ended, pixie_here
from tests.support import outside
from tests.support.postgres import Server
from tests.support.proxy import run_proxy
from tests.support.upstream import ScriptedUpstream, image_json

GENERATIONS = "/v1/images/generations"


@pytest.fixture
async def used(tmp_path: Path, upstream: ScriptedUpstream) -> Path:
    """A data directory with something in every table."""
    data = tmp_path / "data"
    upstream.default(*image_json(2))
    async with run_proxy(data, upstream.base_url) as proxy:
        for number in range(6):
            body = {"prompt": f"a fox \0 number {number}", "n": 2, "user": "ü"}
            outside.json_of(await proxy.request("POST", GENERATIONS, json=body))
        await outside.settled(data)
        images = await outside.gallery(proxy)
        one = f"/v1/images/{images[0]['id']}"
        changes: tuple[tuple[str, str, Any], ...] = (
            ("POST", one, {"visibility": "team", "tags": ["fox", "zoo"]}),
            ("POST", f"{one}/shares", {"password": "open sesame"}),
            ("POST", f"{one}/favorite", None),
            ("POST", "/v1/collections", {"name": "foxes"}),
        )
        for method, path, asked in changes:
            status, _, said = await proxy.request(method, path, json=asked)
            assert status < 300, (path, status, said)
    return data


async def run(data: Path, *arguments: str) -> Ended:
    return await pixie_here("migrate-index", *arguments, "--data", str(data))


def rows_of(data: Path, table: str, key: tuple[str, ...]) -> list[dict[str, Any]]:
    return outside.rows(data, "SELECT * FROM " + table + " ORDER BY " + ", ".join(key))  # noqa: S608


async def test_an_index_goes_there_and_back(
    used: Path, tmp_path: Path, upstream: ScriptedUpstream, postgres: Server
) -> None:
    """What it was; the proxy serves from there as if nothing had been. What it then makes comes back as well."""
    url = postgres.keep_index(used, is_empty=True)
    ended = await run(used, "--from", "sqlite", "--to", url, "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["to"] == url.replace("postgres@", "")
    assert {each["table"] for each in told["tables"]} == {*TABLES}
    async with run_proxy(used, upstream.base_url) as proxy:
        found = await outside.gallery(proxy)
        assert len(found) == 12
        assert found[0]["tags"] == ["fox", "zoo"]
        assert len(await outside.content(proxy, found[0])) > 60
        outside.json_of(await proxy.request("POST", GENERATIONS, json={"prompt": "a late fox"}))
        await outside.settled(used)
    there = {table: rows_of(used, table, key) for table, key in TABLES.items()}
    assert len(there["requests"]) == 7
    back = tmp_path / "back"
    back.mkdir()
    ended = await run(used, "--from", url, "--to", str(back / "pixie.db"))
    assert ended.code == 0, ended.err
    assert "each as it was" in ended.out
    for table, key in TABLES.items():
        assert rows_of(back, table, key) == [
            {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()}
            for row in there[table]
        ]


async def test_a_source_that_is_served_is_refused(
    used: Path, tmp_path: Path, upstream: ScriptedUpstream, postgres: Server
) -> None:
    """From a file and from a server: what it writes meanwhile would be lost."""
    empty = postgres.database(is_empty=True)
    async with run_proxy(used, upstream.base_url):
        ended = await run(used, "--from", "sqlite", "--to", empty)
        assert (ended.code, "a proxy works with" in ended.err) == (2, True)
    other = tmp_path / "other"
    url = postgres.keep_index(other)
    async with run_proxy(other, upstream.base_url):
        ended = await run(used, "--from", url, "--to", str(tmp_path / "new.db"))
        assert (ended.code, "a proxy works with" in ended.err) == (2, True)
    ended = await run(used, "--from", "sqlite", "--to", url)
    assert (ended.code, "is not empty" in ended.err) == (2, True)
    assert not (tmp_path / "new.db").exists()


async def test_what_fails_leaves_nothing(used: Path, postgres: Server) -> None:
    """A row that is not as it was, found at the end: the database is as empty as before."""
    url = postgres.database()
    with closing(psycopg.connect(url, autocommit=True)) as link:
        link.execute(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN new.size_bytes = new.size_bytes + 1; RETURN new; END $$"
        )
        link.execute("CREATE TRIGGER spoil BEFORE INSERT ON images FOR EACH ROW EXECUTE FUNCTION spoil()")
        ended = await run(used, "--from", "sqlite", "--to", url)
        assert (ended.code, "the copy is not what it was made of, in images" in ended.err) == (2, True)
        assert link.execute("SELECT count(*) FROM users").fetchone() == (0,)
        link.execute("DROP TRIGGER spoil ON images")
        assert (await run(used, "--from", "sqlite", "--to", url)).code == 0


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("sqlite", "sqlite", "is where the index is now"),
        ("nowhere.db", "sqlite", "holds no index"),
        ("sqlite", "postgres", "index.url is empty"),
        ("sqlite", "postgresql://pixie:s3cret@127.0.0.1/pixie", "leave the password out"),
        ("sqlite", "postgresql://pixie@127.0.0.1:1/pixie", "can't be reached"),
    ],
)
async def test_what_can_not_be_is_said(used: Path, source: str, target: str, said: str) -> None:
    """In one line without a secret, and nothing was changed."""
    ended = await run(used, "--from", source, "--to", target)
    assert ended.code in {1, 2}
    assert said in ended.err
    assert "s3cret" not in ended.err
    assert len(ended.err.splitlines()) == 1
