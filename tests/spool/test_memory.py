"""What is large goes through the disk, not through memory (R22, R23), and leaves nothing behind."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from tests.support import outside
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, RunningProxy, run_proxy, spawn_proxy
from tests.support.upstream import ScriptedUpstream, body, head, image_json, pause
from tests.support.waiting import eventually

EDITS = "/v1/images/edits"
MEGABYTE = 1_000_000


class Peak:
    """How far a process's memory goes over what it is now."""

    def __init__(self, proxy: RunningProxy) -> None:
        assert proxy.process is not None
        self._pid = proxy.process.pid
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")  # the high-water mark starts anew
        self._before = psutil.Process(self._pid).memory_info().rss

    @property
    def growth_mb(self) -> float:
        (line,) = [
            line
            for line in Path(f"/proc/{self._pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        ]
        return (int(line.split()[1]) * 1024 - self._before) / MEGABYTE


class Upload:
    """A form of large files, made up as it is sent. `hashes` are theirs, in order."""

    def __init__(self, files: int, file_bytes: int) -> None:
        block = Random(1).randbytes(MEGABYTE)
        self._blocks = [bytes([number]) + block[1:] for number in range(files)]
        self._repeats = file_bytes // MEGABYTE
        self._heads = [
            (
                f'\r\n--x\r\nContent-Disposition: form-data; name="image[]"; filename="{number}.png"\r\n'
                "Content-Type: image/png\r\n\r\n"
            ).encode()
            for number in range(files)
        ]
        self._opening = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na fox'
        self.length = (
            len(self._opening) + sum(map(len, self._heads)) + files * file_bytes + len(b"\r\n--x--\r\n")
        )

    @property
    def hashes(self) -> list[str]:
        found = []
        for block in self._blocks:
            digest = hashlib.sha256()
            for _ in range(self._repeats):
                digest.update(block)
            found.append(digest.hexdigest())
        return found

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self._opening
        for head_bytes, block in zip(self._heads, self._blocks, strict=True):
            yield head_bytes
            for _ in range(self._repeats):
                yield block
        yield b"\r\n--x--\r\n"

    async def send(self, proxy: RunningProxy) -> bytes:
        """Send it over a bare socket, and give the answer whole."""
        url = urlsplit(proxy.url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(
            f"POST {EDITS} HTTP/1.0\r\nAuthorization: Bearer {MEMBER_KEY}\r\nContent-Length: {self.length}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode()
        )
        try:
            with suppress(ConnectionError):  # a refusal may still be read
                async for piece in self.pieces():
                    writer.write(piece)
                    await writer.drain()
            return await reader.read()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def uploads(data: Path) -> list[Path]:
    return list((data / "spool" / "uploads").glob("*/*"))


@pytest.mark.xdist_group("memory")
@pytest.mark.parametrize("files", [5, pytest.param(16, marks=pytest.mark.torture)])
async def test_a_large_upload_passes_in_bounded_memory(
    tmp_path: Path, upstream: ScriptedUpstream, files: int
) -> None:
    """Files of 50 MB come as they went, and the proxy grows by less than two of them, however many there are."""
    data, upload = tmp_path / "data", Upload(files, 50 * MEGABYTE)
    picture = png()
    upstream.default(*image_json([picture]))
    async with spawn_proxy(data, upstream.base_url) as proxy:
        await Upload(1, MEGABYTE).send(proxy)  # whatever is made once is made now
        peak = Peak(proxy)
        answer = await upload.send(proxy)
        growth_mb = peak.growth_mb
        assert base64.b64encode(picture) in answer
        await eventually(lambda: uploads(data) == [])
    parts = upstream.requests[-1].parts
    assert [part.sha256 for part in parts if part.name == "image[]"] == await asyncio.to_thread(
        lambda: upload.hashes
    )
    assert growth_mb < 100


@pytest.mark.xdist_group("memory")
async def test_a_large_answer_passes_in_bounded_memory(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """50 MB of base64 come as they were sent, and the proxy grows by less than that."""
    data, picture = tmp_path / "data", png(size_bytes=37_500_000)
    upstream.default(*image_json())
    upstream.script(*image_json())
    upstream.script(*image_json([picture]))
    fields = {"prompt": "a fox"}
    async with spawn_proxy(data, upstream.base_url) as proxy:
        await proxy.request("POST", "/v1/images/generations", json=fields)
        peak = Peak(proxy)
        status, _, answer = await proxy.request("POST", "/v1/images/generations", json=fields)
        growth_mb = peak.growth_mb
        assert (status, len(answer) > 50_000_000) == (200, True)
        assert base64.b64encode(picture) in answer
        (image,) = [image for image in await outside.gallery(proxy) if image["bytes"] == len(picture)]
        assert image["sha256"] == hashlib.sha256(picture).hexdigest()
    assert growth_mb < 40


async def test_a_refused_upload_leaves_nothing(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Whatever was wrong with it; the upstream hears of none."""
    data = tmp_path / "data"
    limits = {"max_file_mb": 1, "max_files": 2}
    async with run_proxy(data, upstream.base_url, uploads=limits) as proxy:
        for upload, status in [(Upload(1, 2 * MEGABYTE), 413), (Upload(6, MEGABYTE), 413)]:
            answer = await upload.send(proxy)
            assert answer.startswith(f"HTTP/1.0 {status}".encode()), answer[:200]
            await eventually(lambda: uploads(data) == [])
        form = aiohttp.FormData({"prompt": "a fox", "n": "99"})
        form.add_field("image", png(), filename="a.png")
        status, _, _ = await proxy.request("POST", EDITS, data=form)
        assert (status, uploads(data)) == (400, [])
    assert upstream.requests == []


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """The client has gone in the middle of a file."""
    data = tmp_path / "data"
    async with run_proxy(data, upstream.base_url) as proxy:
        sending = asyncio.ensure_future(_stall_half_way(proxy))
        await eventually(
            lambda: [path for path in uploads(data) for file in path.iterdir() if file.stat().st_size]
        )
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        await eventually(lambda: uploads(data) == [])
    assert upstream.requests == []


async def _stall_half_way(proxy: RunningProxy) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        sent = 0
        async for piece in Upload(2, MEGABYTE).pieces():
            if sent > MEGABYTE:
                await asyncio.Event().wait()
            yield piece
            sent += len(piece)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    await proxy.request("POST", EDITS, data=pieces(), headers=headers)


async def test_files_are_gone_when_their_call_has_ended(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Not before: the upstream may have to be asked again. Whether it ended well or not."""
    data = tmp_path / "data"
    upstream.script(
        head(400), body(b'{"error": {"message": "no", "type": "x", "param": null, "code": null}}')
    )
    go_on = asyncio.Event()
    upstream.script(pause(go_on), *image_json())
    async with run_proxy(data, upstream.base_url) as proxy:
        form = aiohttp.FormData({"prompt": "a fox"})
        form.add_field("image", png(), filename="a.png")
        assert (await proxy.request("POST", EDITS, data=form))[0] == 400
        await eventually(lambda: uploads(data) == [])
        sending = asyncio.ensure_future(Upload(1, MEGABYTE).send(proxy))
        await upstream.wait_for_requests(2)
        assert len(uploads(data)) == 1
        go_on.set()
        assert (await sending).startswith(b"HTTP/1.0 200")
        await eventually(lambda: uploads(data) == [])
