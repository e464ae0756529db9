"""The four servers of a run: nginx and the sink as upstreams, the bare pass-through, and the proxy."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.processes import HOST, BenchError, Server, free_port

KEY = "px-benchmark-key-that-is-long-enough-000000000"
PATH = "/v1/images/generations"

# error_page turns the 405 that a static file gives to POST into the file itself.
_NGINX = """
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_max_body_size 0;
    open_file_cache max=100 inactive=10m;
    default_type application/json;
    client_body_temp_path tmp;
    proxy_temp_path tmp;
    fastcgi_temp_path tmp;
    uwsgi_temp_path tmp;
    scgi_temp_path tmp;
    server {{
        listen {host}:{port};
        root answers;
        location = /healthz {{ return 200; }}
        rewrite ^/([a-z0-9]+)/v1/ /$1.json last;
        location ~ [.]json$ {{ error_page 405 =200 $uri; }}
    }}
}}
"""


def nginx(folder: Path, answers: dict[str, bytes]) -> Server:
    """Set up an nginx that answers every POST below `/<name>/v1/` with the answer of that name."""
    binary = shutil.which("nginx")
    if binary is None:
        raise BenchError("nginx is not on PATH: apt-get install nginx")
    prefix = folder / "nginx"
    (prefix / "answers").mkdir(parents=True)
    for name, body in answers.items():
        (prefix / "answers" / f"{name}.json").write_bytes(body)
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # else its worker is nobody, who may not read our folder
    (prefix / "nginx.conf").write_text(_NGINX.format(user=user, host=HOST, port=port))
    command = [binary, "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", "stderr"]
    return Server("nginx", command, port=port, folder=folder)


def sink(folder: Path, body: bytes) -> Server:
    """Set up the upstream of the uploads: it reads all, where nginx would answer before it has read."""
    port = free_port()
    path = folder / "sink.json"
    path.write_bytes(body)
    return Server("sink", _module("benchmarks.sink", str(port), str(path)), port=port, folder=folder)


def received_bytes(server: Server) -> int:
    """Ask a sink how many body bytes it got so far."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
    try:
        connection.request("GET", "/received")
        return int(connection.getresponse().read())
    finally:
        connection.close()


def passthrough(folder: Path, upstream_url: str) -> Server:
    """Set up the bare pass-through: what aiohttp and uvloop cost by themselves."""
    port = free_port()
    command = _module("benchmarks.passthrough", str(port), upstream_url)
    return Server("passthrough", command, port=port, folder=folder)


def proxy(
    folder: Path,
    upstream_url: str,
    *,
    launcher: list[str] | None = None,
    storage: dict[str, Any] | None = None,
    index: dict[str, Any] | None = None,
    workers: int | None = None,
    users: list[dict[str, str]] | None = None,
    data_dir: Path | None = None,
) -> Server:
    """Set up the proxy with everything on and a data folder of its own; `launcher` goes before its module.

    Images and index lie in the data folder, unless their sections say where. With `workers` there are so many processes
    behind a parent of theirs. `users` are declared instead of the one who
    sends load; a `data_dir` is one that there is already.
    """
    number = sum(1 for _ in folder.glob("proxy-*.yaml"))
    port = free_port()
    settings = {
        "server": {
            "host": HOST,
            "port": port,
            "data_dir": str(data_dir or folder / f"proxy-{number}"),
            "drain_s": 5,
        },
        "upstream": {"base_url": f"{upstream_url}/v1", "api_key": "sk-benchmark"},
        "limits": {
            "requests_per_minute": 10_000_000,
            "images_per_minute": 10_000_000,
            "concurrent_requests": 10_000,
        },
        "users": users or [{"name": "bench", "key": KEY, "role": "member"}],
        "storage": storage,
        "index": index,
    }
    config = folder / f"proxy-{number}.yaml"
    config.write_text(json.dumps(settings))  # which is YAML
    command = [*(launcher or [sys.executable]), "-m", "pixie_proxy", "serve", "--config", str(config)]
    if workers is not None:
        command += ["--workers", str(workers)]
    return Server(f"proxy-{number}", command, port=port, folder=folder)


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]
