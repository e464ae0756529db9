"""Answer a call that joined another one: wait until that has ended, then give its answer again.

A call of this process tells by itself when it has ended; one of another process is looked up in the index.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from pixie_proxy.errors import ProxyError, StorageUnavailable, UpstreamUnreachable
from pixie_proxy.generation.deliveries import Delivery
from pixie_proxy.generation.job import Answer, Job, cost_header, error_event
from pixie_proxy.index import Index, Tx, ledger
from pixie_proxy.index.ledger import LedgerRow
from pixie_proxy.records import Settlement
from pixie_proxy.relay import join
from pixie_proxy.relay.feed import FeedBroken
from pixie_proxy.relay.join import Joined
from pixie_proxy.relay.refusal import outcome_unknown
from pixie_proxy.relay.replay import Replay
from pixie_proxy.relay.skeleton import Skeleton
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.kept import KeptFiles, KeptImage
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.storage import folder_ref
from pixie_proxy.tasks import TaskKeeper

HEADERS_WAIT_S = 15.0
"""How long a stream's answer waits to begin: until then its end can still be a proper error."""

_FIRST_LOOK_S = 0.05
_LAST_LOOK_S = 0.25
_OPEN = frozenset({"admitted", "sent"})


class _Kept(NamedTuple):
    """What an answer is given again from: the images by their position."""

    skeleton: bytes
    images: dict[int, KeptImage]
    headers: dict[str, str]


class Joining:
    """Gives answers again. `running` are the calls of this process by their id."""

    def __init__(
        self, index: Index, spool: Spool, kept: KeptFiles, tasks: TaskKeeper, running: Mapping[str, Job]
    ) -> None:
        """Work with what the composition root wired; what is left open is closed in `tasks`."""
        self._index = index
        self._spool = spool
        self._kept = kept
        self._tasks = tasks
        self._running = running

    async def answer(self, joined: Joined, delivery: Delivery, standing: dict[str, str]) -> Answer | None:
        """Wait for the call's end and give its answer; None if it failed elsewhere, so that it must be asked anew.

        Raises the error that it ended with. A stream begins after HEADERS_WAIT_S at the latest, and tells of an error
        inside.
        """
        request_id = joined.row.call.id
        standing = {**standing, "x-request-id": request_id}
        headers = {**standing, "idempotent-replayed": "true"}
        ending = self._tasks.run(self._end(joined), f"join {request_id}")
        try:
            limit_s = HEADERS_WAIT_S if joined.row.call.is_stream else None
            await asyncio.wait({ending}, timeout=limit_s)
            if not ending.done():
                return Answer(
                    headers=headers, is_stream=True, feed=_LateReplay(ending, request_id), delivery=delivery
                )
        except asyncio.CancelledError:
            ending.cancel()
            raise
        end = _result(ending, request_id)
        if isinstance(end, ProxyError):
            raise end.with_headers(standing)
        if end is None:
            return None
        replay, is_json, said = end
        headers |= said
        if is_json:
            try:
                await replay.begin()
            except BaseException:
                replay.discard()
                raise
        return Answer(headers=headers, is_stream=not is_json, feed=replay, delivery=delivery)

    async def _end(self, joined: Joined) -> _End:
        """Wait for the call's end. An error is a value here: nobody may be left to hear it."""
        try:
            found = await self._found(joined)
            return found if found is None else await self._open(joined.row.call.id, found)
        except ProxyError as exc:
            return exc

    async def _found(self, joined: Joined) -> _Kept | None:
        wait_s = _FIRST_LOOK_S
        request_id = joined.row.call.id
        while joined.row.state in _OPEN:
            job = self._running.get(request_id)
            if job is not None:
                manifest = await asyncio.shield(job.ended)
                return None if manifest is None else _of_manifest(manifest)
            await asyncio.sleep(wait_s)
            wait_s = min(_LAST_LOOK_S, wait_s * 1.5)
            joined = await self._index.read(lambda tx: _look_again(tx, request_id))
        if joined.row.state == "unknown":
            raise outcome_unknown(request_id)
        return _of_row(joined) if joined.row.state == "done" else None

    async def _open(self, request_id: str, found: _Kept) -> _Replayable:
        """Make ready what is to be given again. Raises StorageUnavailable if images are not where they must be."""
        skeleton = Skeleton.from_bytes(found.skeleton)
        files = {position: await self._kept.open(image) for position, image in found.images.items()}
        if any(not slot.is_partial and slot.number not in files for slot in skeleton.slots()):
            message = "An image of this request could not be kept, so its answer can't be given again."
            raise StorageUnavailable(message, headers={"x-should-retry": "false"})
        replay = Replay(request_id, skeleton, files, self._kept, self._spool.partials, self._tasks)
        return _Replayable(replay, skeleton.is_json, found.headers)


class _Replayable(NamedTuple):
    replay: Replay
    is_json: bool
    headers: dict[str, str]


_End = _Replayable | ProxyError | None


class _LateReplay:
    """A stream that has begun before its call has ended: silence, then the whole answer, or an error."""

    def __init__(self, ending: asyncio.Task[_End], request_id: str) -> None:
        self._ending = ending
        self._request_id = request_id
        self._replay: Replay | None = None
        self._is_broken = False
        self.is_between_events = True

    def take_whole(self) -> bytes | None:
        """Return None: a stream comes in pieces."""
        return None

    async def get(self, timeout_s: float | None = None) -> bytes | None:
        """Return the next bytes, b"" after `timeout_s` of silence, None at the end. Raises FeedBroken."""
        if self._is_broken:
            raise FeedBroken
        if self._replay is None:
            await asyncio.wait({self._ending}, timeout=timeout_s)
            if not self._ending.done():
                return b""
            self.is_between_events = False
            end = _result(self._ending, self._request_id)
            if not isinstance(end, _Replayable) or end.is_json:
                self._is_broken = True
                return error_event(end if isinstance(end, ProxyError) else _came_to_nothing())
            self._replay = end.replay
        return await self._replay.get()

    def abandon(self) -> None:
        """Wait no longer."""
        self._ending.cancel()

    def discard(self) -> None:
        """Wait no longer, and close what is open."""
        self._ending.cancel()
        if self._replay is not None:
            self._replay.discard()


def _result(ending: asyncio.Task[_End], request_id: str) -> _End:
    """Give what a call ended with; one that was cancelled was cut off by the end of this process."""
    return outcome_unknown(request_id) if ending.cancelled() else ending.result()


def _look_again(tx: Tx, request_id: str) -> Joined:
    row = ledger.get(tx, request_id)
    if row is None:
        raise _came_to_nothing()
    found = join.found(tx, row)
    if isinstance(found, ProxyError):
        raise found
    return found


def _of_manifest(manifest: Manifest) -> _Kept:
    folder = folder_ref(manifest.call.id)
    return _Kept(
        manifest.settlement.skeleton or b"",
        {
            image.position: KeptImage(f"{folder}/{image.file}", image.size_bytes, image.sha256)
            for image in manifest.images
        },
        _headers(manifest.settlement),
    )


def _of_row(joined: Joined) -> _Kept:
    return _Kept(
        joined.row.skeleton or b"",
        {
            image.position: KeptImage(image.ref, image.size_bytes, image.sha256, image.damage)
            for image in joined.images
        },
        _headers(joined.row),
    )


def _headers(ended: Settlement | LedgerRow) -> dict[str, str]:
    """Give the headers that a call's first answer had, or could have had."""
    upstream_id = ended.upstream_request_id
    said = {} if upstream_id is None else {"x-upstream-request-id": upstream_id}
    return said | cost_header(ended.cost_micros, ended.flags)


def _came_to_nothing() -> UpstreamUnreachable:
    message = "The call that this one repeats came to nothing, and cost nothing. Send it again."
    return UpstreamUnreachable(message, headers={"retry-after": "1"})
