"""Links to images that work without a header, do not expire, and can't be guessed.

The signature is a 128-bit HMAC of the image's id and its link epoch; raising the epoch ends every older link.
"""

from __future__ import annotations

import hmac
import re

from pixie_proxy.media import EXTENSIONS
from pixie_proxy.records import base32hex

_LINK = re.compile(r"(img_[0-9a-v]{26})-([0-9a-v]{26})\.[a-z]{3,4}")


class LinkSigner:
    """Makes and checks links. The secret belongs to the index, so that all processes agree."""

    def __init__(self, secret: bytes, base_url: str) -> None:
        """Sign with `secret`; links start with `base_url`."""
        self._secret = secret
        self.base_url = base_url

    def url(self, image_id: str, mime: str, epoch: int = 0) -> str:
        """Give the link of an image."""
        return f"{self.base_url}/i/{image_id}-{self._signature(image_id, epoch)}.{EXTENSIONS[mime]}"

    def is_valid(self, image_id: str, signature: str, epoch: int) -> bool:
        """Check a signature in constant time."""
        return hmac.compare_digest(signature, self._signature(image_id, epoch))

    def _signature(self, image_id: str, epoch: int) -> str:
        digest = hmac.digest(self._secret, f"{image_id}/{epoch}".encode(), "sha256")
        return base32hex(int.from_bytes(digest[:16], "big") << 2, 26)


def parse_link(name: str) -> tuple[str, str] | None:
    """Split `<image id>-<signature>.<ext>` into id and signature; None when it is no link of ours."""
    match = _LINK.fullmatch(name)
    return None if match is None else (match[1], match[2])
