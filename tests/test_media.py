"""What the first bytes of a file tell: its type, and its size in pixels."""

from __future__ import annotations

import io
import struct
import time

import pytest
from PIL import Image

from pixie_proxy.media import EXTENSIONS, MIMES, SNIFF_BYTES, dimensions, sniff
from tests.support import pictures

PNG, JPEG, WEBP, GIF, SVG = "image/png", "image/jpeg", "image/webp", "image/gif", "image/svg+xml"
UNKNOWN = "application/octet-stream"


def saved(kind: str, width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height)).save(out, kind, **options)
    return out.getvalue()


def with_segments(jpeg: bytes, *sizes: int) -> bytes:
    """Put application segments of so many bytes in front of a JPEG's own."""
    segments = [b"\xff\xe2" + struct.pack(">H", size) + bytes(size - 2) for size in sizes]
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


FILES = {
    "png": (PNG, pictures.png(40, 30)),
    "png of Pillow": (PNG, saved("PNG", 40, 30, "P")),
    "png, padded": (PNG, pictures.png(40, 30, size_bytes=100_001)),
    "jpeg": (JPEG, pictures.jpeg(40, 30)),
    "jpeg, progressive": (JPEG, saved("JPEG", 40, 30, progressive=True)),
    "jpeg, grey": (JPEG, saved("JPEG", 40, 30, "L")),
    "jpeg, padded": (JPEG, pictures.jpeg(40, 30, size_bytes=200_003)),
    "jpeg behind a long profile": (JPEG, with_segments(pictures.jpeg(40, 30), *[65_535] * 8)),
    "jpeg with fill bytes": (JPEG, pictures.jpeg(40, 30)[:2] + b"\xff\xff" + pictures.jpeg(40, 30)[2:]),
    "gif": (GIF, pictures.gif(40, 30)),
    "webp, lossless": (WEBP, pictures.webp(40, 30)),
    "webp, lossy": (WEBP, saved("WEBP", 40, 30)),
    "webp, with alpha": (WEBP, saved("WEBP", 40, 30, "RGBA", exif=b"Exif\0\0" + bytes(8))),
}


@pytest.mark.parametrize("name", FILES)
def test_the_bytes_of_a_file_tell_its_type_and_size(name: str) -> None:
    """Whoever wrote it, and however much stands before its size."""
    mime, data = FILES[name]
    assert (sniff(data[:SNIFF_BYTES]), dimensions(data)) == (mime, (40, 30))
    assert MIMES[EXTENSIONS[mime]] == mime


@pytest.mark.parametrize("name", FILES)
def test_a_cut_head_never_tells_a_wrong_size(name: str) -> None:
    """However early it ends: the right size, or none."""
    _, data = FILES[name]
    ends = [*range(min(len(data), 700)), len(data) // 2, len(data) - 1]
    assert {dimensions(data[:end]) for end in ends} <= {None, (40, 30)}


@pytest.mark.parametrize(
    "data",
    [
        pictures.svg(40, 30),
        pictures.svg(40, 30, size_bytes=5000),
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made <by> hand -->\n<!DOCTYPE svg PUBLIC "a" "b">\n<SVG>',
        b"\n\t <!----><!-- -- --><svg\n",
    ],
)
def test_an_svg_is_known_behind_its_prologue(data: bytes) -> None:
    """Comments, doctype and a byte order mark come first; its size in pixels is not looked for."""
    assert (sniff(data), dimensions(data)) == (SVG, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n",
        b"\xff\xd8",
        b"RIFF\0\0\0\0WAVE",
        b"<html><svg></svg></html>",
        b"<!-- <svg> -->",
        b"<svgx>",
        b"a <svg>",
        b"%PDF-1.7",
        b"\xef\xbb<svg>",
        b" " * SNIFF_BYTES + b"<svg>",
    ],
)
def test_what_is_none_of_ours_is_bytes(data: bytes) -> None:
    """A page that holds a picture is no picture."""
    assert (sniff(data), dimensions(data)) == (UNKNOWN, None)


@pytest.mark.parametrize(
    "head", [b"<!---->" * 80, b" " * 600, b"<?xml " * 90, b"<!DOCTYPE svg" * 40, b"<!--" * 150]
)
def test_a_hostile_head_costs_no_time(head: bytes) -> None:
    """A pattern that tried every way to read comments would need longer than the universe is old."""
    started = time.process_time()
    assert sniff(head + b"x") == UNKNOWN
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    "head", [b"\xff\xd8\xff" + b"\xff" * 100_000, with_segments(b"\xff\xd8" + bytes(9), 2, 2)]
)
def test_a_jpeg_without_a_frame_has_no_size(head: bytes) -> None:
    """Its walk ends where the segments end."""
    assert dimensions(head) is None
