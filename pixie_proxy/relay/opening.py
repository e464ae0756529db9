"""Tells from the first bytes of an answer what it is: types have been seen wrong, bytes are not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final, Literal

AnswerKind = Literal["document", "events"]

_MOST_BYTES: Final = 4096
"""So much may come and tell nothing (white space, say) before the Content-Type has to decide."""

_BOM: Final = b"\xef\xbb\xbf"
_EVENTS: Final = re.compile(rb"(?:event|data|id|retry)?:")


class OpenedAnswer:
    """An answer's body, once its kind is known. The bytes that told it come first again."""

    def __init__(self, kind: AnswerKind, head: bytes, rest: AsyncIterator[bytes]) -> None:
        """Put `head` before `rest`."""
        self.kind: AnswerKind = kind
        self._head = head
        self._rest = rest

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the whole body."""
        if self._head:
            yield self._head
        async for chunk in self._rest:
            yield chunk


async def open_answer(chunks: AsyncIterator[bytes], content_type: str) -> OpenedAnswer:
    """Read until the answer shows what it is. Raises UpstreamCut if it breaks off before."""
    head = b""
    async for chunk in chunks:
        head += chunk
        if (kind := _kind(head)) is not None:
            # Clients skip a BOM before a document, and so do we; events may have one.
            return OpenedAnswer(kind, head.removeprefix(_BOM) if kind == "document" else head, chunks)
        if len(head) > _MOST_BYTES:
            break
    return OpenedAnswer("events" if is_event_stream(content_type) else "document", head, chunks)


def is_event_stream(content_type: str) -> bool:
    """Tell whether a Content-Type promises events."""
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


def _kind(head: bytes) -> AnswerKind | None:
    """Tell the kind of what begins so; None if more has to come, or if it is neither."""
    start = head.removeprefix(_BOM).lstrip()
    if start.startswith(b"{"):
        return "document"
    return "events" if _EVENTS.match(start) else None
