"""`pixie verify` and `pixie reindex`, as an operator types them after a bad day (R53)."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pixie_proxy.errors import ConfigError
from tests.cli.running import Ended, pixie
from tests.support import outside
from tests.support.proxy import MEMBER_KEY, run_proxy
from tests.support.upstream import ScriptedUpstream, image_json

GENERATIONS = "/v1/images/generations"
TOLD = """
SELECT i.id, i.request_id, i.position, i.owner_id, u.name, i.ref, i.mime, i.size_bytes, i.width, i.height, i.sha256,
    i.revised_prompt, i.visibility, i.created_us, i.deleted_us, i.kind, i.model, i.siblings, r.requested_model,
    r.prompt, r.params, r.images_asked, r.is_stream, r.fingerprint, r.idempotency_key, r.state, r.hold_micros,
    r.cost_micros, r.error, r.upstream_request_id, r.flags, r.process, r.created_us, r.settled_us, r.usage, r.skeleton
FROM images i JOIN users u ON u.id = i.owner_id JOIN requests r ON r.id = i.request_id ORDER BY i.id
"""
SOUGHT = "SELECT image_id, list, owner, words FROM searchable ORDER BY image_id"


@pytest.fixture
async def used(tmp_path: Path, upstream: ScriptedUpstream) -> Path:
    """A data directory of a proxy that made some images, and was stopped."""
    await fill(tmp_path / "data", upstream, calls=4)
    return tmp_path / "data"


async def fill(data: Path, upstream: ScriptedUpstream, *, calls: int, n: int = 3) -> None:
    upstream.default(*image_json(n))
    async with run_proxy(data, upstream.base_url) as proxy:

        async def make(numbers: range) -> None:
            for number in numbers:
                body = {"prompt": f"a fox, number {number}", "n": n, "size": "1024x1024", "x_own": [number]}
                outside.json_of(await proxy.request("POST", GENERATIONS, json=body))

        await asyncio.gather(*[make(range(first, calls, 8)) for first in range(8)])
        await outside.settled(data)


def move_index_aside(data: Path) -> None:
    for path in data.glob("pixie.db*"):
        path.rename(data.parent / f"{path.name}.bad")


async def run(data: Path, *arguments: str) -> Ended:
    return await pixie(*arguments, "--data", str(data), cwd=data.parent)


async def test_a_lost_index_is_rebuilt_and_the_proxy_starts_again(
    used: Path, upstream: ScriptedUpstream
) -> None:
    """The start refuses and names the command; then every image is back, whose it was, with its bytes, and is found."""
    before = outside.rows(used, TOLD), outside.rows(used, SOUGHT)
    async with run_proxy(used, upstream.base_url) as proxy:
        listed = await outside.gallery(proxy)
    move_index_aside(used)
    with pytest.raises(ConfigError, match="pixie reindex --apply"):
        async with run_proxy(used, upstream.base_url):
            pass
    ended = await run(used, "reindex", "--apply")
    assert (ended.code, ended.err) == (0, "")
    assert "pixie serve" in ended.out
    assert (outside.rows(used, TOLD), outside.rows(used, SOUGHT)) == before
    async with run_proxy(used, upstream.base_url) as proxy:
        again = await outside.gallery(proxy)
        for image in again:
            assert len(await outside.content(proxy, image)) == image["bytes"]
        mine = await proxy.get("/v1/images?owner=me", key=MEMBER_KEY)
        found = await proxy.get("/v1/images?q=fox+2", key=MEMBER_KEY)
    hide = {"url", "thumbnail_url"}  # links are signed with a secret that only the index had
    assert [{k: v for k, v in image.items() if k not in hide} for image in again] == [
        {k: v for k, v in image.items() if k not in hide} for image in listed
    ]
    assert (len(mine["data"]), len(found["data"])) == (12, 3)


async def test_a_dry_run_leaves_nothing_behind(used: Path) -> None:
    """It tells what it would do, and makes no index where there is none."""
    move_index_aside(used)
    before = sorted(used.rglob("*"))
    ended = await run(used, "reindex", "--json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert (told["applied"], told["added"]) == (False, {"images": 12, "requests": 4, "users": ["bob"]})
    assert sorted(used.rglob("*")) == before
    assert "Next: pixie reindex --apply" in (await run(used, "reindex")).out


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_pages(path: Path) -> None:
    rng, data = random.Random(3), bytearray(path.read_bytes())
    for page in range(1, len(data) // 4096, 2):
        data[page * 4096 : page * 4096 + 64] = rng.randbytes(64)
    path.write_bytes(data)


def overwrite(path: Path) -> None:
    path.write_bytes(b"<html>" * 3000)


@pytest.mark.parametrize("damage", [truncate, flip_pages, overwrite])
async def test_a_damaged_index_is_refused_with_the_way_out(
    used: Path, damage: Callable[[Path], None]
) -> None:
    """Neither command touches it; moved aside, as they say, it is rebuilt."""
    before = outside.rows(used, TOLD)
    damage(used / "pixie.db")
    broken = (used / "pixie.db").read_bytes()
    for command in (["reindex"], ["reindex", "--apply"], ["verify"], ["verify", "--fix"]):
        ended = await run(used, *command)
        (line,) = ended.errors
        assert (ended.code, ended.out) == (2, ""), command
        assert line.startswith(f"pixie: index: {used / 'pixie.db'} is damaged")
        assert "move pixie.db* aside and run: pixie reindex --apply" in line
    assert (used / "pixie.db").read_bytes() == broken
    move_index_aside(used)
    assert (await run(used, "reindex", "--apply")).code == 0
    assert outside.rows(used, TOLD) == before


@pytest.mark.parametrize("command", [["verify", "--fix"], ["reindex", "--apply"]])
@pytest.mark.parametrize("absent", ["storage", "sentinel"])
async def test_a_storage_that_is_not_mounted_is_refused(used: Path, command: list[str], absent: str) -> None:
    """0 rows changed, no folder made (R9)."""
    before = outside.rows(used, TOLD)
    shutil.move(used / "storage", used.parent / "elsewhere")
    if absent == "sentinel":
        (used / "storage").mkdir()
    ended = await run(used, *command)
    (line,) = ended.errors
    assert (ended.code, "is it mounted?" in line) == (2, True)
    assert outside.rows(used, TOLD) == before
    assert (used / "storage").exists() == (absent == "sentinel")


async def test_verify_says_that_all_is_well(used: Path) -> None:
    """In one line, and with exit code 0."""
    ended = await run(used, "verify")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == ["12 images in 4 folders, 0.00 GB: all is well"]


async def test_verify_says_what_was_found_and_what_to_do(used: Path) -> None:
    """A line each, a table of kinds, the next command, and exit code 1."""
    first, second, *_ = sorted((used / "storage" / "images").rglob("0.png"))
    first.write_bytes(first.read_bytes()[:-1] + b"!")
    (second.parent / "9.png").write_bytes(b"x")
    ended = await run(used, "verify")
    assert ended.code == 1
    assert f"  rotten  {first.relative_to(used / 'storage')}  sha256 " in ended.out
    assert "restore the file from a backup" in ended.out
    assert ended.out.splitlines()[-1] == "Next: pixie verify --fix"


async def test_verify_needs_an_index(tmp_path: Path) -> None:
    """A misspelt directory is no empty gallery, and is not made."""
    ended = await run(tmp_path / "mistake", "verify")
    (line,) = ended.errors
    assert (ended.code, "holds no pixie.db" in line) == (2, True)
    assert not (tmp_path / "mistake").exists()


async def test_reindex_is_safe_beside_a_running_proxy(used: Path, upstream: ScriptedUpstream) -> None:
    """It only adds, in small transactions, so nobody waits and nothing is changed."""
    async with run_proxy(used, upstream.base_url) as proxy:
        before = outside.rows(used, TOLD)
        ended = await run(used, "reindex", "--apply", "--json")
        assert (ended.code, json.loads(ended.out)["added"]["images"]) == (0, 0)
        assert outside.rows(used, TOLD) == before
        assert len(await outside.gallery(proxy)) == 12


@pytest.mark.parametrize(
    ("calls", "n"),
    [(30, 10), *[pytest.param(*each, marks=pytest.mark.torture) for each in ((1000, 10), (10_000, 1))]],
)
async def test_every_image_comes_back_equal(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: Callable[..., None], calls: int, n: int
) -> None:
    """Id, owner, digest, times, model, params, cost, prompt, answer: every column, at 500 images a second (R53)."""
    data, images = tmp_path / "data", calls * n
    await fill(data, upstream, calls=calls, n=n)
    before = outside.rows(data, TOLD)
    move_index_aside(data)
    started = time.monotonic()
    ended = await run(data, "reindex", "--apply")
    took_s = time.monotonic() - started
    assert (ended.code, ended.err) == (0, "")
    after = outside.rows(data, TOLD)
    assert (len(after), after == before) == (images, True)
    checked = await run(data, "verify")
    assert (checked.code, checked.out.startswith(f"{images:,} images in {calls:,} folders")) == (0, True)
    if calls >= 1000:  # below, the start of Python is most of it
        assert images / took_s >= 500
    record_figure("R53", images=images, requests=calls, different=0, images_per_s=round(images / took_s))
