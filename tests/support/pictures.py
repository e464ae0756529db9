"""Small real image files of any size in bytes, the same ones every time. No Pillow is needed to make a PNG."""

from __future__ import annotations

import io
import struct
import zlib
from functools import lru_cache
from random import Random

from PIL import Image

_SEGMENT_MOST = 65_537


@lru_cache(maxsize=256)
def png(width: int = 8, height: int = 8, *, size_bytes: int | None = None, seed: int = 0) -> bytes:
    """A valid PNG; an ancillary chunk of noise pads it to `size_bytes` exactly."""
    color = Random(seed).randbytes(3)
    pixels = zlib.compress((b"\x00" + color * width) * height, 1)
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    tail = _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    if size_bytes is None:
        return head + tail
    room = _room(size_bytes, len(head) + len(tail) + 12)
    return head + _chunk(b"piXy", Random(seed).randbytes(room)) + tail


@lru_cache(maxsize=64)
def jpeg(width: int = 8, height: int = 8, *, size_bytes: int | None = None, seed: int = 0) -> bytes:
    """A valid JPEG; comment segments pad it."""
    data = _saved("JPEG", width, height, seed)
    if size_bytes is None:
        return data
    room = _room(size_bytes, len(data) + 4) + 4
    padding = b""
    while room:
        segment = min(room, _SEGMENT_MOST)
        if 0 < room - segment < 4:
            segment -= 4  # the last segment needs room for its own head
        padding += b"\xff\xfe" + struct.pack(">H", segment - 2) + bytes(segment - 4)
        room -= segment
    return data[:2] + padding + data[2:]


@lru_cache(maxsize=64)
def webp(width: int = 8, height: int = 8, *, size_bytes: int | None = None, seed: int = 0) -> bytes:
    """A valid lossless WebP; an unknown chunk at the end pads it. Sizes are even."""
    data = _saved("WEBP", width, height, seed)
    if size_bytes is None:
        return data
    room = _room(size_bytes, len(data) + 8)
    if room % 2:
        raise ValueError("a WebP has an even number of bytes")
    data += b"PIXY" + struct.pack("<I", room) + bytes(room)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


@lru_cache(maxsize=64)
def gif(width: int = 8, height: int = 8, *, seed: int = 0) -> bytes:
    """A valid GIF of one frame."""
    return _saved("GIF", width, height, seed)


@lru_cache(maxsize=64)
def svg(width: int = 8, height: int = 8, *, size_bytes: int | None = None, seed: int = 0) -> bytes:
    """A valid SVG; a comment pads it."""
    red, green, blue = Random(seed).randbytes(3)
    data = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<rect width="100%" height="100%" fill="#{red:02x}{green:02x}{blue:02x}"/></svg>'
    ).encode()
    if size_bytes is None:
        return data
    return data[:-6] + b"<!--" + b"." * _room(size_bytes, len(data) + 7) + b"-->" + data[-6:]


def png_of(width: int, height: int, *chunks: tuple[bytes, bytes], pixels: bytes = b"") -> bytes:
    """A PNG that says what it likes: its size, further chunks, and pixel data already compressed."""
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    more = b"".join(_chunk(name, data) for name, data in chunks)
    return head + more + _chunk(b"IDAT", pixels or zlib.compress(b"")) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def _room(size_bytes: int, taken: int) -> int:
    if size_bytes < taken:
        raise ValueError(f"the smallest padded file of this kind has {taken} bytes, not {size_bytes}")
    return size_bytes - taken


def _saved(kind: str, width: int, height: int, seed: int) -> bytes:
    red, green, blue = Random(seed).randbytes(3)
    out = io.BytesIO()
    Image.new("RGB", (width, height), (red, green, blue)).save(out, kind, lossless=True)
    return out.getvalue()
