"""The images that a call is to edit, by their digests: what tells whether we know them."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator
from typing import Any

from pixie_proxy.relay.request import ImageRequest

_PIECE_CHARACTERS = 1 << 20  # a multiple of four, so that each piece is base64 by itself


def digests(request: ImageRequest) -> tuple[str, ...]:
    """Give the SHA-256 of each image, in hex, in their order and each once. It may block for some tens of ms.

    Mask and markup are no images to be edited. Nobody's address is asked for what lies there: only what was sent along,
    as a file or a data: URL, has a digest.
    """
    if request.texts is not None:
        found = [file.sha256 for file in request.files if file.name.startswith("image")]
    else:
        found = [digest for url in _urls(request) if (digest := _digest(url)) is not None]
    return tuple(dict.fromkeys(found))


def _urls(request: ImageRequest) -> Iterator[str]:
    """Yield the addresses of a JSON body's images, as OpenAI writes them and as others do."""
    for name in ("image", "images"):
        said = request.fields.get(name)
        for ref in said if isinstance(said, list) else [said]:
            url: Any = ref.get("image_url", ref.get("url")) if isinstance(ref, dict) else ref
            if isinstance(url, str):
                yield url


def _digest(url: str) -> str | None:
    """Digest what a data: URL holds; None if it is none, or its base64 is broken, which is the upstream's to judge."""
    head, comma, _ = url[:256].partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    digest = hashlib.sha256()
    try:
        for start in range(len(head) + 1, len(url), _PIECE_CHARACTERS):
            digest.update(binascii.a2b_base64(url[start : start + _PIECE_CHARACTERS], strict_mode=True))
    except ValueError:
        return None
    return digest.hexdigest()
