"""`pixie backup` and `pixie restore`, as an operator types them before and after a bad day (R95)."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pixie_proxy.errors import ConfigError
from tests.cli.running import Ended, pixie, pixie_here
from tests.support import outside
from tests.support.pictures import png
from tests.support.proxy import RunningProxy, run_proxy
from tests.support.upstream import ScriptedUpstream, image_json

GENERATIONS = "/v1/images/generations"


@pytest.fixture
async def used(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[RunningProxy]:
    """A serving proxy with three images of one call."""
    upstream.default(*image_json(3))
    async with run_proxy(tmp_path / "data", upstream.base_url) as proxy:
        await buy(proxy, prompt="a fox")
        await outside.settled(proxy.data_dir)
        yield proxy


async def buy(proxy: RunningProxy, *, key: str | None = None, **fields: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    answer = await proxy.request("POST", GENERATIONS, json={"n": 3, **fields}, headers=headers)
    return outside.json_of(answer)


async def run(tmp_path: Path, *arguments: str) -> Ended:
    """Run a command, with every path below `tmp_path`."""
    command, *others = arguments
    options = {"--data", "--json", "--check", "--skip-damaged", "--fix", "--images-only", "add", "eve"}
    return await pixie_here(command, *[each if each in options else str(tmp_path / each) for each in others])


async def backed_up(proxy: RunningProxy) -> Path:
    target = proxy.data_dir.parent / "bak"
    ended = await run(target.parent, "backup", "bak", "--data", str(proxy.data_dir))
    assert (ended.code, ended.err) == (0, ""), ended.out
    return target


async def test_everything_comes_back_on_another_machine(
    used: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Images, links, users and their keys, what was spent, and answers that were paid for under a key (R95)."""
    added = await run(tmp_path, "user", "add", "eve", "--data", str(used.data_dir))
    bought = await buy(used, prompt="a link", key="once", response_format="url")
    await outside.settled(used.data_dir)
    spent = outside.account(used.data_dir)
    ended = await pixie("backup", "bak", "--data", "data", cwd=tmp_path)
    assert (ended.code, ended.out) == (0, "bak: 6 images, 9 files, 0.00 GB: a whole backup\n")
    await buy(used, prompt="after the backup")
    await outside.settled(used.data_dir)
    back = tmp_path / "another" / "machine"
    ended = await pixie("restore", "bak", "--data", str(back), cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1:] == ["Restored 6 images.", "", "Next: pixie verify, then pixie serve"]
    checked = await run(tmp_path, "verify", "--data", str(back))
    assert (checked.code, checked.out) == (0, "6 images in 2 folders, 0.00 GB: all is well\n")
    charged = len(upstream.requests)
    async with run_proxy(back, upstream.base_url, server={"public_url": "http://elsewhere"}) as proxy:
        assert outside.account(back) == spent
        again = await buy(proxy, prompt="a link", key="once", response_format="url")
        assert len(upstream.requests) == charged
        paths = [[urlsplit(item["url"]).path for item in answer["data"]] for answer in (bought, again)]
        assert paths[0] == paths[1]
        status, _, body = await proxy.request("GET", paths[0][0], key=None)
        assert (status, body) == (200, png())
        assert (await proxy.get("/v1/me", key=added.out.strip()))["name"] == "eve"
        assert len(await outside.gallery(proxy)) == 6


async def test_json_is_for_programs(used: RunningProxy, tmp_path: Path) -> None:
    """What was copied, and what was found damaged, without a word beside it."""
    made = json.loads((await run(tmp_path, "backup", "bak", "--data", str(used.data_dir), "--json")).out)
    assert (made["object"], made["images"], made["files"], made["missing"]) == ("pixie.backup", 3, 5, 0)
    checked = json.loads((await run(tmp_path, "restore", "bak", "--check", "--json")).out)
    assert (checked["files"], checked["damaged"], checked["restored"]) == (5, [], False)


async def test_a_check_changes_nothing(used: RunningProxy, tmp_path: Path) -> None:
    """Not even the folder is made that would be restored into."""
    await backed_up(used)
    ended = await run(tmp_path, "restore", "bak", "--check", "--data", "back")
    assert (ended.code, "all 5 files are as they were written" in ended.out) == (0, True)
    assert not (tmp_path / "back").exists()


async def test_what_is_wrong_with_the_source_is_told(used: RunningProxy, tmp_path: Path) -> None:
    """The backup is made all the same, and the exit code says that somebody should look."""
    (used.data_dir / "storage").joinpath(next(iter(refs(used)))).unlink()
    ended = await run(tmp_path, "backup", "bak", "--data", str(used.data_dir))
    assert (ended.code, ended.out.splitlines()[-1]) == (
        1,
        "1 images were missing and 0 damaged where they should be. Next: pixie verify",
    )


def refs(proxy: RunningProxy) -> list[str]:
    return [row["ref"] for row in outside.rows(proxy.data_dir, "SELECT ref FROM images ORDER BY id")]


async def test_a_damaged_backup_is_restored_only_on_demand(used: RunningProxy, tmp_path: Path) -> None:
    """First it is said what is damaged; then all that is not can be had."""
    target, ref = await backed_up(used), refs(used)[0]
    (target / ref).write_bytes(b"?")
    ended = await run(tmp_path, "restore", "bak", "--data", "back")
    assert (ended.code, ended.out.splitlines()[1:]) == (
        1,
        [f"  {ref}", "Nothing was restored. To restore the others: pixie restore --skip-damaged"],
    )
    assert not (tmp_path / "back").exists()
    ended = await run(tmp_path, "restore", "bak", "--data", "back", "--skip-damaged")
    assert (ended.code, "Restored 2 images" in ended.out) == (1, True)
    verified = json.loads((await run(tmp_path, "verify", "--data", "back", "--json")).out)
    assert [(each["kind"], each["ref"]) for each in verified["findings"]] == [("dangling", ref)]
    (target / ref).unlink()  # as operations.md says: then the next backup brings it anew
    await backed_up(used)
    assert (await run(tmp_path, "restore", "bak", "--check")).code == 0


async def test_an_index_that_is_damaged_in_the_backup_is_not_restored(
    used: RunningProxy, tmp_path: Path
) -> None:
    """Images without it can be had by hand: they lie there as they do in storage."""
    (index,) = (await backed_up(used)).glob("2*/pixie.db")
    index.write_bytes(index.read_bytes()[:-1] + b"!")
    ended = await run(tmp_path, "restore", "bak", "--data", "back", "--skip-damaged")
    assert (ended.code, "run: pixie reindex --apply" in ended.out) == (1, True)
    assert not (tmp_path / "back").exists()


async def test_a_lost_index_comes_back_to_the_images_that_are_there(
    used: RunningProxy, tmp_path: Path
) -> None:
    """Nothing is copied that storage has; what it has lost comes back, and what is younger is for `verify --fix`."""
    await backed_up(used)
    await buy(used, prompt="after the backup")
    await outside.settled(used.data_dir)
    data = tmp_path / "copy"
    shutil.copytree(used.data_dir, data, ignore=shutil.ignore_patterns("pixie.*", "spool"))
    shutil.copy(used.data_dir / "storage" / ".pixie", data / "storage")
    ref = refs(used)[0]
    (data / "storage" / ref).unlink()
    ended = await run(tmp_path, "restore", "bak", "--data", "copy")
    assert (ended.code, "1 folders were there" in ended.out) == (0, True)
    assert (data / "storage" / ref).read_bytes() == png()
    assert (await run(tmp_path, "verify", "--fix", "--data", "copy")).code == 0
    assert len(outside.rows(data, "SELECT id FROM images")) == 6


async def test_lost_images_come_back_beside_the_index_that_is_there(
    used: RunningProxy, tmp_path: Path
) -> None:
    """The index is younger than the backup, and stays; the proxy may go on."""
    await backed_up(used)
    await buy(used, prompt="after the backup")
    await outside.settled(used.data_dir)
    storage, images = used.data_dir / "storage", outside.rows(used.data_dir, "SELECT ref FROM images")
    shutil.rmtree(storage / images[0]["ref"].rpartition("/")[0])
    ended = await run(tmp_path, "restore", "bak", "--data", "data", "--images-only")
    assert (ended.code, ended.err) == (0, "")
    assert outside.rows(used.data_dir, "SELECT ref FROM images") == images
    assert (await run(tmp_path, "verify", "--data", "data")).code == 0


async def test_places_that_nothing_is_restored_to(
    used: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """One that has an index, another storage, no backup, or one that was broken off: each with what to do."""
    target = await backed_up(used)
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    shutil.copy(target / ".pixie-backup", tmp_path / "begun")
    (tmp_path / "other" / "storage").mkdir(parents=True)
    (tmp_path / "other" / "storage" / ".pixie").write_text("another\n")
    for source, data, said in (
        ("bak", "data", "holds an index: stop the server and move pixie.db* aside"),
        ("bak", "other", "storage: it is another one than that of the backup"),
        ("empty", "back", "it holds no backup"),
        ("begun", "back", "it holds a backup that was broken off"),
        ("nowhere", "back", "it holds no backup"),
    ):
        ended = await run(tmp_path, "restore", source, "--data", data)
        (line,) = ended.errors
        assert (ended.code, said in line) == (2, True), line
    assert not (tmp_path / "back").exists()


async def test_a_restore_that_was_broken_off_is_not_taken_for_a_whole_one(
    used: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """The index comes last: without it no server starts, and the restore can be run again."""
    await backed_up(used)
    assert (await run(tmp_path, "restore", "bak", "--data", "back")).code == 0
    for path in (tmp_path / "back").glob("pixie.db*"):
        path.unlink()
    folder = next((tmp_path / "back" / "storage" / "images").rglob("request.json")).parent
    shutil.rmtree(folder)
    (tmp_path / "back" / ".restoring").mkdir()
    ended = await run(tmp_path, "restore", "bak", "--data", "back")
    assert (ended.code, ended.err) == (0, "")
    assert (await run(tmp_path, "verify", "--data", "back")).code == 0
    for path in (tmp_path / "back").glob("pixie.db*"):
        path.unlink()
    with pytest.raises(ConfigError, match="the index is empty: was the index lost"):
        async with run_proxy(tmp_path / "back", upstream.base_url):
            pass


async def test_a_backup_lies_outside_of_what_it_is_of(used: RunningProxy, tmp_path: Path) -> None:
    """On the same disk it would be lost with it; in the same folder it would be backed up with it."""
    for place in ("data/bak", "data", "data/storage/bak", "."):
        ended = await run(tmp_path, "backup", place, "--data", str(used.data_dir))
        (line,) = ended.errors
        assert (ended.code, "a backup must lie outside of" in line) == (2, True)
    ended = await run(tmp_path, "backup", "bak", "--data", "mistake")
    assert (ended.code, "holds no pixie.db" in ended.err, (tmp_path / "mistake").exists()) == (2, True, False)
