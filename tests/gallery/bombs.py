"""Small files that want a lot: pixels, frames, scans, text, and formats that are none of ours."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

from PIL import Image

from tests.gallery.hostile import (
    big_gif,
    big_jpeg,
    bomb_png,
    long_gif,
    many_comments,
    profile_bomb,
    saved,
    text_bomb,
    wide_webp,
)
from tests.support.pictures import gif, png_of, webp

LARGEST = 4472
"""The edge of a square of just less than 20 million pixels, which is what we decode at most."""

_EMPTY = zlib.compress(bytes(25 * 8))


@cache
def largest_png(depth: int = 8, interlaced: int = 0) -> bytes:
    """As many pixels as are decoded, in a file of 100 kB; at 16 bits a channel, or in seven passes, on request."""
    packer = zlib.compressobj(9)
    row = bytes(1 + LARGEST * 4 * depth // 8)
    pixels = (
        b"".join(packer.compress(row) for _ in range(LARGEST))
        + packer.compress(bytes(10**6))
        + packer.flush()
    )
    data = bytearray(png_of(LARGEST, LARGEST, pixels=pixels))
    data[24:29] = bytes([depth, 6, 0, 0, interlaced])  # in IHDR: RGBA
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@cache
def many_scans() -> bytes:
    """A progressive JPEG of 20 megapixels that refines them in 6,000 passes."""
    out = io.BytesIO()
    Image.new("L", (LARGEST, LARGEST), 99).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 6_000 + data[-2:]


def many_frames_png() -> bytes:
    """An APNG of 60,000 frames."""
    frame = struct.pack(">IIIIHHBB", 8, 8, 0, 0, 1, 100, 0, 0)
    chunks = [(b"acTL", struct.pack(">II", 60_000, 0)), (b"fcTL", struct.pack(">I", 0) + frame)]
    data = png_of(8, 8, *chunks, pixels=_EMPTY)
    more = b"".join(
        _chunk(b"fcTL", struct.pack(">I", 2 * n - 1) + frame)
        + _chunk(b"fdAT", struct.pack(">I", 2 * n) + _EMPTY)
        for n in range(1, 60_000)
    )
    return data[:-12] + more + data[-12:]


def lying_apng() -> bytes:
    """An APNG that claims four thousand million frames, the first of them larger than the picture."""
    frame = struct.pack(">IIIIIHHBB", 0, 2**31 - 1, 2**31 - 1, 0, 0, 1, 100, 0, 0)
    return png_of(8, 8, (b"acTL", struct.pack(">II", 2**32 - 1, 0)), (b"fcTL", frame), pixels=_EMPTY)


def animated_webp(width: int, height: int, frames: int) -> bytes:
    """A WebP whose canvas is so large and whose frames are 8 × 8."""
    inner = webp()[12:]
    frame = bytes(6) + b"\x07\0\0\x07\0\0" + b"\x28\0\0\0" + inner
    canvas = bytes([2, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + _riff(b"VP8X", canvas) + _riff(b"ANIM", bytes(6)) + _riff(b"ANMF", frame) * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def overflowing_gif() -> bytes:
    """A GIF of 1 × 1 whose one frame claims 65,535 × 65,535."""
    data = bytearray(gif())
    data[6:10] = b"\x01\0\x01\0"
    at = data.index(b"\x2c", 13)
    data[at + 5 : at + 9] = b"\xff" * 4
    return bytes(data)


def many_segments() -> bytes:
    """A JPEG with 60,000 comments, each in a segment of its own."""
    data = saved("JPEG")
    return data[:2] + (b"\xff\xfe\x00\x20" + b"x" * 30) * 60_000 + data[2:]


def circular_exif() -> bytes:
    """A JPEG whose EXIF directories lead to each other without end, each with 65,535 entries announced."""
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 8) + b"\xff" * 64
    body = b"Exif\0\0" + tiff
    return saved("JPEG")[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + saved("JPEG")[2:]


def many_pictures() -> bytes:
    """A JPEG that says it is the first of 65,535 pictures (MPO)."""
    entry = struct.pack("<IIIHH", 0, 2**32 - 1, 8, 0, 0)
    tags = struct.pack("<H", 3) + struct.pack("<HHI4s", 0xB000, 7, 4, b"0100")
    tags += struct.pack("<HHII", 0xB001, 4, 1, 65_535)
    tags += struct.pack("<HHII", 0xB002, 7, 16 * 65_535, 50) + struct.pack("<I", 0)
    body = b"MPF\0II*\0\x08\0\0\0" + tags + entry * 100
    return saved("JPEG")[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + saved("JPEG")[2:]


def lone_chunk() -> bytes:
    """A PNG whose first chunk claims two gigabytes."""
    return png_of(8, 8)[:8] + struct.pack(">I", 2**31 - 1) + b"IHDR" + bytes(64)


def large_tiff() -> bytes:
    """A TIFF of 60,000 × 60,000 pixels in one strip that is compressed."""
    strip = zlib.compress(bytes(10**6), 9)
    tags = ((256, 60_000), (257, 60_000), (258, 8), (259, 8), (262, 1), (273, 134), (277, 1), (278, 60_000))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in (*tags, (279, len(strip))))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 9) + entries + bytes(16) + strip


def large_psd() -> bytes:
    """A Photoshop file of 30,000 × 30,000 pixels in 56 channels."""
    return b"8BPS" + struct.pack(">H6xHIIHH", 1, 56, 30_000, 30_000, 16, 4) + bytes(4096)


def large_fits() -> bytes:
    """A FITS file of 100,000 × 100,000 numbers of 64 bits."""
    cards = ("SIMPLE  = T", "BITPIX  = -64", "NAXIS   = 2", "NAXIS1  = 100000", "NAXIS2  = 100000", "END")
    return b"".join(card.encode().ljust(80) for card in cards).ljust(2880) + bytes(2880)


def running_eps() -> bytes:
    """PostScript that never ends, for whoever hands it to an interpreter."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100000 100000\n{ } loop\nshowpage\n%%EOF\n"


BOMBS: dict[str, Callable[[], bytes]] = {
    "a PNG of 169 million pixels": bomb_png,
    "a PNG of 20 million pixels and more data than that": largest_png,
    "a PNG of 20 million pixels at 16 bits": lambda: largest_png(16),
    "a PNG of 20 million pixels in seven passes": lambda: largest_png(16, 1),
    "a PNG with a text of 64 MB": text_bomb,
    "a PNG with a profile of 64 MB": profile_bomb,
    "a PNG with 2,000 texts of 512 kB": many_comments,
    "a PNG with a chunk of 2 GB": lone_chunk,
    "an APNG of 60,000 frames": many_frames_png,
    "an APNG of four thousand million": lying_apng,
    "a JPEG of 4,225 million pixels": big_jpeg,
    "a JPEG of 6,000 scans": many_scans,
    "a JPEG of 60,000 segments": many_segments,
    "a JPEG whose EXIF goes round in circles": circular_exif,
    "a JPEG of 65,535 pictures": many_pictures,
    "a WebP of 268 million pixels": wide_webp,
    "a moving WebP of 268 million pixels": lambda: animated_webp(16_384, 16_384, 3),
    "a moving WebP of 20,000 frames": lambda: animated_webp(4096, 4096, 20_000),
    "a GIF of 4,295 million pixels": big_gif,
    "a GIF of one pixel and a frame of 4,295 million": overflowing_gif,
    "a GIF of 30,000 frames": long_gif,
    "a TIFF": large_tiff,
    "a PSD": large_psd,
    "a FITS": large_fits,
    "an EPS": running_eps,
}
"""Twenty-five, by what they want."""


def _riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
