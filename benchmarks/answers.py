"""What the upstream answers: JSON of the real shape around pictures that are valid PNGs and can't be compressed."""

from __future__ import annotations

import base64
import json
import math
import random
import struct
import zlib

SEED = 20261121


def answer(b64_bytes: int, images: int, rng: random.Random) -> bytes:
    """Write an answer with `images` pictures whose base64 takes about `b64_bytes` each."""
    data = [
        {"b64_json": base64.b64encode(noise_png(b64_bytes * 3 // 4, rng)).decode()} for _ in range(images)
    ]
    tokens = {"image_tokens": 272 * images, "text_tokens": 0}
    body = {
        "created": 1795219200,
        "background": "opaque",
        "data": data,
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
        "usage": {
            "input_tokens": 19,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 19},
            "output_tokens": 272 * images,
            "output_tokens_details": tokens,
            "total_tokens": 19 + 272 * images,
        },
    }
    return json.dumps(body, separators=(",", ":")).encode()


def noise_png(size_bytes: int, rng: random.Random) -> bytes:
    """Draw a square of noise that takes about `size_bytes`: stored, not deflated, as random bytes would be anyway."""
    side = math.isqrt(size_bytes // 3)
    rows = b"".join(b"\0" + rng.randbytes(side * 3) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
