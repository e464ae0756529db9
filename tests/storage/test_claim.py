"""Index and storage belong together, and a start that finds them apart changes nothing (R9)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pixie_proxy.errors import ConfigError
from pixie_proxy.storage import SENTINEL
from tests.cli.running import pixie
from tests.support import outside
from tests.support.proxy import run_proxy
from tests.support.upstream import ScriptedUpstream, image_json

GENERATIONS = "/v1/images/generations"


@pytest.fixture
async def used(tmp_path: Path, upstream: ScriptedUpstream) -> Path:
    """Make a data directory with one image in it."""
    data = tmp_path / "data"
    upstream.default(*image_json())
    async with run_proxy(data, upstream.base_url) as proxy:
        outside.json_of(await proxy.request("POST", GENERATIONS, json={"prompt": "a fox"}))
        await outside.settled(data)
    return data


async def refusal(data: Path, **server: object) -> str:
    """Start on a data directory; give the one problem that stops it, having changed nothing."""
    before = _files(data)
    with pytest.raises(ConfigError) as refused:
        async with run_proxy(data, "http://127.0.0.1:9/v1", server=server):
            pass
    assert _files(data) == before
    (problem,) = refused.value.problems
    return problem


def _files(data: Path) -> dict[Path, bytes]:
    images = [path for path in data.rglob("*") if path.is_file() and "storage" in path.parts]
    return {path: path.read_bytes() for path in images} | {data / "rows": repr(_rows(data)).encode()}


def _rows(data: Path) -> list[dict[str, object]]:
    if not (data / "pixie.db").exists():
        return []
    return outside.rows(data, "SELECT id FROM images") + outside.rows(
        data, "SELECT name, value FROM settings"
    )


async def test_a_first_start_makes_both(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And says so loudly: an operator who has mounted the wrong volume should see it."""
    data = tmp_path / "data"
    for _ in range(2):
        async with run_proxy(data, "http://127.0.0.1:9/v1"):
            pass
    (row,) = outside.rows(data, "SELECT value FROM settings WHERE name = 'storage_id'")
    assert (data / "storage" / SENTINEL).read_text().strip() == row["value"]
    assert sum("new storage" in record.message for record in caplog.records) == 1


async def test_a_storage_that_is_not_mounted_stops_the_start(used: Path) -> None:
    """An empty folder where the images were is no reason to forget them."""
    shutil.move(used / "storage", used / "elsewhere")
    assert "is it mounted?" in await refusal(used)
    shutil.rmtree(used / "storage")
    shutil.move(used / "elsewhere", used / "storage")
    async with run_proxy(used, "http://127.0.0.1:9/v1") as proxy:
        assert len(await outside.gallery(proxy)) == 1


async def test_another_storage_stops_the_start(used: Path) -> None:
    """It belongs to another index."""
    (used / "storage" / SENTINEL).write_text("0" * 32)
    assert "another storage" in await refusal(used)


async def test_a_lost_index_stops_the_start(used: Path) -> None:
    """A new, empty one must not be taken for the truth."""
    for path in used.glob("pixie.db*"):
        path.unlink()
    assert "was the index lost?" in await refusal(used)


async def test_a_first_start_that_died_half_way_is_finished(tmp_path: Path) -> None:
    """The storage had its id already, the index had only begun."""
    data = tmp_path / "data"
    async with run_proxy(data, "http://127.0.0.1:9/v1") as proxy:
        assert proxy.context is not None
        await proxy.context.index.write(lambda tx: tx.run("DELETE FROM settings WHERE name = 'storage_id'"))
    made = (data / "storage" / SENTINEL).read_text()
    async with run_proxy(data, "http://127.0.0.1:9/v1"):
        assert (data / "storage" / SENTINEL).read_text() == made


async def test_an_existing_index_can_be_asked_for(tmp_path: Path, used: Path) -> None:
    """A volume that was not mounted is an empty folder; with the setting on, that stops the start."""
    (tmp_path / "empty").mkdir()
    assert "require_existing" in await refusal(tmp_path / "empty", require_existing=True)
    assert list((tmp_path / "empty").iterdir()) == []
    async with run_proxy(used, "http://127.0.0.1:9/v1", server={"require_existing": True}):
        pass


async def test_the_command_line_tells_it_in_one_line(tmp_path: Path, used: Path) -> None:
    """Exit code 2, and nothing but the line."""
    (used / "storage" / SENTINEL).unlink()
    ended = await pixie("serve", "--data", str(used), "--port", "0", cwd=tmp_path, OPENAI_API_KEY="sk-x")
    (line,) = ended.errors
    assert (ended.code, ended.out) == (2, "")
    assert line.startswith("pixie: storage: the index knows a storage, and this one has no .pixie file")
