"""Where one HTTP/1.1 message ends: pure, fed with what a socket gave, cheap enough for a load generator."""

from __future__ import annotations


class BadMessage(Exception):
    """The peer sent something that is not one whole HTTP/1.1 message."""


class Message:
    """Counts the body of one request or response; the body itself is not kept."""

    __slots__ = ("_chunked", "_left", "_tail", "body_bytes", "done", "head")

    def __init__(self) -> None:
        self.head = b""
        self.body_bytes = 0
        self.done = False
        self._left = 0  # of a body with Content-Length, or of the chunk that is being read
        self._chunked = False
        self._tail = b""  # of the head or of a chunk's frame, when the network cut it

    @property
    def status(self) -> int:
        """Read the status of a response."""
        return int(self.head[9:12])

    def feed(self, data: bytes | memoryview) -> bool:
        """Take what came; say whether the message is whole. Nothing may follow it: we never pipeline."""
        if not self.head:
            whole = self._tail + bytes(data)
            end = whole.find(b"\r\n\r\n")
            if end < 0:
                self._tail = whole
                return False
            self._tail = b""
            self._start(whole[: end + 2])
            data = whole[end + 4 :]
        if self._chunked:
            return self._feed_chunks(bytes(data))
        self.body_bytes += len(data)
        self._left -= len(data)
        if self._left < 0:
            raise BadMessage(f"{-self._left} bytes more than announced")
        self.done = self._left == 0
        return self.done

    def _start(self, head: bytes) -> None:
        self.head = head
        lower = head.lower()
        self._chunked = b"\r\ntransfer-encoding: chunked\r\n" in lower
        at = lower.find(b"\r\ncontent-length:")
        if at >= 0:
            self._left = int(lower[at + 17 : lower.index(b"\r\n", at + 17)])
        elif not self._chunked and lower.startswith(b"http/"):
            raise BadMessage("a response without a length")

    def _feed_chunks(self, data: bytes) -> bool:
        """Walk through chunks; `_left` counts the CRLF at a chunk's end as well."""
        data, self._tail, at = self._tail + data, b"", 0
        while at < len(data):
            if self._left:
                taken = min(self._left, len(data) - at)
                self.body_bytes += max(0, min(taken, self._left - 2))
                self._left -= taken
                at += taken
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._tail = data[at:]
                return False
            size = int(data[at:end].split(b";")[0], 16)
            if size == 0:  # trailers are nothing that we or our peers send
                if len(data) - end < 4:
                    self._tail = data[at:]
                    return False
                self.done = True
                return True
            self._left = size + 2
            at = end + 2
        return False
