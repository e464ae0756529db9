"""A copy that is killed at random instants, as a command: the next one goes on where it was."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from random import Random

import orjson
import pytest

from tests.cli.running import PIXIE, environment, pixie
from tests.moving.conftest import Place, Places
from tests.support.collection import everything, some_sizes
from tests.support.figures import RecordFigure
from tests.support.s3_relay import S3Relay
from tests.support.s3_servers import S3Server

CEPH = pytest.mark.xdist_group("ceph")


async def copy_killed(
    places: tuple[Place, Place], folder: Path, kills: int, random: Random, whole_s: float
) -> int:
    """Kill as many copies as told, each somewhere in its work; let the last one end. Give the kills that struck."""
    source, target = (place.config(folder / f"{name}.yaml") for name, place in zip("ab", places, strict=True))
    command = ("storage", "copy", "--from", str(source), "--to", str(target), "--json", "--data", str(folder))
    struck = 0
    for _ in range(kills):
        process = await asyncio.create_subprocess_exec(
            *PIXIE, *command, cwd=folder, env=environment(),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await asyncio.wait_for(process.wait(), random.uniform(0.4, whole_s))
        except TimeoutError:
            process.kill()
            struck += await process.wait() == -signal.SIGKILL
    process = await asyncio.create_subprocess_exec(
        *PIXIE, *command, cwd=folder, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 600)
    assert process.returncode == 0, out
    assert orjson.loads(out)["clean"]
    return struck


async def test_kills_lose_nothing(places: Places, tmp_path: Path) -> None:
    """From disk to disk: all of it is there at the end, once, and what was there before a kill is not made anew."""
    source = await places.filled("local", some_sizes(120, seed=6, largest_bytes=5_000))
    target = places.local("target")
    struck = await copy_killed((source, target), tmp_path, 3, Random(6), whole_s=1.2)
    assert struck
    assert await everything(target.storage) == await everything(source.storage)
    assert target.root is not None
    assert not list((target.root / ".incoming").iterdir())


@CEPH
async def test_kills_do_next_to_nothing_twice(places: Places, ceph: S3Server, tmp_path: Path) -> None:
    """To S3: no more goes up again than what was on its way."""
    source = await places.filled("local", some_sizes(60, seed=7, largest_bytes=5_000))
    async with S3Relay(ceph.url) as relay:
        target = places.bucket("ceph", endpoint_url=relay.url)
        struck = await copy_killed((source, target), tmp_path, 2, Random(7), whole_s=1.5)
        keys = [key for key in relay.keys("PUT") if key.endswith("/request.json")]
        assert await everything(target.storage) == await everything(source.storage)
    assert struck
    assert len(keys) - len(set(keys)) <= 8 * struck


@pytest.mark.torture
@pytest.mark.parametrize(
    ("kind", "to"),
    [
        ("local", "local"),
        pytest.param("local", "ceph", marks=CEPH),
        pytest.param("ceph", "local", marks=CEPH),
        pytest.param("ceph", "swift", marks=CEPH),
    ],
)
async def test_a_collection_survives_twenty_kills(
    places: Places, tmp_path: Path, record_figure: RecordFigure, kind: str, to: str
) -> None:
    """2,000 and more images, 20 kills: byte for byte at the end, and `--hash` finds nothing to mend."""
    source = await places.filled(kind, some_sizes(850, seed=8))
    target = await places.make(to, "target")
    struck = await copy_killed((source, target), tmp_path, 20, Random(8), whole_s=6)
    found, wanted = await everything(target.storage), await everything(source.storage)
    again = await places.copy(source, target, hashes=True)
    images = sum(not ref.endswith("request.json") for ref in wanted)
    record_figure(
        "R101",
        images=images,
        kills=struck,
        violations=len(wanted.items() - found.items()) + again.copied.folders,
    )
    assert images >= 2_000
    assert found == wanted
    assert (again.is_clean, again.copied.folders) == (True, 0)


async def test_the_command_says_what_it_did(places: Places, tmp_path: Path) -> None:
    """In words and as JSON, to people on a terminal with a bar; each refusal is one line and 2."""
    source, target = await places.filled("local", some_sizes(4, seed=9)), places.local("target")
    paths = ("--from", str(source.root), "--to", str(target.root))
    dry = await pixie("storage", "copy", *paths, "--dry-run", "--json", cwd=tmp_path)
    assert (dry.code, orjson.loads(dry.out)["missing"]["folders"], target.root.exists()) == (0, 4, False)  # type: ignore[union-attr]
    done = await pixie("storage", "copy", *paths, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "All of it is at the destination" in done.out
    assert target.root is not None
    image = next(target.root.rglob("0.png"))
    path = source.root / image.relative_to(target.root)  # type: ignore[operator]
    path.write_bytes(path.read_bytes() + b"?")
    damaged = await pixie("storage", "copy", *paths, cwd=tmp_path)
    assert damaged.code == 1
    assert f"{path.relative_to(source.root)}  sha256" in damaged.out  # type: ignore[arg-type]
    same = await pixie("storage", "copy", "--from", paths[1], "--to", paths[1], cwd=tmp_path)
    assert (same.code, len(same.errors)) == (2, 1)
