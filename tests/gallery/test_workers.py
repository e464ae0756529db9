"""The thumbnail worker: what it makes of good images and of hostile ones, and that the next one is made anyway."""

from __future__ import annotations

import asyncio
import io
import os
import platform
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixie_proxy.gallery import workers
from pixie_proxy.gallery.workers import Unthumbable, WorkerDied, Workers
from tests.gallery.hostile import REFUSED, long_gif
from tests.support.pictures import gif, jpeg, png, webp


@pytest.fixture
async def pool() -> AsyncIterator[Workers]:
    opened = Workers()
    yield opened
    await opened.close()


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put another program in the worker's place."""

    def put(text: str) -> None:
        (tmp_path / "stub.py").write_text(
            "import sys, time, os\nos.write(1, b'\\1')\nread = sys.stdin.buffer.read\n" + text
        )
        monkeypatch.setattr(workers, "_PROGRAM", tmp_path / "stub.py")

    return put


async def pieces_of(data: bytes) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(data), 65536):
        yield data[at : at + 65536]


async def made(pool: Workers, data: bytes, size_px: int = 256) -> Image.Image:
    async with pool.one() as worker:
        out = await worker.make(pieces_of(data), len(data), size_px)
    image = Image.open(io.BytesIO(out.webp))
    assert image.format == "WEBP"
    return image


def picture(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """400 × 200 pixels, the left half red, the right half green."""
    image = Image.new("RGB", (400, 200), (0, 255, 0))
    image.paste((255, 0, 0), (0, 0, 200, 200))
    out = io.BytesIO()
    image.convert(mode).save(out, kind, **options)
    return out.getvalue()


def is_like(image: Image.Image, at: tuple[int, int], color: tuple[int, int, int]) -> bool:
    found = image.convert("RGB").getpixel(at)
    assert isinstance(found, tuple)
    return all(abs(is_ - wanted) < 12 for is_, wanted in zip(found, color, strict=True))


@pytest.mark.parametrize("data", [png(900, 300), jpeg(900, 300), webp(900, 300), gif(900, 300)])
async def test_the_longest_edge_is_as_asked(pool: Workers, data: bytes) -> None:
    """In every format, by its proportions; a small image is not blown up."""
    assert (await made(pool, data, 512)).size == (512, 171)
    assert (await made(pool, data, 256)).size == (256, 85)
    assert (await made(pool, data, 1000)).size == (900, 300)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "LA", "RGBA", "I;16"])
async def test_every_kind_of_pixel(pool: Workers, mode: str) -> None:
    """Grey, palettes, ink and 16 bits become a WebP too."""
    kind = "JPEG" if mode == "CMYK" else "PNG"
    data = picture(kind, mode) if mode != "I;16" else b""
    if mode == "I;16":
        out = io.BytesIO()
        Image.new(mode, (400, 200), 0x8000).save(out, kind)
        data = out.getvalue()
    image = await made(pool, data)
    assert image.size == (256, 128)
    if mode == "I;16":
        assert is_like(image, (10, 10), (128, 128, 128))
    elif mode not in {"L", "1", "LA"}:
        assert is_like(image, (20, 60), (255, 0, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PNG's P", "GIF's P"])
async def test_transparency_stays(pool: Workers, mode: str) -> None:
    """An alpha channel's, and that of a palette's one colour."""
    out = io.BytesIO()
    if mode.endswith("P"):
        Image.new("P", (300, 300), 0).save(out, mode[:3], transparency=0)
    else:
        Image.new(mode, (300, 300), 0).save(out, "PNG")
    image = await made(pool, out.getvalue())
    assert image.mode == "RGBA"
    assert max(image.getchannel("A").tobytes()) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_a_turned_image_stands_upright(pool: Workers, kind: str) -> None:
    """EXIF's orientation is applied, and no metadata is left that would turn it once more."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = await made(pool, picture(kind, exif=exif))
    assert image.size == (128, 256)
    assert is_like(image, (60, 20), (255, 0, 0))
    assert not image.getexif()


async def test_the_first_frame_counts(pool: Workers) -> None:
    """Of three, and of thirty thousand; soon in both cases."""
    frames = [Image.new("RGB", (300, 300), color) for color in ("red", "green", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert is_like(await made(pool, out.getvalue()), (9, 9), (255, 0, 0))
    start = time.monotonic()
    assert (await made(pool, long_gif())).size == (16, 16)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("size", [(3840, 2160), (2160, 3840)])
async def test_our_own_largest_images(pool: Workers, size: tuple[int, int]) -> None:
    """The largest that gpt-image makes."""
    assert max((await made(pool, png(*size), 512)).size) == 512
    assert max((await made(pool, webp(*size), 512)).size) == 512


async def test_hostile_images_are_refused(pool: Workers, caplog: pytest.LogCaptureFixture) -> None:
    """Each in time, and the same worker makes the next thumbnail, for none of them has brought it down."""
    caplog.set_level("DEBUG")
    for name, make in REFUSED.items():
        print(name)
        data = make()
        start = time.monotonic()
        with pytest.raises(Unthumbable):
            await made(pool, data)
        assert time.monotonic() - start < 6, name
        assert (await made(pool, png())).size == (8, 8)
    assert len({worker.pid for worker in pool._idle} - {None}) == 1


async def test_a_worker_that_hangs_is_killed(
    pool: Workers, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it does not answer or does not even read; then the next one works."""
    monkeypatch.setattr(workers, "WALL_S", 0.3)
    for text in ("read(10); time.sleep(60)", "time.sleep(60)"):
        stub(text)
        with pytest.raises(WorkerDied, match="TimeoutError"):
            await made(pool, png(size_bytes=3_000_000))
    monkeypatch.undo()
    assert (await made(pool, png())).size == (8, 8)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("os._exit(1)", "Error"),
        ("read(6); os._exit(1)", "Error"),
        ("read(6); os.kill(os.getpid(), 9)", "Error"),
        ("read(6); os.write(1, b'\\0\\0\\0' + b'\\xff' * 4); time.sleep(60)", "a large answer"),
        ("read(6); os.write(1, b'\\0\\xff\\xff' + b'\\0' * 4); time.sleep(60)", "a large answer"),
        ("read(6); os.write(1, b'\\0\\0\\0\\0\\0\\0\\5<html'); time.sleep(60)", "an answer that is none"),
        ("read(6); os.write(1, b'\\7' + b'\\0' * 6); time.sleep(60)", "an answer that is none"),
    ],
)
async def test_a_worker_that_breaks_or_lies_is_replaced(
    pool: Workers, stub: Any, text: str, reason: str
) -> None:
    """Its end, a length without bounds, what is no WebP: none of it gets out, and the process is gone."""
    stub(text)
    with pytest.raises(WorkerDied, match=reason):
        await made(pool, png())
    assert [worker.pid for worker in pool._idle] == [None, None]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE", "SIGPROF"])
async def test_a_crash_is_the_images_fault(pool: Workers, stub: Any, name: str) -> None:
    """A decoder that breaks, or counts on and on, does so again; unlike SIGKILL, which a machine sends."""
    stub(f"import signal; read(6); os.kill(os.getpid(), signal.{name})")
    with pytest.raises(Unthumbable, match=name):
        await made(pool, png())
    assert [worker.pid for worker in pool._idle] == [None, None]


async def test_a_worker_killed_from_outside(pool: Workers) -> None:
    """In the middle of an image, and while it rests."""
    fed, go = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncGenerator[bytes, None]:
        yield png()[:20]
        fed.set()
        await go.wait()
        yield png()[20:]

    async with pool.one() as worker:
        making = asyncio.ensure_future(worker.make(slow(), len(png()), 256))
        await fed.wait()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        go.set()
        with pytest.raises(WorkerDied):
            await making
    await made(pool, png())
    (pid,) = [worker.pid for worker in pool._idle if worker.pid is not None]
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    assert (await made(pool, png())).size == (8, 8)


async def test_a_source_that_breaks_is_not_the_workers_fault(pool: Workers) -> None:
    """Its error comes out as it is; the worker, which waits for the rest, is replaced."""

    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"x"
        raise FileNotFoundError

    async with pool.one() as worker:
        with pytest.raises(FileNotFoundError):
            await worker.make(broken(), 100, 256)
    assert (await made(pool, png())).size == (8, 8)


async def test_no_more_than_two_at_once(pool: Workers) -> None:
    """Thirty that come together are served by two processes."""
    images = await asyncio.gather(*[made(pool, png(600, 600, seed=n)) for n in range(30)])
    assert [image.size for image in images] == [(256, 256)] * 30
    assert len({worker.pid for worker in pool._idle} - {None}) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_the_worker_knows_nothing_and_is_limited(
    pool: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No environment, hence no key; bounded memory and time, no new files; and only the three standard streams."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    await made(pool, png())
    (pid,) = {worker.pid for worker in pool._idle} - {None}
    process = Path(f"/proc/{pid}")
    assert process.joinpath("environ").read_bytes() == b""
    limits = process.joinpath("limits").read_text()
    found = {line[:25].strip(): line[26:46].strip() for line in limits.splitlines()}
    assert found["Max address space"] == str(768 * 1024 * 1024)
    assert found["Max cpu time"] == "600"
    assert (found["Max file size"], found["Max core file size"]) == ("0", "0")
    assert sorted(path.name for path in process.joinpath("fd").iterdir()) == ["0", "1", "2"]


TRIES = {
    "a connection": "socket.socket().connect(('127.0.0.1', int(port)))",
    "a name": "socket.getaddrinfo(b'localhost', port)",
    "a pair of sockets": "socket.socketpair()",
    "a file to read": "open(sys.executable, 'rb')",
    "a file to write": "open('/tmp/pixie-was-here', 'w')",
    "a file to remove": "os.unlink('/tmp/pixie-was-here')",
    "the parent's secrets": "open(f'/proc/{os.getppid()}/environ', 'rb')",
    "a signal": "os.kill(os.getppid(), 0)",
    "a process": "os.fork()",
    "a program": "os.execv('/bin/true', ['true'])",
}


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "aarch64"} or sys.platform != "linux", reason="has no such lock"
)
async def test_the_worker_is_locked_in(unused_tcp_port: int) -> None:
    """Whoever takes it over finds no network, no file and no other process: the kernel says no to each try."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", unused_tcp_port)

    async def end(attempt: str, how: str) -> int:
        program = (
            "import importlib.util, os, socket, sys; port = sys.argv[2]\n"
            "spec = importlib.util.spec_from_file_location('worker', sys.argv[1])\n"
            "worker = importlib.util.module_from_spec(spec); spec.loader.exec_module(worker)\n"
            "if sys.argv[3] == 'locked': assert worker.lock_in()\n"
            f"try: {attempt}\n"
            "except (PermissionError, socket.gaierror): os._exit(7)\n"
            "except FileNotFoundError: pass\n"
            "os._exit(0)"
        )
        command = [sys.executable, "-I", "-c", program, str(workers._PROGRAM), str(unused_tcp_port), how]
        return await (await asyncio.create_subprocess_exec(*command)).wait()

    async with server:
        for name, attempt in TRIES.items():
            assert (name, await end(attempt, "free"), await end(attempt, "locked")) == (name, 0, 7)


async def test_it_is_told_where_the_lock_is_missing(
    pool: Workers, stub: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Thumbnails are made all the same; the log says it once."""
    workers._tell_once.cache_clear()
    program = workers._PROGRAM.read_text().replace('"x86_64"', '"vax"').replace('"aarch64"', '"pdp11"')
    stub("")
    (tmp_path / "stub.py").write_text(program)
    for worker in pool._idle:
        await worker.make(pieces_of(png()), len(png()), 256)
    assert caplog.text.count("thumbnail workers are not locked in") == 1
    workers._tell_once.cache_clear()


async def test_it_says_whether_a_picture_moves(pool: Workers) -> None:
    """More frames than one, in each format that has such; the thumbnail is the first of them and stands still."""
    frames = [Image.new("RGB", (300, 200), color) for color in ("red", "green", "blue")]
    for kind, moving in (("GIF", True), ("PNG", True), ("WEBP", True), ("GIF", False), ("MPO", False)):
        out = io.BytesIO()
        more = {"save_all": True, "append_images": frames[1:]} if moving or kind == "MPO" else {}
        frames[0].save(out, kind, **more)
        data = out.getvalue()
        async with pool.one() as worker:
            found = await worker.make(pieces_of(data), len(data), 256)
        image = Image.open(io.BytesIO(found.webp))
        assert (found.is_animated, getattr(image, "is_animated", False)) == (moving, False), kind
        assert is_like(image, (9, 9), (255, 0, 0))
    async with pool.one() as worker:
        assert (await worker.make(pieces_of(long_gif()), len(long_gif()), 256)).is_animated


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
async def test_the_placeholder_is_tiny(pool: Workers, mode: str) -> None:
    """Sixteen pixels in some eighty bytes, of the colours that the image has."""
    data = picture("PNG", mode)
    async with pool.one() as worker:
        placeholder = (await worker.make(pieces_of(data), len(data), 256)).placeholder
    image = Image.open(io.BytesIO(placeholder))
    assert (image.format, image.size) == ("WEBP", (16, 8))
    assert len(placeholder) < 150
    if mode != "L":
        assert is_like(image, (2, 4), (255, 0, 0)), image.convert("RGB").getpixel((2, 4))
