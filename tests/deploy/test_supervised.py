"""compose.yaml and pixie.service: what they say fits what pixie does, and what they forbid it does without."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from pydantic import SecretStr

from pixie_proxy.config import Settings, load_settings
from tests.conftest import require
from tests.support import outside
from tests.support.proxy import spawn_proxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.calling import CAT

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "docs" / "operations" / "pixie.service"
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())
S3_KEYS = {"S3_ACCESS_KEY_ID": "GK" + "0" * 32, "S3_SECRET_ACCESS_KEY": "f" * 64, "S3_RPC_SECRET": "a" * 64}


def composed(name: str, **environ: str) -> dict[str, str]:
    """Give the environment of a service, put together as Compose does it."""

    def value(match: re.Match[str]) -> str:
        found = environ.get(match["name"], "")
        assert found or match["how"] == ":-", f"{match['name']} must be set"
        return found or match["what"]

    variable = re.compile(r"\$\{(?P<name>\w+)(?P<how>:[-?])(?P<what>[^}]*)\}")
    said = SERVICES["services"][name].get("environment", {})
    passed_on = {key: environ[key] for key, text in said.items() if text is None and key in environ}
    return passed_on | {key: variable.sub(value, text) for key, text in said.items() if text is not None}


def settings_of(service: str = "pixie", **environ: str) -> Settings:
    """Load the settings of a composed container: its image's variables, and those of compose.yaml."""
    image = dict(
        re.findall(r"^\s+(PIXIE_\w+)=(\S+?)(?: \\)?$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    )
    assert image
    return load_settings(environ={**image, **composed(service, **environ)}, looks_here=False)


def seconds(text: str) -> int:
    """Read a duration as Compose, systemd and nginx write it."""
    match = re.fullmatch(r"(\d+)(s|m|min|h)", text)
    assert match, text
    return int(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2]]


def test_compose_starts_one_container_with_a_key_and_nothing_else() -> None:
    """Images on its own volume, a root that is read-only, no privileges, and the time to end what is paid for."""
    pixie = SERVICES["services"]["pixie"]
    settings = settings_of(OPENAI_API_KEY="sk-1")
    check_confined(pixie, settings)
    assert (settings.storage.kind, settings.storage.s3.access_key_id) == ("local", None)
    assert f"data:{settings.server.data_dir}" in pixie["volumes"]
    assert pixie["ports"] == [f"8080:{settings.server.port}"]
    told = [composed("pixie", OPENAI_API_KEY="sk-1", **each) for each in ({}, {"PIXIE_ADMIN_KEY": "mine"})]
    assert [each.get("PIXIE_ADMIN_KEY") for each in told] == [None, "mine"]
    assert [name for name, each in SERVICES["services"].items() if "profiles" not in each] == ["pixie"]
    assert [each["required"] for each in pixie["depends_on"].values()] == [False]
    with pytest.raises(AssertionError, match="OPENAI_API_KEY"):
        settings_of()


def check_confined(service: dict[str, Any], settings: Settings) -> None:
    """A root that is read-only, no privileges, and the time to end what is paid for."""
    confined = (service["read_only"], service["tmpfs"], service["cap_drop"], service["security_opt"])
    assert confined == (True, ["/tmp"], ["ALL"], ["no-new-privileges:true"])
    assert seconds(service["stop_grace_period"]) > settings.server.drain_s


def test_composes_s3_server_and_its_user_agree() -> None:
    """On address, region, bucket and keys; and the server is told to fsync."""
    environ = {"OPENAI_API_KEY": "sk-1", "COMPOSE_PROFILES": "s3", **S3_KEYS}
    settings, server = settings_of(**environ), SERVICES["services"]["s3"]
    garage, told = tomllib.loads(SERVICES["configs"]["garage"]["content"]), composed("s3", **environ)
    s3 = settings.storage.s3
    assert (settings.storage.kind, server["profiles"]) == ("s3", ["s3", "scale"])
    assert s3.endpoint_url == "http://s3:" + garage["s3_api"]["api_bind_addr"].rpartition(":")[2]
    assert s3.secret_access_key is not None
    assert (s3.region, s3.bucket, s3.access_key_id, s3.secret_access_key.get_secret_value()) == (
        garage["s3_api"]["s3_region"],
        told["GARAGE_DEFAULT_BUCKET"],
        told["GARAGE_DEFAULT_ACCESS_KEY"],
        told["GARAGE_DEFAULT_SECRET_KEY"],
    )
    assert server["healthcheck"]["test"][-1] == s3.bucket
    assert (garage["data_fsync"], garage["metadata_fsync"]) == (True, True)


def test_composes_replicas_share_all_but_their_spools() -> None:
    """The database and the bucket, whose servers are of the same profile; each data directory is its own volume."""
    services = SERVICES["services"]
    replicas = {name: each for name, each in services.items() if name.startswith("pixie-")}
    environ = {"OPENAI_API_KEY": "sk-1", "POSTGRES_PASSWORD": "secret", **S3_KEYS}
    alone = settings_of(**environ, COMPOSE_PROFILES="s3")
    for name, each in replicas.items():
        settings = settings_of(name, **environ)
        check_confined(each, settings)
        assert settings.storage == alone.storage
        assert settings.index.url == SecretStr("postgresql://pixie@db/pixie")
        assert [volume.rpartition(":")[2] for volume in each["volumes"]] == [str(settings.server.data_dir)]
        assert composed(name, **environ)["PGPASSWORD"] == composed("db", **environ)["POSTGRES_PASSWORD"]
        assert "ports" not in each  # the front proxy is believed who asks, so nobody else may get there
        assert {needed: services[needed]["profiles"] for needed in each["depends_on"]} == {
            "db": ["scale"],
            "s3": ["s3", "scale"],
        }
    volumes = [volume.partition(":")[0] for each in replicas.values() for volume in each["volumes"]]
    assert len(volumes) == len(set(volumes)) == 2
    assert set(volumes) <= set(SERVICES["volumes"])
    asked = " ".join(services["db"]["healthcheck"]["test"])
    told = composed("db", **environ)
    assert f"--username={told['POSTGRES_USER']} --dbname={told['POSTGRES_DB']}" in asked


def test_composes_front_proxy_asks_both_replicas(tmp_path: Path) -> None:
    """Caddy takes its file, which names both, and knows by /readyz which of them takes paid calls."""
    front = SERVICES["services"]["front"]
    file = tmp_path / "Caddyfile"
    file.write_text(SERVICES["configs"]["front"]["content"])
    told = subprocess.run(
        [require("caddy"), "adapt", "--config", file], capture_output=True, check=True, cwd=tmp_path
    )
    (server,) = json.loads(told.stdout)["apps"]["http"]["servers"].values()
    (handler,) = server["routes"][0]["handle"]
    port = settings_of(OPENAI_API_KEY="sk-1").server.port
    assert [each["dial"] for each in handler["upstreams"]] == [
        f"{name}:{port}" for name in front["depends_on"]
    ]
    assert handler["health_checks"]["active"]["uri"] == "/readyz"
    assert "try_duration" not in handler["load_balancing"]  # nothing is sent twice
    assert front["ports"] == [f"8080:{server['listen'][0].removeprefix(':')}"]


def unit() -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Without a complaint, and with little that a broken-in proxy could do to the machine."""
    analyze = require("systemd-analyze")
    here = tmp_path / "pixie.service"
    here.write_text(UNIT.read_text().replace("/opt/pixie/.venv/bin/pixie", sys.executable))
    verified = subprocess.run([analyze, "verify", here], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    rated = [analyze, "security", "--offline=yes", "--threshold=20", str(here)]
    assert subprocess.run(rated, capture_output=True, check=False).returncode == 0


def test_the_unit_gives_time_and_the_key(tmp_path: Path) -> None:
    """Longer than a drain takes; and the key comes in a file that the settings find by its name."""
    service = unit()["Service"]
    assert seconds(service["TimeoutStopSec"]) > Settings().server.drain_s
    name, _, path = service["LoadCredential"].partition(":")
    (tmp_path / name).write_text("sk-from-a-file\n")
    settings = load_settings(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}, looks_here=False)
    assert settings.upstream.api_key is not None
    assert settings.upstream.api_key.get_secret_value() == "sk-from-a-file"
    assert path == "/etc/pixie/openai-api-key"


async def test_systemd_is_told_when_it_serves_and_when_it_stops(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Type=notify`: a start that has failed is seen, and what waits for the proxy waits long enough."""
    assert unit()["Service"]["Type"] == "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with spawn_proxy(tmp_path / "data", upstream.base_url) as proxy:
            assert await asyncio.to_thread(sock.recv, 100) == b"READY=1"
            assert await outside.is_ready(proxy)
            assert await outside.terminate(proxy) == 0
            assert await asyncio.to_thread(sock.recv, 100) == b"STOPPING=1"


@pytest.mark.torture  # strace looks at every system call, which takes ten seconds
async def test_what_the_unit_forbids_is_not_needed(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """An image, its thumbnail and a stop: no system call is outside of the filter, no memory becomes code."""
    analyze, log = require("systemd-analyze"), tmp_path / "strace"
    filters = re.findall(r"^SystemCallFilter=(~?)(@\S+)$", UNIT.read_text(), re.MULTILINE)
    allowed: set[str] = set()
    for negation, group in filters:
        calls = members(analyze, group)
        allowed = allowed - calls if negation else allowed | calls
    upstream.script(image_json(1))
    trace = (require("strace"), "--follow-forks", "-qq", "-s0", "-o", str(log))
    async with spawn_proxy(tmp_path / "data", upstream.base_url, prefix=trace) as proxy:
        await proxy.sdk().images.generate(**CAT)
        (image,) = (await proxy.get("/v1/images"))["data"]
        status, _, _ = await proxy.request("GET", image["thumbnail_url"])
        assert status == 200
        assert proxy.process is not None
        (served,) = psutil.Process(proxy.process.pid).children()  # strace keeps a signal to itself
        served.terminate()
        assert await asyncio.wait_for(proxy.process.wait(), 20) == 0
    made = re.findall(r"^\d+ +(\w+)\((.*)", log.read_text(), re.MULTILINE)
    names = {name for name, _ in made} - ({"fchown"} if os.geteuid() == 0 else set())  # SQLite, as root only
    assert names >= {"execve", "fsync", "bind", "prlimit64"}
    assert names - allowed == set()
    assert [each for each in made if _makes_code(*each)] == []


def _makes_code(name: str, arguments: str) -> bool:
    """Tell whether a call is what MemoryDenyWriteExecute= forbids."""
    if name == "mmap":
        return "PROT_WRITE|PROT_EXEC" in arguments
    return name in {"mprotect", "pkey_mprotect"} and "PROT_EXEC" in arguments


def members(analyze: str, group: str) -> set[str]:
    """Give the system calls of a group of systemd's, groups in it included."""
    listed: Any = subprocess.run(
        [analyze, "syscall-filter", group], capture_output=True, text=True, check=True
    ).stdout
    found = [line.strip() for line in listed.splitlines()[1:] if line.strip() and "#" not in line]
    inner = [members(analyze, each) for each in found if each.startswith("@")]
    return {each for each in found if not each.startswith("@")}.union(*inner)
