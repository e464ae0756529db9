"""Image files that mean harm: bombs, broken ones, and those that pretend to be another kind."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

from PIL import Image

from tests.support.pictures import gif, jpeg, png, png_of, webp


@cache
def bomb_png() -> bytes:
    """13000 × 13000 pixels of nothing in 0.5 MB: 507 MB once it is decoded."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 13_000 * 3)
    pixels = b"".join(packer.compress(row) for _ in range(13_000)) + packer.flush()
    return png_of(13_000, 13_000, pixels=pixels)


def long_gif() -> bytes:
    """A GIF of 30,000 frames. Its first one is a picture like any other."""
    data = gif(16, 16)
    start = data.index(b"\x2c")  # the image descriptor
    return data[:start] + data[start:-1] * 30_000 + b"\x3b"


@cache
def text_bomb() -> bytes:
    """A PNG whose one comment is 64 MB."""
    return png_of(
        8, 8, (b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20), 9)), pixels=zlib.compress(bytes(25 * 8))
    )


@cache
def profile_bomb() -> bytes:
    """A PNG whose colour profile is 64 MB."""
    return png_of(
        8, 8, (b"iCCP", b"a\0\0" + zlib.compress(bytes(64 << 20), 9)), pixels=zlib.compress(bytes(25 * 8))
    )


@cache
def many_comments() -> bytes:
    """A PNG with 2,000 comments of 512 kB: 1 GB in 1 MB."""
    each = (b"zTXt", b"a\0\0" + zlib.compress(bytes(512 * 1024), 9))
    return png_of(8, 8, *[each] * 2_000, pixels=zlib.compress(bytes(25 * 8)))


def wide_webp() -> bytes:
    """A WebP whose header claims 16383 × 16383."""
    data = bytearray(webp())
    at = data.index(b"VP8L") + 9
    data[at : at + 4] = struct.pack("<I", 16_382 | 16_382 << 14)
    return bytes(data)


def big_jpeg() -> bytes:
    """A JPEG whose header claims 65,000 × 65,000."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


def big_gif() -> bytes:
    """A GIF that claims a screen and a frame of 65,535 × 65,535."""
    data = bytearray(gif())
    data[6:10] = b"\xff" * 4
    at = data.index(b"\x2c", 13)
    data[at + 5 : at + 9] = b"\xff" * 4
    return bytes(data)


def saved(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, kind)
    return out.getvalue()


REFUSED: dict[str, Callable[[], bytes]] = {
    "a bomb": bomb_png,
    "a bomb of text": text_bomb,
    "a bomb of a profile": profile_bomb,
    "many bombs of text": many_comments,
    "a WebP as wide as can be": wide_webp,
    "a JPEG as large as can be": big_jpeg,
    "a GIF as large as can be": big_gif,
    "a PNG cut in its pixels": lambda: png(64, 64)[:-30],
    "a PNG cut in its header": lambda: png()[:20],
    "a PNG of one signature": lambda: png()[:8],
    "a PNG with a wrong checksum": lambda: png()[:29] + b"oops" + png()[33:],
    "a JPEG cut": lambda: jpeg(64, 64)[:300],
    "a WebP cut": lambda: webp(64, 64)[:40],
    "a GIF cut": lambda: gif(64, 64)[:30],
    "a PNG signature over HTML": lambda: b"\x89PNG\r\n\x1a\n<html><script>alert(1)</script>",
    "GIF and JavaScript": lambda: b"GIF89a/*" + bytes(40) + b"*/=1;alert(1)",
    "a JPEG signature over PDF": lambda: b"\xff\xd8\xff%PDF-1.7 1 0 obj",
    "TIFF": lambda: saved("TIFF"),
    "BMP": lambda: saved("BMP"),
    "EPS": lambda: saved("EPS"),
    "PSD": lambda: b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 8, 8, 8, 3) + bytes(64),
    "FITS": lambda: b"SIMPLE  =                    T".ljust(2880),
    "nothing": lambda: b"",
}
