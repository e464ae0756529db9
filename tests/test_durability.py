"""Paid means kept: nobody gets the last byte of an image before a power cut could no longer take it (R4)."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from pixie_proxy.generation import keeping
from tests.conftest import require
from tests.support import outside
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, RunningProxy, spawn_proxy
from tests.support.tracing import Step, read_trace, strace
from tests.support.upstream import Exchange, ScriptedUpstream, image_json_bytes, image_sse_events
from tests.support.waiting import eventually
from tests.web.calling import FORM_TYPE, form


@dataclass(frozen=True)
class Answered:
    """One call as its client saw it: from which port it asked, which request it was, and the whole answer."""

    port: int
    request_id: str
    is_stream: bool
    raw: bytes

    @property
    def body_at(self) -> int:
        return self.raw.index(b"\r\n\r\n") + 4


async def answers_as_asked(exchange: Exchange) -> None:
    """Be an upstream whose pictures are all different, in whichever form they are asked for."""
    request = exchange.request
    names = ("n", "stream", "size_bytes", "seed")
    asked = {name: json.loads(request.text(name)) for name in names} if request.parts else request.json()
    pictures = [png(size_bytes=asked["size_bytes"], seed=asked["seed"] + at) for at in range(asked["n"])]
    pieces = image_sse_events(pictures, partials=1) if asked["stream"] else [image_json_bytes(pictures)]
    kind = "text/event-stream" if asked["stream"] else "application/json"
    length = sum(map(len, pieces))
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    await exchange.write(head.encode())
    for piece in pieces:
        await exchange.write(piece)


async def ask(
    proxy: RunningProxy, seed: int, n: int, size_bytes: int, *, stream: bool, is_edit: bool = False
) -> Answered:
    """Make a call over HTTP/1.0: the answer comes without chunks, so that its bytes are those on the wire."""
    fields = {
        "prompt": "x", "n": n, "stream": stream, "partial_images": 1, "seed": seed, "size_bytes": size_bytes
    }  # fmt: skip
    path, kind, body = "generations", "application/json", json.dumps(fields).encode()
    if is_edit:
        texts = [(name, json.dumps(value).strip('"').encode()) for name, value in fields.items()]
        path, kind, body = "edits", FORM_TYPE["Content-Type"], form(*texts, ("image", png(), "a.png"))
    head = (
        f"POST /v1/images/{path} HTTP/1.0\r\nAuthorization: Bearer {MEMBER_KEY}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    url = urlsplit(proxy.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(head.encode() + body)
        raw = await asyncio.wait_for(reader.read(), 30)
        port = writer.get_extra_info("sockname")[1]
    finally:
        writer.close()
        await writer.wait_closed()
    assert raw.startswith(b"HTTP/1.0 200"), raw[:300]
    request_id = raw[raw.index(b"req_") :][:30].decode()
    return Answered(port, request_id, stream, raw)


def releases(answer: Answered) -> list[int]:
    """Give for each image the offset in the answer of the byte that completes it."""
    body = answer.raw[answer.body_at :]
    if not answer.is_stream:
        count = len(json.loads(body)["data"])
        return [len(answer.raw) - 1] * count
    found = []
    for event in body.split(b"\n\n"):
        if b'"image_generation.completed"' in event:
            data = json.loads(event[event.index(b"data: ") + 6 :])["b64_json"].encode()
            found.append(answer.raw.index(data) + len(data))
    return found


def release_step(answer: Answered, offset: int, steps: list[Step]) -> Step:
    """Find the write by which a byte of an answer left. Its head names it: a port may serve twice."""
    at, head = 0, answer.request_id.encode()
    for step in steps:
        if step.port == answer.port and (at or head in step.data):
            at += len(step.data)
            if at > offset:
                return step
    raise AssertionError("the trace does not hold the whole answer")


def first(steps: list[Step], name: str, path: str, before: int, after: int = -1) -> Step:
    """Find the step of a kind that ended first, before one line of the trace, and began after another."""
    found = [
        step
        for step in steps
        if step.name.startswith(name)
        and path in step.paths[-1:]
        and after < step.began
        and step.ended < before
    ]
    assert found, f"no {name} of {path} between {after} and {before}"
    return min(found, key=lambda step: step.ended)


@pytest.mark.parametrize("rounds", [1, pytest.param(28, marks=pytest.mark.torture)])
async def test_the_end_of_an_image_leaves_after_its_fsyncs(
    tmp_path: Path, upstream: ScriptedUpstream, rounds: int, record_figure: Callable[..., None]
) -> None:
    """File, manifest, folder and the folder's name, in this order, for 40 images: JSON, streams, edits, at once."""
    trace = tmp_path / "trace"
    upstream.default(answers_as_asked)
    prefix = strace(require("strace"), trace)
    async with spawn_proxy(tmp_path / "data", upstream.base_url, prefix=prefix) as proxy:
        assert proxy.process is not None
        asked = [(1, 3000, False)] * 4 + [(3, 40_000, False)] * 2 + [(1, 3000, True), (3, 40_000, True)] * 2
        calls = [(*one, is_edit) for one in asked for is_edit in (False, True)]
        calls += [(4, 900_000, False, False), (4, 300_000, True, True)] if rounds == 1 else []
        answers = []
        for number in range(rounds):
            answers += await asyncio.gather(
                *[
                    ask(proxy, 1000 * number + 10 * at, n, size, stream=stream, is_edit=is_edit)
                    for at, (n, size, stream, is_edit) in enumerate(calls)
                ]
            )
        (child,) = psutil.Process(proxy.process.pid).children()
        child.send_signal(signal.SIGTERM)
        await asyncio.wait_for(proxy.process.wait(), 20)
    steps = read_trace(trace)
    checked = 0
    for answer in answers:
        (folder,) = {
            str(Path(step.paths[1]).parent)
            for step in steps
            if step.name.startswith("rename") and step.paths[1].endswith(f"{answer.request_id}/0.png")
        }
        for position, offset in enumerate(releases(answer)):
            released = release_step(answer, offset, steps).began
            kept = first(steps, "rename", f"{folder}/{position}.png", released)
            first(steps, "fsync", kept.paths[0], kept.began)
            manifest = _manifest(steps, folder, released, kept.ended)
            named = first(steps, "fsync", folder, released, manifest.ended)
            first(steps, "fsync", str(Path(folder).parent), released, named.ended)
            checked += 1
    assert checked == rounds * sum(n for n, *_ in calls) >= 40
    record_figure("R4", images=checked, out_of_order=0)


def _manifest(steps: list[Step], folder: str, before: int, after: int) -> Step:
    """Find the manifest's fsync; one that replaces an older one is fsynced beside it, and then renamed."""
    try:
        return first(steps, "fsync", f"{folder}/request.json", before, after)
    except AssertionError:
        written = first(steps, "fsync", f"{folder}/request.json.part", before, after)
        return first(steps, "rename", f"{folder}/request.json", before, written.ended)


@pytest.fixture
def failing_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a switch that makes every fsync of files of these names fail, as a disk does that loses writes."""

    def switch(*names: str) -> None:
        fsync = os.fsync

        def failing(descriptor: int) -> None:
            if Path(f"/proc/self/fd/{descriptor}").readlink().name in names:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", failing)

    return switch


async def test_a_disk_that_fails_does_not_take_the_clients_answer(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    failing_disk: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is all that is left of a paid image; the ledger says that it was not kept."""
    monkeypatch.setattr(keeping, "HOLD_S", 0)
    failing_disk("0.part", "1.part")  # a stream's first base64 is a partial picture
    upstream.default(answers_as_asked)
    for stream in (False, True):
        await eventually(lambda: outside.is_ready(proxy))  # a fault ends paid calls for a moment
        answer = await ask(proxy, 7, 1, 3000, stream=stream)
        assert base64.b64encode(png(size_bytes=3000, seed=7)) in answer.raw
    await outside.settled(proxy.data_dir)
    assert [(call["state"], call["flags"]) for call in outside.calls(proxy.data_dir)] == [
        ("done", '["not_kept"]')
    ] * 2
    assert await outside.gallery(proxy) == []


async def test_a_disk_that_fails_later_takes_no_image_back(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    failing_disk: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first picture of a stream was durable, and its client had it, when the second could not be kept."""
    monkeypatch.setattr(keeping, "HOLD_S", 0)
    failing_disk("3.part")
    upstream.default(answers_as_asked)
    answer = await ask(proxy, 7, 3, 3000, stream=True)
    pictures = [png(size_bytes=3000, seed=seed) for seed in (7, 8, 9)]
    assert all(base64.b64encode(picture) in answer.raw for picture in pictures)
    await outside.settled(proxy.data_dir)
    (image,) = await outside.gallery(proxy)
    assert await outside.content(proxy, image) == pictures[0]
    (call,) = outside.calls(proxy.data_dir)
    assert "not_kept" in call["flags"]


async def test_what_a_disk_could_not_take_is_kept_when_it_is_back(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    failing_disk: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its client has had it; until then it waits in memory and in files that are not trusted, and is read back."""
    upstream.default(answers_as_asked)
    with monkeypatch.context() as patched:
        monkeypatch.setattr(keeping, "_SEAL_AGAIN_S", 0.1)
        fsync = os.fsync
        failing_disk("0.part", "1.part", "2.part", "request.json")
        answer = await ask(proxy, 7, 2, 900_000, stream=False)
        patched.setattr(os, "fsync", fsync)
        await outside.settled(proxy.data_dir)
    pictures = [png(size_bytes=900_000, seed=seed) for seed in (7, 8)]
    assert all(base64.b64encode(picture) in answer.raw for picture in pictures)
    found = {image["index"]: image for image in await outside.gallery(proxy)}
    assert [await outside.content(proxy, found[at]) for at in (0, 1)] == pictures
    (call,) = outside.calls(proxy.data_dir)
    assert (call["state"], call["flags"]) == ("done", "[]")


def test_the_trace_is_read_as_it_is(tmp_path: Path) -> None:
    """Threads take turns in it; a call counts as done where it ended, and what failed does not count."""

    def hexed(text: str) -> str:
        return "".join(f"\\x{byte:02x}" for byte in text.encode())

    (tmp_path / "trace").write_text(
        f"7  fsync(3<{hexed('/a b')}> <unfinished ...>\n"
        f'8  write(4<TCP:[127.0.0.1:80->127.0.0.1:999]>, "{hexed("hello")}", 5) = 3\n'
        f"7  <... fsync resumed>) = 0\n"
        f"7  fsync(3<{hexed('/bad')}>) = -1 EIO (Input/output error)\n"
        f'7  rename("{hexed("/x")}", "{hexed("/y")}") = 0\n'
        f'8  writev(4<TCPv6:[[::1]:80->[::1]:998]>, [{{iov_base="{hexed("ab")}", iov_len=2}}, '
        f'{{iov_base="{hexed("c")}", iov_len=1}}], 2) = 3\n'
        "8  +++ exited with 0 +++\n"
    )
    assert read_trace(tmp_path / "trace") == [
        Step("fsync", 0, 2, paths=("/a b",)),
        Step("write", 1, 1, port=999, data=b"hel"),
        Step("rename", 4, 4, paths=("/x", "/y")),
        Step("writev", 5, 5, port=998, data=b"abc"),
    ]


async def test_what_was_asked_for_is_what_came(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """The upstream of these tests sends pictures that differ, so that none can be taken for another."""
    upstream.default(answers_as_asked)
    async with spawn_proxy(tmp_path / "data", upstream.base_url) as proxy:
        answer = await ask(proxy, 7, 2, 3000, stream=False)
    items = json.loads(answer.raw[answer.body_at :])["data"]
    assert [base64.b64decode(item["b64_json"]) for item in items] == [
        png(size_bytes=3000, seed=seed) for seed in (7, 8)
    ]
