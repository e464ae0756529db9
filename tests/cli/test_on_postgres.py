"""What an operator does with a house whose index is in PostgreSQL: look, mend, rebuild, back up, restore (R53)."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from pixie_proxy.index.tables import TABLES
from tests.cli.running import Ended, pixie_here
from tests.cli.test_migrate_index import GENERATIONS, rows_of
from tests.support import outside
from tests.support.postgres import Server
from tests.support.proxy import OTHER_KEY, run_proxy
from tests.support.upstream import ScriptedUpstream, image_json

_OWN = {"sessions"}
"""What no backup keeps."""


@pytest.fixture
async def used(
    tmp_path: Path, upstream: ScriptedUpstream, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A data directory of a proxy that made some images, and was stopped; commands know where its index is."""
    data = tmp_path / "data"
    monkeypatch.setenv("PIXIE_INDEX__URL", postgres.keep_index(data))
    monkeypatch.setenv("PIXIE_SERVER__DATA_DIR", str(data))
    upstream.default(*image_json(2))
    async with run_proxy(data, upstream.base_url) as proxy:
        for number in range(4):
            body = {"prompt": f"a fox, number {number}", "n": 2}
            outside.json_of(await proxy.request("POST", GENERATIONS, json=body, key=OTHER_KEY))
        await outside.settled(data)
    assert not list(data.glob("pixie.db*"))
    return data


async def run(*arguments: str) -> Ended:
    return await pixie_here(*arguments)


async def test_a_lost_database_is_rebuilt(
    used: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is well; then the database is gone, and comes back from storage: whoever asks first is told what to do."""
    ended = await run("verify", "--json")
    assert (ended.code, json.loads(ended.out)["clean"]) == (0, True), ended
    before = rows_of(used, "images", ("id",))
    monkeypatch.setenv("PIXIE_INDEX__URL", postgres.keep_index(used, is_empty=True))
    for command in ("verify", "backup"):
        ended = await run(command, *([str(used.parent / "bak")] if command == "backup" else []))
        assert (ended.code, "the database holds no index" in ended.err) == (2, True)
    dry = await run("reindex", "--json")
    assert (dry.code, json.loads(dry.out)["added"]["images"]) == (0, 8), dry.err
    assert "the database holds no index" in (await run("verify")).err  # a dry run leaves nothing behind
    ended = await run("reindex", "--apply", "--json")
    assert (ended.code, json.loads(ended.out)["added"]["images"]) == (0, 8)
    assert rows_of(used, "images", ("id",)) == before
    assert (await run("verify", "--json")).code == 0


async def test_a_backup_is_restored_to_a_file_and_moves_back(
    used: Path, tmp_path: Path, upstream: ScriptedUpstream, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made beside a running proxy; it holds the index as SQLite does, each row as it was."""
    bak, data = tmp_path / "bak", tmp_path / "restored"
    async with run_proxy(used, upstream.base_url):
        ended = await run("backup", str(bak), "--json")
    assert ended.code == 0, ended.err
    ended = await run("restore", str(bak), "--data", str(data))
    assert (ended.code, "restore with PIXIE_INDEX__URL=null" in ended.err) == (2, True)
    monkeypatch.setenv("PIXIE_INDEX__URL", "null")
    ended = await run("restore", str(bak), "--data", str(data))
    assert ended.code == 0, ended.err
    for table, key in TABLES.items():
        if table not in _OWN:
            assert rows_of(data, table, key) == rows_of(used, table, key), table
    url = postgres.database(is_empty=True)
    monkeypatch.setenv("PIXIE_INDEX__URL", url)
    ended = await run("migrate-index", "--from", "sqlite", "--to", "postgres", "--data", str(data))
    assert ended.code == 0, ended.err
    with psycopg.connect(url) as link:
        assert link.execute("SELECT count(*) FROM images").fetchone() == (8,)


async def test_doctor_looks_at_the_server(
    used: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is, what is doubtful about it, and what to do when it is away; never a password."""
    found = await _doctor()
    assert found["level"] == "warning"
    assert "fsync = off" in found["saw"]
    monkeypatch.setenv("PIXIE_INDEX__URL", postgres.database(is_empty=True))
    assert "the first start makes it" in (await _doctor())["saw"]
    monkeypatch.setenv("PIXIE_INDEX__URL", "postgresql://pixie:s3cret@127.0.0.1:1/pixie")
    found = await _doctor()
    assert (found["level"], "postgresql://127.0.0.1:1/pixie" in found["saw"]) == ("fault", True)
    assert "s3cret" not in str(found)


async def _doctor() -> dict[str, str]:
    from pixie_proxy.config import load_settings
    from pixie_proxy.doctor import index
    from pixie_proxy.doctor.patient import Patient

    (found,) = await index.index(Patient(load_settings()))
    return {"level": found.level, "saw": found.saw, "remedy": found.remedy}
