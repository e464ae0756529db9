"""`pixie storage copy` as a command: killed at random instants it goes on, and it says what it does."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import orjson
import psutil
import pytest
import yaml

from pixie_proxy.cli import copying
from pixie_proxy.cli.places import check_apart, place, spoken
from pixie_proxy.errors import ConfigError
from pixie_proxy.moving.copying import FOLDERS_AT_ONCE
from pixie_proxy.moving.report import Report, Survey
from pixie_proxy.storage import folder_ref
from tests.cli.running import PIXIE, environment, pixie
from tests.moving.conftest import Place, Places
from tests.support.collection import everything, some_sizes, write_collection
from tests.support.figures import RecordFigure
from tests.support.s3_relay import S3Relay
from tests.support.s3_servers import S3Server
from tests.support.waiting import eventually

CEPH = pytest.mark.xdist_group("ceph")
Moment = Callable[[], Coroutine[object, object, None]]


async def copy_killed(places: tuple[Place, Place], folder: Path, moments: list[Moment]) -> int:
    """Kill a copy at each of these moments; let the last one end. Give the kills that struck."""
    source, target = (place.config(folder / f"{name}.yaml") for name, place in zip("ab", places, strict=True))
    command = ("storage", "copy", "--from", str(source), "--to", str(target), "--json", "--data", str(folder))
    struck = 0
    for moment in moments:
        process = await asyncio.create_subprocess_exec(
            *PIXIE, *command, cwd=folder, env=environment(),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        ended = asyncio.ensure_future(process.wait())
        come = asyncio.ensure_future(moment())
        await asyncio.wait({ended, come}, return_when=asyncio.FIRST_COMPLETED)
        come.cancel()
        with suppress(ProcessLookupError):
            process.kill()
        struck += await ended == -signal.SIGKILL
    process = await asyncio.create_subprocess_exec(
        *PIXIE, *command, cwd=folder, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    assert orjson.loads(out)["clean"]
    return struck


@CEPH
async def test_kills_do_next_to_nothing_twice(places: Places, ceph: S3Server, tmp_path: Path) -> None:
    """To S3: nothing is lost, and no more goes up again than what was on its way."""
    source = await places.filled("local", some_sizes(60, seed=7, largest_bytes=5_000))
    async with S3Relay(ceph.url) as relay:

        async def has_put(objects: int) -> None:
            await eventually(lambda: len(relay.keys("PUT")) >= objects)

        target = places.bucket("ceph", endpoint_url=relay.url)
        struck = await copy_killed((source, target), tmp_path, [partial(has_put, 10), partial(has_put, 90)])
        keys = [key for key in relay.keys("PUT") if key.endswith("/request.json")]
        assert await everything(target.storage) == await everything(source.storage)
    assert struck == 2
    assert len(keys) - len(set(keys)) <= FOLDERS_AT_ONCE * struck


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
    random = Random(8)
    moments: list[Moment] = [partial(asyncio.sleep, random.uniform(0.4, 6)) for _ in range(20)]
    struck = await copy_killed((source, target), tmp_path, moments)
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


@CEPH
@pytest.mark.torture
async def test_large_images_pass_in_bounded_memory(
    places: Places, tmp_path: Path, record_figure: RecordFigure
) -> None:
    """Images of 24 MB to S3: what the command takes does not depend on them."""
    source = await places.filled("local", [[24_000_000]] * 40)
    target = places.bucket("ceph")
    paths = ("--from", str(source.root), "--to", str(target.config(tmp_path / "target.yaml")))
    process = await asyncio.create_subprocess_exec(
        *PIXIE, "storage", "copy", *paths, cwd=tmp_path, env=environment(), stdout=asyncio.subprocess.DEVNULL
    )
    peak_bytes = 0
    while process.returncode is None:
        with suppress(psutil.Error):
            peak_bytes = max(peak_bytes, psutil.Process(process.pid).memory_info().rss)
        await asyncio.sleep(0.05)
    record_figure("R101", peak_bytes=peak_bytes)
    assert process.returncode == 0
    assert peak_bytes < 250_000_000


async def test_the_command_says_what_it_did(places: Places, tmp_path: Path) -> None:
    """Before, after, and where something is damaged: in words and as JSON, and by its exit code."""
    source, target = places.local("source"), places.local("target")
    assert source.root is not None
    assert target.root is not None
    calls = write_collection(source.root, some_sizes(4, seed=9))
    paths = ("--from", str(source.root), "--to", str(target.root))
    dry = await pixie("storage", "copy", *paths, "--dry-run", "--json", cwd=tmp_path)
    assert (dry.code, orjson.loads(dry.out)["missing"]["folders"], target.root.exists()) == (0, 4, False)
    image = source.root / folder_ref(calls[0].call.id) / "0.png"
    image.write_bytes(image.read_bytes() + b"?")
    code, drawn = await on_a_terminal("storage", "copy", *paths, cwd=tmp_path)
    assert code == 1
    assert "Copied: " in drawn
    assert "4 of 4 folders looked at" in drawn
    assert f"{image.relative_to(source.root)}  sha256" in " ".join(drawn.split("\r\n"))


async def on_a_terminal(*arguments: str, cwd: Path) -> tuple[int, str]:
    """Run a command on a terminal of its own; give its exit code and all that it drew."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *PIXIE,
        *arguments,
        cwd=cwd,
        env=environment(TERM="xterm", COLUMNS="200"),
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = b""
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        suppress(OSError),
    ):  # EIO: nobody writes to it any more
        while piece := await asyncio.to_thread(terminal.read, 65_536):
            drawn += piece
    return await process.wait(), drawn.decode()


def test_lines_tell_what_is_done_and_no_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal: a line now and then, and never more in all than there is."""
    monkeypatch.setattr(copying, "LINE_EVERY_S", 0.0)
    survey, report = Survey(), Report()
    for _ in range(3):
        survey.whole.add(2, 1_000_000)
    survey.missing.add(2, 1_000_000)
    with copying.Drawing(survey, report) as drawing:
        report.seen.add(2, 1_000_000)
        drawing.tick()
        report.seen.add(2, 1_000_000)
        report.copied.add(2, 2_000_000)  # a server goes on beside us
        drawing.tick()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("Copied 0 of 2 images, 1 of 3 folders looked at, 0.00 of 0.00 GB, 0.0 MB/s")
    assert second.startswith("Copied 2 of 2 images, 2 of 3 folders looked at, 0.00 of 0.00 GB")


@pytest.mark.parametrize(
    ("named", "spoken_of"),
    [
        ("local", "data/storage"),
        ("s3", "s3://pictures/team at https://s3.example.com"),
        ("s3://other", "s3://other at https://s3.example.com"),
        ("s3://other/a/b", "s3://other/a/b at https://s3.example.com"),
        ("/mnt/new", "/mnt/new"),
    ],
)
def test_places_are_named_as_operators_think_of_them(tmp_path: Path, named: str, spoken_of: str) -> None:
    """By the settings, whatever kind they have now; another bucket with the same key."""
    s3 = {
        "bucket": "pictures",
        "prefix": "team",
        "endpoint_url": "https://s3.example.com",
        "access_key_id": "key",
        "secret_access_key": "secret",
    }
    for kind in ("local", "s3"):
        config = tmp_path / f"{kind}.yaml"
        config.write_text(yaml.safe_dump({"storage": {"kind": kind, "s3": s3}}))
        found = place(named, config)
        assert spoken(found) == spoken_of
        assert found.storage.s3.secret_access_key is not None


def test_a_settings_file_stands_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the environment are about the settings of --config, not about another file's."""
    monkeypatch.setenv("PIXIE_STORAGE__KIND", "local")
    monkeypatch.setenv("OTHER_BUCKET", "elsewhere")
    other = tmp_path / "other.yaml"
    other.write_text("storage: {kind: s3, s3: {bucket: '${OTHER_BUCKET}'}}")
    assert spoken(place(str(other))) == "s3://elsewhere"


@pytest.mark.parametrize("named", ["s3", "s3://x", "s3://good/../bad"])
def test_a_place_that_can_not_be_is_told(named: str) -> None:
    """In the words of the settings."""
    with pytest.raises(ConfigError, match=r"^storage(\.s3\.|: kind s3 needs)"):
        place(named)


@pytest.mark.parametrize(
    ("one", "other"), [("a", "a"), ("a", "a/b"), ("a/b", "./a"), ("s3://bbb/p", "s3://bbb/p/")]
)
def test_a_place_is_not_copied_into_itself(one: str, other: str) -> None:
    """Nor one that lies in the other."""
    with pytest.raises(ConfigError, match="is where the images are now"):
        check_apart(place(one), place(other))
