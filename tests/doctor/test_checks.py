"""What `pixie doctor` says of a proxy that is well, of what is not, and that it leaves all as it was."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pty
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from pixie_proxy.config import Settings
from pixie_proxy.disk.watch import Room
from pixie_proxy.doctor import Finding, examination, ok
from pixie_proxy.doctor import disk as disk_checks
from pixie_proxy.doctor import index as index_checks
from pixie_proxy.doctor.patient import Patient
from pixie_proxy.index.migrate import newest_schema
from pixie_proxy.index.postgres import checkup as postgres_checkup
from pixie_proxy.records import new_id
from pixie_proxy.storage import SENTINEL
from tests.cli.running import PIXIE, environment, pixie
from tests.doctor.asking import Told, ask, has_models
from tests.support import outside
from tests.support.postgres import Server, execute
from tests.support.proxy import RunningProxy, run_proxy, settings_for
from tests.support.sockets import free_port
from tests.support.upstream import ScriptedUpstream, body, head, image_json, refused_base_url

GENERATIONS = "/v1/images/generations"
TABLES = {"settings", "data", "spool", "server", "index", "storage", "clock", "upstream", "models", "links"}


async def make_image(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Have one image in storage; afterwards the upstream has its list of models again."""
    upstream.script(image_json())
    outside.json_of(await proxy.request("POST", GENERATIONS, json={"prompt": "a fox"}))
    await outside.settled(proxy.data_dir)


@pytest.fixture
async def used(tmp_path: Path, upstream: ScriptedUpstream) -> Path:
    """Make a data directory that a proxy with an image has left."""
    has_models(upstream)
    async with run_proxy(tmp_path / "data", upstream.base_url) as proxy:
        await make_image(proxy, upstream)
    return tmp_path / "data"


def contents(folder: Path) -> dict[Path, str]:
    """Give what lies in a folder, byte for byte."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


async def of(data: Path, upstream: ScriptedUpstream, **sections: Any) -> Told:
    return await ask(settings_for(data, upstream.base_url, **sections))


async def test_before_the_first_start_all_is_well_and_nothing_is_made(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """The first start makes what is missing; the doctor makes nothing."""
    has_models(upstream)
    told = await of(tmp_path / "data", upstream)
    assert {check for check, _, _ in told.findings} == TABLES
    assert told.faults + told.warnings == []
    assert list(tmp_path.iterdir()) == []
    assert [request.path for request in upstream.requests] == ["/v1/models"]


async def test_a_stopped_proxy_is_left_as_it_is(used: Path, upstream: ScriptedUpstream) -> None:
    """No file, no byte and no write-ahead log is other than before."""
    before = contents(used)
    told = await of(used, upstream)
    assert told.faults + told.warnings == []
    assert told.line("index").startswith("whole, schema ")
    assert contents(used) == before


async def test_a_running_proxy_is_found_and_asked(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """It is ready, and the address that people use leads to it: its newest link opens there."""
    has_models(upstream)
    async with run_proxy(tmp_path / "data", upstream.base_url) as proxy:
        server = {"port": int(proxy.url.rpartition(":")[2]), "public_url": proxy.url}
        told = await of(tmp_path / "data", upstream, server=server)
        assert "would prove" in told.line("links")
        await make_image(proxy, upstream)
        told = await of(tmp_path / "data", upstream, server=server)
        assert told.faults + told.warnings == []
        assert told.line("server").endswith("and takes paid calls")
        assert told.line("links") == "server.public_url leads here: a link opens"
        elsewhere = await of(tmp_path / "data", upstream, server={"port": free_port()})
        assert "but not at 127.0.0.1" in elsewhere.warnings[0]
        other = await of(tmp_path, upstream, server=server)
        assert "serves from another data directory" in other.warnings[0]


async def test_bad_settings_are_all_listed(tmp_path: Path) -> None:
    """With their paths; exit code 2, and no value of theirs is shown."""
    (tmp_path / "config.yaml").write_text(
        "server: {prot: 1, port: sk-secret-value}\nusers: [{name: anna, key: sk-secret-value, rôle: x}]\n"
    )
    ended = await pixie("doctor", "--json", cwd=tmp_path)
    said = orjson.loads(ended.out)
    lines = [(each["level"], each["saw"].partition(":")[0]) for each in said["findings"]]
    assert (ended.code, said["well"]) == (2, False)
    assert sorted(lines) == [("fault", "server.port"), ("fault", "server.prot"), ("fault", "users[0].rôle")]
    assert "sk-secret-value" not in ended.out + ended.err


def test_a_terminal_gets_ticks_and_colours(tmp_path: Path) -> None:
    """And a pipe gets words, which are easy to look for."""
    (tmp_path / "config.yaml").write_text("server: {prot: 1}\n")
    reading, writing = pty.openpty()
    pid = os.posix_spawn(
        sys.executable,
        [*PIXIE, "doctor", "--config", str(tmp_path / "config.yaml")],
        environment(),
        file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)],
    )
    os.close(writing)
    shown = b""
    with open(reading, "rb", buffering=0) as terminal:  # noqa: PTH123 - a descriptor
        try:
            while piece := terminal.read(4096):
                shown += piece
        except OSError:  # how a terminal's end is told
            pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    first, _, last = shown.decode().splitlines()
    assert first == "\x1b[31m✗\x1b[0m  settings  server.prot: unknown setting (did you mean port?)"
    assert last == "1 fault, no warnings."


async def test_doubtful_settings_are_warned_of(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """In the words of a start."""
    has_models(upstream)
    told = await of(tmp_path / "data", upstream, server={"host": "0.0.0.0"})
    assert any(line.startswith("settings: links will start with http://0.0.0.0") for line in told.warnings)


async def test_a_spool_at_its_cap_is_told(used: Path, upstream: ScriptedUpstream) -> None:
    """From 80 % on no paid call is taken; one byte less is no fault."""
    waiting = used / "spool" / ("a" * 16) / new_id("req")
    waiting.mkdir(parents=True)
    for size, is_fault in ((79_999_999, False), (80_000_000, True)):
        with (waiting / "0.png").open("wb") as file:
            file.truncate(size)
        os.utime(waiting)
        told = await of(used, upstream, server={"spool_max_gb": 0.1})
        assert any("no paid call is taken from 0.08" in line for line in told.faults) is is_fault


async def test_models_that_end_or_have_no_price_are_told(used: Path, upstream: ScriptedUpstream) -> None:
    """Those that the settings name, and those that people asked for; others say nothing."""
    told = await of(used, upstream)
    assert told.line("models") == "gpt-image-2"
    named = {"default": "gpt-image-1.5", "aliases": {"art": "flux-dev"}, "prices": {}}
    told = await of(used, upstream, models=named)
    lines = [line for line in told.warnings if line.startswith("models: ")]
    assert lines == [
        "models: flux-dev has no price: set one (models.prices): who has a budget is refused until then",
        "models: gpt-image-1.5 is shut down on 2026-12-01: give its name an alias to a newer one (models.aliases)",
    ]


async def test_what_hangs_is_told_in_time(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so is a check that fails by our own fault: the others' findings stand."""

    async def hangs(_: Patient) -> list[Finding]:
        await asyncio.sleep(60)
        return [ok("never")]

    async def breaks(_: Patient) -> list[Finding]:
        raise RuntimeError

    has_models(upstream)
    monkeypatch.setattr(examination, "LIMIT_S", 1.0)
    monkeypatch.setitem(examination.CHECKS, "spool", hangs)
    monkeypatch.setitem(examination.CHECKS, "links", breaks)
    told = await of(tmp_path / "data", upstream)
    assert told.faults == ["spool: no answer within 1 seconds: see whether a disk or a network mount hangs"]
    assert told.warnings == ["links: not looked at (RuntimeError): a fault of ours: please report it"]
    assert told.took_s < 3


@pytest.mark.parametrize(("free_mb", "level"), [(2000, "ok"), (900, "warning"), (100, "fault"), (0, "fault")])
async def test_room_is_judged_as_admission_does(
    used: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, free_mb: int, level: str
) -> None:
    """Told before it is gone, and when no call is taken any more."""
    monkeypatch.setattr(disk_checks, "room", lambda _: Room(free_mb * 1_000_000, 10**10))
    told = await of(used, upstream)
    (found,) = [found for check, found, line in told.findings if check == "data" and " free" in line]
    assert found == level


async def test_a_data_directory_that_must_be_there(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A volume that was not mounted, where the settings say that there must be one."""
    has_models(upstream)
    for folder in (tmp_path / "absent", tmp_path):
        told = await of(folder, upstream, server={"require_existing": True})
        (line,) = told.faults
        assert line.startswith("data: ")
        assert line.endswith("mount the volume")


async def test_what_waits_in_the_spool_is_told(used: Path, upstream: ScriptedUpstream) -> None:
    """Calls of a process that died, those that are older than any call, and images that a cut has spoilt."""
    call = used / "spool" / "0123456789abcdef" / f"req_{'0' * 26}"
    call.mkdir(parents=True)
    (call / "0.png.damaged").touch()
    told = await of(used, upstream)
    damaged, died, old = told.warnings
    assert "1 damaged images" in damaged
    assert "1 processes died" in died
    assert "the oldest for " in old


async def test_an_index_in_trouble_is_told(
    used: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a newer version, locked, with a log that grows, or damaged."""

    async def line(**sections: Any) -> str:
        return (await of(used, upstream, **sections)).line("index")

    with closing(sqlite3.connect(used / "pixie.db")) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        for other, said in (
            (version + 1, f"it has schema {version + 1}, this version knows {version}"),
            (version - 1, f"schema {version - 1}, which the next start makes {version}"),
        ):
            db.execute(f"PRAGMA user_version = {other:d}")
            db.commit()
            assert said in await line()
        db.execute(f"PRAGMA user_version = {version:d}")
        db.commit()
        monkeypatch.setattr(index_checks, "LARGE_WAL_BYTES", 1)
        assert "its write-ahead log has" in await line()
        db.execute("BEGIN EXCLUSIVE")
        assert (await line()).startswith("The index is locked by another program: end the other")
        db.execute("ROLLBACK")
    pages = bytearray((used / "pixie.db").read_bytes())
    pages[8192:12288] = b"\xff" * 4096
    (used / "pixie.db").write_bytes(pages)
    assert "restore a backup, or rebuild it" in await line()
    (used / "pixie.db").write_bytes(b"no database" * 1000)
    assert (await line()).startswith("The index is no SQLite database: ")
    said = await line(index={"url": "postgresql://pixie:s3cret@127.0.0.1:1/pixie"})
    assert said.startswith("postgresql://127.0.0.1:1/pixie: The index can't be reached (")
    assert "s3cret" not in said


async def test_an_index_of_a_newer_version_is_told(
    used: Path, upstream: ScriptedUpstream, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether this version can work with it."""
    monkeypatch.setattr(postgres_checkup, "_doubts", lambda *_, **__: [])
    url, known = postgres.database(), newest_schema()
    for change, said in (
        ("version = version + 1, oldest = version", f"by a newer version; this one knows {known}, and works"),
        ("oldest = version", f"it has schema {known + 1}, this version knows {known}"),
    ):
        execute(url, f"UPDATE schema_version SET {change}")  # noqa: S608 - one of those above
        assert said in (await of(used, upstream, index={"url": url})).line("index")


async def test_a_storage_of_somebody_else_is_told(used: Path, upstream: ScriptedUpstream) -> None:
    """Another one, one that is not mounted, none at all; and images whose index is lost."""

    async def fault() -> str:
        (line,) = (await of(used, upstream)).faults
        return line

    id_file = used / "storage" / SENTINEL
    known = id_file.read_text()
    id_file.write_text("0" * 32)
    assert "storage: this is another storage" in await fault()
    id_file.unlink()
    assert "storage: the index knows a storage, and this one has no .pixie file" in await fault()
    shutil.move(used / "storage", used / "elsewhere")
    assert "is not there: is it mounted?" in await fault()
    shutil.move(used / "elsewhere", used / "storage")
    id_file.write_text(known)
    for path in used.glob("pixie.db*"):
        path.unlink()
    assert "storage: it holds images, and the index is empty" in await fault()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([head(200, [("Content-Type", "text/html")]), body(b"<html>")], "something else answers there (200)"),
        ([head(404), body(b"{}")], "something else answers there (404)"),
        ([head(301, [("Location", "https://elsewhere.example/")], length=0)], "redirects"),
        ([head(502), body(b"")], "answers 502, for it does not reach us"),
    ],
)
async def test_an_address_that_leads_elsewhere_is_told(
    tmp_path: Path, upstream: ScriptedUpstream, script: list[Any], expected: str
) -> None:
    """Behind it is a page, a redirect, or a proxy that does not reach us."""
    async with ScriptedUpstream() as other:
        other.default(*script)
        has_models(upstream)
        url = other.base_url.removesuffix("/v1")
        async with run_proxy(tmp_path / "data", upstream.base_url):
            told = await of(tmp_path / "data", upstream, server={"public_url": url})
    (line,) = told.faults
    assert line.startswith("links: server.public_url")
    assert expected in line


async def test_an_address_that_nobody_answers(used: Path, upstream: ScriptedUpstream) -> None:
    """Which is no wonder while no proxy runs; and clear text is told wherever it goes."""
    server = {"public_url": refused_base_url().removesuffix("/v1")}
    told = await of(used, upstream, server=server)
    assert told.faults == []
    assert "nobody listens there; and no proxy runs here: start pixie serve" in told.warnings[0]
    async with run_proxy(used, upstream.base_url):
        assert "nobody listens there: let it lead to" in (await of(used, upstream, server=server)).faults[0]
    told = await of(used, upstream, server={"public_url": "http://pixie.invalid"})
    assert "keys and images cross the network in clear" in told.warnings[0]


async def test_another_proxy_at_the_address_is_told(
    used: Path, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """It is healthy, and knows no link of ours."""
    async with run_proxy(tmp_path / "other", upstream.base_url) as other:
        told = await of(used, upstream, server={"public_url": other.url})
    assert told.faults[0].startswith("links: server.public_url: another pixie_proxy")


async def test_no_secret_is_shown(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Not the upstream's key, nor the bucket's, nor a user's, nor what stands in an address."""
    upstream.default(head(500), body(b"sk-canary"))
    settings = Settings.model_validate(
        {
            "server": {
                "port": 0,
                "data_dir": str(tmp_path / "data"),
                "public_url": "http://anna:canary-6@127.0.0.1:9",
            },
            "upstream": {
                "base_url": upstream.base_url.replace("//", "//anna:canary-1@"),
                "api_key": "sk-canary-2",
            },
            "storage": {
                "kind": "s3",
                "s3": {
                    "bucket": "pictures",
                    "endpoint_url": refused_base_url(),
                    "access_key_id": "canary-3",
                    "secret_access_key": "canary-4",
                },
            },
            "users": [{"name": "anna", "key": "px-canary-5"}],
        }
    )
    assert "canary" not in str((await ask(settings)).findings)
