"""The front proxies that docs/operations/ has files for, with those files: only ports and paths are put in."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import openai

from tests.conftest import require
from tests.support.sockets import free_port

SHIPPED = Path(__file__).parents[2] / "docs" / "operations"
_PROXY = "127.0.0.1:8080"
"""Where the files say that pixie listens."""
HOSTS = ("10.0.0.11:8080", "10.0.0.12:8080")
"""Where the files for several hosts say so."""
_NGINX_FRAME = """
daemon off; master_process {master}; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {site}
}}
"""

Kind = Literal["nginx", "caddy", "haproxy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A front proxy that answers at `url`. `tls` trusts its certificate, where it has one."""

    url: str
    tls: ssl.SSLContext | None = None

    def sdk(self, key: str, **options: object) -> openai.AsyncOpenAI:
        """Give the official SDK, pointed here. Retries are off unless asked for."""
        client = openai.DefaultAsyncHttpxClient(verify=self.tls or True)
        settings: Mapping[str, object] = {"max_retries": 0, **options}
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, http_client=client, **settings)  # type: ignore[arg-type]


@asynccontextmanager
async def front_proxy(kind: Kind, folder: Path, target: str) -> AsyncIterator[Front]:
    """Run a front proxy before `target` (http://127.0.0.1:…), with its files in `folder`."""
    folder.mkdir()
    port = free_port()
    start = {"nginx": _nginx, "caddy": _caddy, "haproxy": _haproxy}[kind]
    command, front = start(folder, port, target.removeprefix("http://"))
    async with serving(command, port, {"HOME": str(folder), "CADDY_ADMIN": f"unix/{folder}/admin.sock"}):
        yield front


@asynccontextmanager
async def serving(command: list[str], port: int, environment: Mapping[str, str]) -> AsyncIterator[None]:
    """Run a server until the end, from when it listens on."""
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE, env={**os.environ, **environment}
    )
    try:
        await _until_it_listens(process, port)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _nginx(folder: Path, port: int, target: str) -> tuple[list[str], Front]:
    certificate, key = folder / "pixie.crt", folder / "pixie.key"
    make_certificate(certificate, key)
    site = put_in(
        "nginx.conf",
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "/etc/nginx/tls/pixie.crt": str(certificate),
            "/etc/nginx/tls/pixie.key": str(key),
            _PROXY: target,
        },
    )
    return nginx_command(folder, site), Front(url=f"https://127.0.0.1:{port}", tls=trusting(certificate))


def _haproxy(folder: Path, port: int, target: str) -> tuple[list[str], Front]:
    """With one host as both: which of them it asks makes no difference here."""
    certificate, key = folder / "pixie.crt", folder / "pixie.key"
    make_certificate(certificate, key)
    command = haproxy_command(folder, port, dict.fromkeys(HOSTS, target))
    return command, Front(url=f"https://127.0.0.1:{port}", tls=trusting(certificate))


def haproxy_command(folder: Path, port: int, targets: Mapping[str, str], *options: str) -> list[str]:
    """Write HAProxy's file, beside its certificate, with targets for HOSTS; give the command that reads it."""
    config, pem = folder / "haproxy.cfg", folder / "pixie.pem"
    pem.write_text((folder / "pixie.crt").read_text() + (folder / "pixie.key").read_text())
    places = {":443": f"127.0.0.1:{port}", "/etc/haproxy/pixie.pem": str(pem), **targets}
    config.write_text(put_in("haproxy.cfg", places))
    return [require("haproxy"), *options, "-db", "-f", str(config)]


def nginx_command(folder: Path, site: str, *, master: Literal["on", "off"] = "off") -> list[str]:
    """Write a file for nginx with a site in it; give the command that reads it. A `master` has workers and reloads."""
    config = folder / "nginx.conf"
    config.write_text(_NGINX_FRAME.format(folder=folder, site=site, master=master))
    return [require("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(config)]


def _caddy(folder: Path, port: int, target: str) -> tuple[list[str], Front]:
    """Without TLS: Caddy would ask the world for a certificate, or put its own among those that the machine trusts."""
    url = f"http://127.0.0.1:{port}"
    config = folder / "Caddyfile"
    config.write_text(put_in("Caddyfile", {"pixie.example.com {": f"{url} {{", _PROXY: target}))
    return [require("caddy"), "run", "--adapter", "caddyfile", "--config", str(config)], Front(url=url)


def put_in(name: str, places: Mapping[str, str]) -> str:
    """Give a file of docs/operations/ with other words in some places, each of which it must have."""
    text = (SHIPPED / name).read_text()
    for place, what in places.items():
        assert place in text, f"{name} has no {place}"
        text = text.replace(place, what)
    return text


def trusting(certificate: Path) -> ssl.SSLContext:
    """Trust a certificate, and no other."""
    return ssl.create_default_context(cafile=str(certificate))


def make_certificate(certificate: Path, key: Path) -> None:
    """Make a certificate for the loopback, signed by itself."""
    subprocess.run(
        [
            *(require("openssl"), "req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=pixie"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )


async def _until_it_listens(process: asyncio.subprocess.Process, port: int) -> None:
    async with asyncio.timeout(20):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            return
    assert process.stderr is not None
    raise AssertionError((await process.stderr.read()).decode())
