"""The server behind us. Here is the contract; `openai` keeps it over HTTP.

What goes out is rebuilt from parsed parts (`UpstreamRequest`), never relayed: what was priced is what is sent, and no
framing or header of a client's reaches the upstream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """A text field of a form, as it came."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """A file of a form, waiting on disk. `sha256` is its content's, in hex; `mime` was sniffed."""

    name: str
    filename: str
    mime: str
    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRequest:
    """A call to send: JSON, or a form. `path` is below the base URL; `request_id` is ours, for the upstream's log.

    `images` is how many are asked for: the more, the longer the answer may take. `model` is what it is counted under.
    """

    path: str
    request_id: str
    images: int = 1
    model: str = ""
    json: bytes | None = None
    form: tuple[TextPart | FilePart, ...] = ()


class UpstreamResponse(Protocol):
    """An answer whose head has arrived. Header names are lower case."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises UpstreamCut when it ends too early, falls silent or never ends.

        And UpstreamUnframed behind the last byte of a body without framing: such an end and a cut are the same.
        """


class UpstreamCut(Exception):
    """The upstream's answer broke off: a reset, a short body, a silence. What came before is good."""


class UpstreamUnframed(UpstreamCut):
    """The answer ended, and nothing but the answer itself can tell whether it is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An answer to a look. Header names are lower case; `body` is its beginning. `at_s`: our clock when it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    at_s: float
    took_s: float


class Unseen(Exception):
    """Nobody answers a look; the message says why, in a few words without an address or a key."""


class Upstream(Protocol):
    """Something that makes images. Never follows a redirect, never sends a call again by itself."""

    def send(self, request: UpstreamRequest) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Send a call and wait for the answer's head.

        Raises UpstreamUnreachable when nothing was sent, UpstreamCut when the request went out and no head came.
        """

    async def look(self, path: str, timeout_s: float) -> Seen:
        """GET an address below the base URL that costs nothing, such as /models, with the operator's key.

        Raises Unseen when nobody answers.
        """

    async def close(self) -> None:
        """Close connections."""
