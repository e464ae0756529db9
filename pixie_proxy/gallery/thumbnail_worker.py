"""The thumbnail worker: a process of its own that decodes images which may be hostile, and knows nothing else.

It is started as a file, isolated and with an empty environment, so it imports Pillow and the standard library only. On
stdin comes a frame (longest edge in pixels, length, the image), on stdout goes a frame (0 and a WebP, or 1 and the
reason), again and again until stdin ends. Its parent kills it when it takes too long.
"""

from __future__ import annotations

import contextlib
import io
import resource
import struct
import sys
import time
import warnings
from typing import BinaryIO

from PIL import Image, ImageOps

REQUEST = struct.Struct(">HI")
ANSWER = struct.Struct(">BI")

MEMORY_BYTES = 768 * 1024 * 1024
CPU_S = 5
PIXELS = 20_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")

_WHOLE_LIFE_CPU_S = 3600


def main() -> None:
    """Answer requests until stdin ends."""
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    for name in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NPROC"):  # no dump, no file, no process
        _limit(getattr(resource, name), 0)
    _limit(resource.RLIMIT_CPU, _WHOLE_LIFE_CPU_S)
    Image.MAX_IMAGE_PIXELS = PIXELS
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(REQUEST.size)) == REQUEST.size:
        size_px, length = REQUEST.unpack(head)
        data = source.read(length)
        if len(data) < length:
            return
        cpu_s = int(time.process_time()) + CPU_S + 1
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (min(cpu_s, _WHOLE_LIFE_CPU_S), _WHOLE_LIFE_CPU_S))
        try:
            _answer(target, 0, thumbnail(data, size_px))
        except Exception as exc:  # noqa: BLE001 - whatever a decoder says of a hostile file; MemoryError too
            _answer(target, 1, type(exc).__name__.encode())
        del data


def thumbnail(data: bytes, size_px: int) -> bytes:
    """Make a WebP whose longest edge is `size_px` at most: the first frame, upright, with its transparency."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.draft("RGB", (size_px, size_px))  # JPEG decodes at half or less of its size; others don't mind
        small = _shrunk(image, size_px)
    ImageOps.exif_transpose(small, in_place=True)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=80, method=2)
    return out.getvalue()


def _shrunk(image: Image.Image, size_px: int) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):  # 16 bits a channel: their upper halves
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode not in {"RGB", "RGBA"}:
        exif = image.getexif()
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.getexif().update(exif)
    image.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    return image


def _answer(target: BinaryIO, status: int, body: bytes) -> None:
    target.write(ANSWER.pack(status, len(body)) + body)
    target.flush()


def _limit(what: int, most: int) -> None:
    """Set a limit for good, where the system has it."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    main()
