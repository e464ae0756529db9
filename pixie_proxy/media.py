"""What bytes are: the type by their magic numbers, the size in pixels by their headers.

A part's Content-Type, a file's name and the upstream's `output_format` are hints that have been seen wrong; the first
bytes are not. Nothing here decodes pixels, so hostile images cost nothing.
"""

from __future__ import annotations

import re
import struct

SNIFF_BYTES = 512
"""How many leading bytes `sniff` wants to see (an SVG may open with a long comment or doctype)."""
HEAD_BYTES = 1024 * 1024
"""How far into a JPEG its size may stand: behind EXIF, colour profile and provenance."""

EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/svg+xml": "svg",
    "application/octet-stream": "bin",
}
MIMES = {extension: mime for mime, extension in EXTENSIONS.items()}

# Nothing in it gives back what it took: comment after comment would else cost a time exponential in their number.
_SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?(?>\s++|<\?xml[^>]*+>|<!--.*?-->|<!DOCTYPE\s++svg[^>]*+>)*+<svg[\s>]",
    re.IGNORECASE | re.DOTALL,
)
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})


def sniff(head: bytes) -> str:
    """Name the media type of a file that starts with `head`; `application/octet-stream` when it is none of ours."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if _SVG.match(head[:SNIFF_BYTES]):
        return "image/svg+xml"
    return "application/octet-stream"


def dimensions(head: bytes) -> tuple[int, int] | None:
    """Give (width, height) in pixels from a file's leading bytes; None where they do not tell (SVG, a cut header)."""
    try:
        match sniff(head):
            case "image/png":
                return struct.unpack_from(">II", head, 16)
            case "image/gif":
                return struct.unpack_from("<HH", head, 6)
            case "image/webp":
                return _webp_dimensions(head)
            case "image/jpeg":
                return _jpeg_dimensions(head)
    except (struct.error, IndexError):
        pass
    return None


def _webp_dimensions(head: bytes) -> tuple[int, int] | None:
    """Read the three kinds of WebP header (RFC 9649, section 2)."""
    kind = head[12:16]
    if kind == b"VP8X" and len(head) >= 30:
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg_dimensions(head: bytes) -> tuple[int, int] | None:
    """Walk the segments to the first frame header (ITU T.81, annex B)."""
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", head, at + 5)
            return width, height
        else:
            at += 2 + struct.unpack_from(">H", head, at + 2)[0]
    return None
