"""Pictures with something wrong: real small files of each format, changed at random but the same way every time."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from random import Random

from PIL import Image, PngImagePlugin

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
_PNG_HEAD = 8


@cache
def seeds() -> tuple[bytes, ...]:
    """Small pictures of many makings: every format with its modes, animations and metadata."""
    noise = Image.effect_noise((24, 16), 80)
    rgb = Image.merge("RGB", (noise, noise.transpose(Image.Transpose.FLIP_LEFT_RIGHT), noise))
    rgba = rgb.copy()
    rgba.putalpha(noise)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "of old" * 20, zip=True)
    text.add_itxt("Title", "of today", zip=True)
    moving = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)], "duration": 40}
    icc = b"\0\0\0\x80ADBE" + bytes(120)
    return tuple(
        _saved(image, kind, **options)
        for image, kind, options in (
            (rgb, "PNG", {"pnginfo": text, "exif": exif, "icc_profile": icc}),
            (rgba, "PNG", {}),
            (rgb.convert("P"), "PNG", {"transparency": 3}),
            (noise.convert("1"), "PNG", {}),
            (Image.new("I;16", (24, 16), 0x1234), "PNG", {}),
            (rgb, "PNG", moving),
            (rgb, "JPEG", {"exif": exif, "icc_profile": icc, "comment": b"a picture"}),
            (rgb, "JPEG", {"progressive": True}),
            (noise, "JPEG", {"restart_marker_blocks": 1}),
            (rgb.convert("CMYK"), "JPEG", {"subsampling": 2}),
            (rgb, "WEBP", {"lossless": True, "exif": exif}),
            (rgba, "WEBP", {"quality": 50, "icc_profile": icc}),
            (rgb, "WEBP", moving),
            (rgb, "GIF", {"comment": b"a picture"}),
            (rgb.convert("P"), "GIF", {"interlace": 1, "transparency": 2}),
            (rgb, "GIF", {**moving, "loop": 0, "disposal": 2}),
        )
    )


def mutants(random: Random, count: int) -> Iterator[bytes]:
    """Give so many pictures, each with one to eight things wrong. Half the PNGs have checksums that fit."""
    originals = seeds()
    for _ in range(count):
        data = bytearray(random.choice(originals))
        for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
            _spoil(data, random, originals)
        if random.random() < 0.5:
            _mend_checksums(data)
        yield bytes(data)


def _spoil(data: bytearray, random: Random, originals: tuple[bytes, ...]) -> None:
    """Change a bit, a byte, a length; or cut out, double, put in, cut off."""
    if not data:
        return
    # Heads are where a decoder decides how much of everything there will be.
    at = random.randrange(min(len(data), random.choice((64, len(data), len(data)))))
    length = random.randrange(1, 17)
    match random.randrange(8):
        case 0:
            data[at] ^= 1 << random.randrange(8)
        case 1:
            data[at] = random.choice(_EXTREMES)
        case 2:
            data[at : at + 2] = struct.pack(
                random.choice((">H", "<H")), random.choice((0, 1, 0x7FFF, 0xFFFF))
            )
        case 3:
            number = random.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
            data[at : at + 4] = struct.pack(random.choice((">I", "<I")), number)
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = data[at : at + length * random.choice((1, 8))]
        case 6:
            other = random.choice(originals)
            start = random.randrange(len(other))
            data[at : at + length] = other[start : start + length * random.choice((1, 8))]
        case _:
            del data[max(at, len(data) // 2) :]


def _mend_checksums(data: bytearray) -> None:
    """Make the checksums of a PNG fit, as far as its chunks can be followed."""
    if not data.startswith(b"\x89PNG"):
        return
    at = _PNG_HEAD
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()
