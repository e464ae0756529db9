"""The command line: what it offers, and how it refuses."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixie_proxy import __version__
from pixie_proxy.cli import _COMMANDS, main
from tests.cli.running import Ended, pixie
from tests.conftest import require
from tests.support.proxy import RunningProxy


async def test_help_lists_the_commands(tmp_path: Path) -> None:
    """Each with one line, and how to begin."""
    ended = await pixie("--help", cwd=tmp_path)
    assert ended.code == 0
    for name, line in _COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line[:40])}", ended.out, re.MULTILINE), name
    assert "pixie demo" in ended.out


def run_here(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    """Run a command that ends before it does anything in this process: most of a process's time is its start."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    said = capsys.readouterr()
    return Ended(ended.value.code, said.out, said.err)


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """With `-h` too."""
    ended = run_here(capsys, name, "-h")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: pixie {name} ")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """As the package knows it."""
    assert run_here(capsys, "--version").out.strip().endswith(__version__)


@pytest.mark.parametrize(
    "arguments",
    [["srve"], ["serve", "--prot", "1"], ["serve", "--port", "70000"], ["demo", "--pace", "-1"], []],
)
def test_what_can_not_be_meant_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Exit code 2, with the usage on stderr; a bare `pixie` shows its help."""
    ended = run_here(capsys, *arguments)
    assert ended.code == 2
    assert "Usage: pixie" in ended.err


@pytest.mark.parametrize("command", ["serve", "demo"])
async def test_bad_settings_are_told_one_a_line(tmp_path: Path, command: str) -> None:
    """All of them at once, and nothing is made."""
    config = tmp_path / "bad.yaml"
    config.write_text("server: {prt: 1}\nlimits: {usd_per_day: x}\nupstream: {project: '${NOPE}'}")
    ended = await pixie(command, "--config", str(config), cwd=tmp_path)
    assert ended.code == 2
    assert sorted(line.split(":")[1].strip() for line in ended.errors) == [
        "limits.usd_per_day", "server.prt", "upstream.project",
    ]  # fmt: skip
    assert all(line.startswith("pixie: ") for line in ended.errors)
    assert list(tmp_path.iterdir()) == [config]


async def test_serving_openai_needs_its_key(tmp_path: Path) -> None:
    """The line says where to put it, and how to do without."""
    (tmp_path / "config.yaml").write_text("server: {port: 0}")
    ended = await pixie("serve", cwd=tmp_path)
    (line,) = ended.errors
    assert ended.code == 2
    assert line.startswith("pixie: upstream.api_key: no OpenAI key.")
    assert "OPENAI_API_KEY" in line
    assert "pixie demo" in line


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """One line, and everything that was opened is closed again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await pixie("serve", "--port", str(port), cwd=tmp_path, OPENAI_API_KEY="sk-x")
    assert ended.code == 2
    assert ended.errors[-1] == (
        f"pixie: server.port: can't listen on 127.0.0.1:{port} (address already in use); choose another --port"
    )
    assert [line for line in ended.errors[:-1] if not line.startswith("{")] == []
    assert [path.name for path in (tmp_path / "data" / "spool").iterdir()] == ["uploads"]


@pytest.mark.parametrize(
    ("config", "start"),
    [
        ("index: {url: 'postgresql://h:x/d'}", "index.url: it can't be understood"),
        ("storage: {path: file/x}", "storage.path: file/x can't be made"),
        ("server: {data_dir: file/x}", "server.data_dir: file/x can't be written"),
        ("server: {require_existing: true}", "server.data_dir: data holds no pixie.db"),
    ],
)
async def test_what_can_not_be_opened_is_told(tmp_path: Path, config: str, start: str) -> None:
    """By its setting, in one line."""
    (tmp_path / "file").write_text("")
    (tmp_path / "config.yaml").write_text(config)
    ended = await pixie("serve", "--port", "0", cwd=tmp_path, OPENAI_API_KEY="sk-x")
    (line,) = ended.errors
    assert ended.code == 2
    assert line.startswith(f"pixie: {start}")


@pytest.fixture
def not_ours() -> Iterator[Path]:
    """Give a folder that the proxy below may enter, and not write."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o555)
        yield Path(made)
        Path(made).chmod(0o755)


async def test_a_data_directory_that_can_not_be_written_has_a_remedy(tmp_path: Path, not_ours: Path) -> None:
    """Containers meet this with every bind mount: who we are, and the command that mends it."""
    nobody = os.getuid()
    prefix: tuple[str, ...] = ()
    if nobody == 0:
        nobody, prefix = 65534, (require("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups")
    ended = await pixie(
        "serve", "--port", "0", "--data", str(not_ours), cwd=not_ours, prefix=prefix, OPENAI_API_KEY="sk-x"
    )
    (line,) = ended.errors
    assert ended.code == 2
    assert f"{not_ours} can't be written (Permission denied); we run as uid {nobody}." in line
    assert f"chown -R {nobody} {not_ours}" in line


async def test_health_is_told_by_the_exit_code(tmp_path: Path, proxy: RunningProxy) -> None:
    """A container's health check needs no more."""
    port = proxy.url.rpartition(":")[2]
    well = await pixie("health", "--port", port, cwd=tmp_path)
    assert (well.code, well.out, well.err) == (0, "ok\n", "")
    anywhere = await pixie("health", "--host", "0.0.0.0", cwd=tmp_path, PIXIE_SERVER__PORT=port)
    assert anywhere.code == 0


async def test_health_fails_where_nobody_answers(tmp_path: Path) -> None:
    """With the address that it tried."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    ended = await pixie("health", "--port", str(port), cwd=tmp_path)
    assert ended.code == 1
    assert f"no proxy answers on 127.0.0.1:{port}" in ended.err


async def test_settings_can_be_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is a settings file that says nothing new."""
    example = run_here(capsys, "config", "example")
    (tmp_path / "config.yaml").write_text(example.out)
    assert run_here(capsys, "config").out == example.out
    health = await pixie("health", "--port", "1", cwd=tmp_path, OPENAI_API_KEY="sk-x")
    assert (health.code, "no proxy answers" in health.err) == (1, True)
