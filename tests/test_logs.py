"""The log: one line each whatever a field holds, nothing in it that is nobody's business, and never in the way."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import pty
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.errors import ConfigError
from pixie_proxy.logs import JsonFormatter, TextFormatter, level_of, short_address
from tests.support.outside import terminate
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, UPSTREAM_KEY, RunningProxy, spawn_proxy
from tests.support.upstream import ScriptedUpstream, error_json, image_json, image_sse
from tests.web.calling import http, raw_call

HOSTILE = {
    "line ends": 'a\r\nb\nc\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029{"level": "critical"}',
    "ANSI": "\x1b[31mred\x1b]0;title\x07 \x9b31m",
    "NUL and others": "".join(map(chr, [*range(32), *range(127, 160)])),
    "writing direction": "\u202egnp.tac\u2066\u2069",
    "a megabyte": "x" * 1_000_000,
    "a megabyte that grows": "\x00" * 1_000_000,
    "a megabyte of four bytes each": "🐈" * 250_000,
    "half a pair": "\ud800 and \udcff",
}


def a_record(text: str, **fields: Any) -> logging.LogRecord:
    record = logging.LogRecord(text, logging.INFO, text, 1, "%s", (text,), None)
    record.__dict__.update(fields)
    return record


def is_harmless(line: str) -> bool:
    """One line for every reader of lines, and nothing in it that a terminal obeys."""
    controls = {"Cc", "Zl", "Zp"}
    return len(line.splitlines()) == 1 and not any(unicodedata.category(one) in controls for one in line)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("where", ["message", "field", "error", "logger", "many"])
def test_one_line_whatever_a_field_holds(text: str, where: str) -> None:
    """Valid JSON of at most 4 KiB, with its time and level; also where every field is hostile at once."""
    fields: dict[str, Any] = {"request_id": "req_x"}
    record = a_record("calm")
    if where == "message":
        record = a_record(text, **fields)
    elif where == "error":
        try:
            raise ValueError(text)
        except ValueError:
            record.exc_info = sys.exc_info()
    elif where == "logger":
        record.name = text
    else:
        record.__dict__.update({"field": text} if where == "field" else {f"f{i}": text for i in range(300)})
    line = JsonFormatter().format(record)
    assert is_harmless(line)
    assert len(line.encode()) < 4096
    assert {"time", "level", "message"} <= json.loads(line).keys()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_terminal_gets_nothing_to_obey(text: str) -> None:
    """What is written for people is as harmless; a traceback keeps lines of its own."""
    record = a_record(text, field=text)
    assert is_harmless(TextFormatter().format(record))
    try:
        raise ValueError(text)
    except ValueError:
        record.exc_info = sys.exc_info()
    assert all(is_harmless(line) for line in TextFormatter().format(record).split("\n"))


def test_numbers_stay_numbers() -> None:
    """So that a query can compare them; what is None says nothing and is left out."""
    line = json.loads(
        JsonFormatter().format(a_record("x", ms=1.5, status=200, ok=True, user=None, big=2**80))
    )
    assert (line["ms"], line["status"], line["ok"], line["big"]) == (1.5, 200, True, 2**80)
    assert "user" not in line


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("::1", "::/48"),
        ("not an address", None),
        (None, None),
    ],
)
def test_addresses_are_shortened(address: str | None, network: str | None) -> None:
    """Enough to tell sites apart, not people."""
    assert short_address(address) == network


def test_the_level_is_set_by_the_environment() -> None:
    """A word that is no level stops the start."""
    assert level_of({}) == logging.INFO
    assert level_of({}, logging.ERROR) == logging.ERROR
    assert level_of({"PIXIE_LOG_LEVEL": "Debug"}, logging.ERROR) == logging.DEBUG
    with pytest.raises(ConfigError, match="PIXIE_LOG_LEVEL"):
        level_of({"PIXIE_LOG_LEVEL": "loud"})


async def log_of(proxy: RunningProxy) -> str:
    """Stop a proxy and give its log since it was ready."""
    assert proxy.process is not None
    assert proxy.process.stderr is not None
    proxy.process.terminate()
    said = await asyncio.wait_for(proxy.process.stderr.read(), 20)
    assert await proxy.process.wait() == 0
    return said.decode()


async def test_each_request_has_a_line(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """With the id that the client has, the route's template and the network of the client; health at DEBUG only."""
    async with spawn_proxy(tmp_path / "data", upstream.base_url) as proxy:
        upstream.script(*image_json(1))
        _, headers, body = await proxy.request(
            "POST", "/v1/images/generations", json={"prompt": "a cat", "model": "gpt-image-2"}
        )
        await proxy.request("GET", "/v1/images/img_" + "0" * 26)
        await proxy.request("GET", "/healthz")
        log = await log_of(proxy)
    lines = [json.loads(line) for line in log.splitlines()]
    made, missing = [line for line in lines if "route" in line]
    assert (
        made.items()
        >= {
            "level": "info",
            "message": "POST /v1/images/generations 200",
            "request_id": headers["x-request-id"],
            "method": "POST",
            "route": "/v1/images/generations",
            "status": 200,
            "outcome": "ok",
            "bytes": len(body),
            "client": "127.0.0.0/24",
        }.items()
    )
    assert made["ms"] > 0
    assert re.fullmatch(r"usr_[0-9a-v]{26}", made["user"])
    assert (
        missing.items()
        >= {
            "route": "/v1/images/{id}",
            "status": 404,
            "outcome": "refused",
            "reason": "not_found",
            "user": made["user"],
        }.items()
    )


CANARY_PROMPT, CANARY_FILE = "canaryprompt a red fox", "canaryfile.png"
WRONG_KEY = "px-canarywrong-" + "w" * 30


async def test_nothing_private_is_logged_at_any_level(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At DEBUG, through successes, refusals, faults of the upstream's and broken requests: no canary, no address."""
    monkeypatch.setenv("PIXIE_LOG_LEVEL", "debug")
    picture = png(seed=9, size_bytes=2000)
    async with spawn_proxy(tmp_path / "data", upstream.base_url) as proxy:
        upstream.script(*image_json([picture], revised_prompt=CANARY_PROMPT))
        fields = {"prompt": CANARY_PROMPT, "model": "gpt-image-2"}
        generations = "/v1/images/generations"
        await proxy.request("POST", generations, json=fields)
        upstream.script(*image_sse([picture]))
        await proxy.request("POST", generations, json={**fields, "stream": True})
        upstream.script(*error_json(400, message=f"no {CANARY_PROMPT} with {UPSTREAM_KEY}"))
        await proxy.request("POST", generations, json=fields)
        upstream.script(*error_json(401, message=f"bad {UPSTREAM_KEY}"))
        await proxy.request("POST", generations, json=fields)
        await proxy.request("POST", generations, json={**fields, "n": CANARY_PROMPT})
        await proxy.request("POST", generations, data=b"{" + CANARY_PROMPT.encode())
        await proxy.request("GET", f"/{WRONG_KEY}/x?key={MEMBER_KEY}&q={CANARY_PROMPT}")
        await proxy.request("GET", "/v1/images", key=WRONG_KEY)
        await proxy.request("GET", f"/v1/images?model={CANARY_PROMPT}")
        for broken in (
            f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {MEMBER_KEY}\x00\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: x\r\n{MEMBER_KEY}\x01: {CANARY_PROMPT}\r\n\r\n",
            f"GET /{CANARY_PROMPT} HTTP/9\r\n{MEMBER_KEY}\r\n\r\n",
            f"POST {generations} HTTP/1.1\r\nContent-Length: {CANARY_PROMPT}\r\n\r\n",
        ):
            await raw_call(proxy.url, broken.encode())
        await raw_call(proxy.url, http(body={"prompt": CANARY_PROMPT})[:-5] + b"\xff\xff}\r\n")
        log = await log_of(proxy)
    lines = [json.loads(line) for line in log.splitlines()]
    assert len([line for line in lines if "route" in line]) >= 9
    assert len([line for line in lines if line["message"] == "a request could not be read"]) >= 3
    canaries = [
        "canary",
        CANARY_PROMPT,
        CANARY_FILE,
        MEMBER_KEY,
        MEMBER_KEY[:12],
        WRONG_KEY[:12],
        UPSTREAM_KEY,
        UPSTREAM_KEY[:12],
        base64.b64encode(picture).decode()[:24],
        base64.b64encode(CANARY_PROMPT.encode()).decode().rstrip("=")[:16],
        "127.0.0.1",
    ]
    assert [canary for canary in canaries if canary in log] == []


async def test_a_log_that_nobody_reads_stops_nobody(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Its pipe is full long before the last request, and all are answered; what was lost is counted and told."""
    async with spawn_proxy(tmp_path / "data", upstream.base_url) as proxy:
        assert proxy.process is not None
        assert proxy.process.stderr is not None
        transport = proxy.process._transport.get_pipe_transport(2)  # type: ignore[attr-defined]
        transport.pause_reading()
        for _ in range(600):
            status, _, _ = await proxy.request("GET", "/v1/me")
            assert status == 200
        transport.resume_reading()
        log = ""
        while "lines were lost" not in log:
            await proxy.request("GET", "/v1/me")
            log += (await asyncio.wait_for(proxy.process.stderr.readline(), 10)).decode()
        assert await terminate(proxy) == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert lines[-1]["lines"] > 100
    assert all(line["message"] for line in lines)


def test_people_get_lines_for_people(tmp_path: Path) -> None:
    """On a terminal: time, level, message and fields, no JSON; a bad setting is one line, as everywhere."""
    script = (
        "import logging; from pixie_proxy import logs; logs.set_up(); "
        "logging.getLogger('pixie_proxy.x').info('GET / 200', extra={'ms': 1.5, 'user': None, 'why': 'a\\nb'})"
    )
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", script], stderr=theirs, cwd=tmp_path, check=True, timeout=30)
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} info     GET / 200  ms=1.5  why=a\\nb\r\n", said)


def test_nothing_comes_out_in_another_form(tmp_path: Path) -> None:
    """Python's own warnings are lines like all others, and a record that can't be told is one that says so."""
    script = (
        "import logging, warnings; from pixie_proxy import logs; logs.set_up(); "
        "warnings.warn('beware\\nof this'); logging.getLogger('pixie_proxy.x').info('%d', 'no number'); "
        "logging.getLogger('aiosqlite').info('no business of yours')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, cwd=tmp_path, check=True, timeout=30
    )
    warned, untold = [json.loads(line) for line in done.stderr.splitlines()]
    assert "beware" in warned["message"]
    assert untold.items() >= {"message": "a line could not be written", "of": "pixie_proxy.x"}.items()
