"""Cuts the operator's key out of what the upstream says, however JSON may have escaped it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

Scrub = Callable[[bytes], bytes]
"""Gives a text without the secret; the text must hold its strings whole. `bytes` hides nothing."""

HIDDEN: Final = b"[hidden]"


def scrubber(secret: str) -> Scrub:
    """Make the function that hides `secret`; without one it changes nothing."""
    if not secret:
        return bytes
    pattern = re.compile(b"".join(map(_spellings, secret)))

    def scrub(text: bytes) -> bytes:
        return pattern.sub(HIDDEN, text)

    return scrub


def _spellings(character: str) -> bytes:
    r"""Match a character as it is, as `\u…` and, where JSON allows it, behind a backslash."""
    plain = re.escape(character.encode())
    if character in '"\\/':
        plain = rb"\\?" + plain
    units = character.encode("utf-16-be").hex()
    escaped = "".join(rf"\\u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4))
    return b"(?:" + plain + b"|" + escaped.encode() + b")"
