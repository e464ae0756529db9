"""A call under way, and the answer that its client waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import orjson

from pixie_proxy.errors import ProxyError
from pixie_proxy.generation.deliveries import Delivery
from pixie_proxy.records import CallRecord, Settlement, User
from pixie_proxy.relay.feed import Feed, Source
from pixie_proxy.relay.pump import ImageIds
from pixie_proxy.relay.request import ImageRequest
from pixie_proxy.spool.call import SpooledCall
from pixie_proxy.spool.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the client gets: headers and bytes to come. `is_stream`: the bytes are server-sent events.

    Whoever sends it tells `delivery` how that went.
    """

    headers: dict[str, str]
    is_stream: bool
    feed: Source
    delivery: Delivery


def cost_header(cost_micros: int | None, flags: Collection[str]) -> dict[str, str]:
    """Write the header that says what a call cost; none where nobody knows, as without a price."""
    if cost_micros is None or "unpriced" in flags:
        return {}
    return {"x-pixie-cost-usd": f"{cost_micros // 1_000_000}.{cost_micros % 1_000_000:06d}"}


@dataclass(slots=True, kw_only=True)
class Job:
    """One paid call while it runs. `begun` tells, once the answer begins, whether it is a stream.

    `ended` tells those who joined the call what came of it, once that is durable: the manifest of an answer, None if
    there was none, or the error.
    """

    call: CallRecord
    asked: ImageRequest
    owner: User
    feed: Feed
    spooled: SpooledCall
    headers: dict[str, str]
    begun: asyncio.Future[bool]
    ended: asyncio.Future[Manifest | None]
    delivery: Delivery
    image_id: ImageIds
    manifest: Manifest | None = None
    is_free: bool = False
    """The call has failed, and the upstream charged nothing."""
    upstream_request_id: str | None = None
    flags: tuple[str, ...] = ()
    seal_again: Callable[[], Awaitable[Manifest]] | None = None
    """Set while what came waits for a disk that could not take it."""

    def price(self, settlement: Settlement) -> None:
        """Tell the client what the call cost, if its headers have not left yet."""
        self.headers |= cost_header(settlement.cost_micros, settlement.flags)

    def begin(self, *, is_stream: bool) -> None:
        """Let the client's answer begin."""
        if not self.begun.done():
            self.begun.set_result(is_stream)

    def end(self) -> None:
        """End the client's answer well."""
        self.feed.close()
        self.begin(is_stream=False)
        if not self.ended.done():
            self.ended.set_result(self.manifest)

    def fail(self, error: ProxyError) -> None:
        """Give the client an error: as the answer if none has begun, else as an event; never as a clean end.

        Within an event that was given out in part there are no words left, and the reset has to do.
        """
        if not self.begun.done():
            error.headers = {**self.headers, **error.headers}
            self.begun.set_exception(error)
            self.begun.exception()  # a client that has left will not fetch it
        elif self.begun.result() and self.feed.is_between_events:
            self.feed.put(error_event(error))
        self.feed.abort()
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # nobody may have joined


def error_event(error: ProxyError) -> bytes:
    """Write an error as the last event of a stream that has begun."""
    _, body = error.answer()
    return b"event: error\ndata: " + orjson.dumps({"type": "error", **body}) + b"\n\n"
