"""The use case: one paid call, from admission through the upstream to images that are kept and a settled ledger.

`Generation.start` returns as soon as there is something for the client; the call itself runs in a task that outlives
its client, for the images are paid for either way. `quoting` says what it is sent as and what that may cost,
`admitting` decides whether it is a new call, `relaying` moves its answer, `keeping` makes it last, `billing` prices it;
`joining` gives an answer again, `deliveries` notes who has got one, `notices` tell the operator of odd models. Nothing
in here knows an HTTP framework.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from pixie_proxy.disk.watch import Disk
from pixie_proxy.errors import InternalError, ProxyError, ShuttingDown, Unavailable
from pixie_proxy.generation.admitting import Asked, enter, find_parents, is_refusal, record
from pixie_proxy.generation.billing import Billing
from pixie_proxy.generation.deliveries import Deliveries, Delivery
from pixie_proxy.generation.job import Answer, Job
from pixie_proxy.generation.joining import Joining
from pixie_proxy.generation.keeping import Keeping
from pixie_proxy.generation.notices import Notices
from pixie_proxy.generation.quoting import Quotes
from pixie_proxy.generation.relaying import Relaying
from pixie_proxy.index import Index
from pixie_proxy.metrics import Metrics
from pixie_proxy.records import User
from pixie_proxy.relay.feed import Feed
from pixie_proxy.relay.join import Attempt, Joined
from pixie_proxy.relay.pump import ImageIds
from pixie_proxy.relay.refusal import outcome_unknown
from pixie_proxy.relay.request import ImageRequest
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.kept import KeptFiles
from pixie_proxy.tasks import TaskKeeper
from pixie_proxy.threads import WorkerThreads

__all__ = ["Answer", "Attempt", "Generation"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repeated:
    """A call that turned out to be one that we have. `standing` are its headers."""

    joined: Joined
    delivery: Delivery
    standing: dict[str, str]


class Generation:
    """Runs paid calls. Those that an earlier one answers are free, and in no ledger; they are counted in `metrics`."""

    def __init__(
        self,
        *,
        index: Index,
        spool: Spool,
        kept: KeptFiles,
        disks: Sequence[Disk],
        quotes: Quotes,
        notices: Notices,
        billing: Billing,
        keeping: Keeping,
        relaying: Relaying,
        deliveries: Deliveries,
        tasks: TaskKeeper,
        threads: WorkerThreads,
        metrics: Metrics,
    ) -> None:
        """Work with what the composition root wired; `threads` serve clients that read slowly."""
        self._index = index
        self._spool = spool
        self._disks = disks
        self._quotes = quotes
        self._notices = notices
        self._billing = billing
        self._keeping = keeping
        self._relaying = relaying
        self._deliveries = deliveries
        self._tasks = tasks
        self._threads = threads
        self._metrics = metrics
        self._running: dict[str, Job] = {}
        self._joining = Joining(index, spool, kept, tasks, self._running)
        self.is_draining = False

    async def drain(self, timeout_s: float) -> int:
        """Take no new calls and wait for those that run; return how many still do after `timeout_s`.

        A call has ended when it is durable and its client has the answer; storage is not waited for.
        """
        self.is_draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        left = await self._tasks.drain(timeout_s)
        await self._deliveries.flush()
        await self._keeping.drain(deadline - loop.time())
        return left

    async def abandon(self) -> None:
        """End the calls that still run: their clients hear so at once, and the next start settles them."""
        await self._tasks.close()

    def refuse_early(self) -> None:
        """Refuse new calls where that can be known before a body is read.

        Raises ShuttingDown, StorageFull, StorageUnavailable.
        """
        if self.is_draining:
            raise _shutting_down()
        for disk in self._disks:
            disk.check()
        self._spool.check_room(1)

    def note_refusal(self, error: ProxyError, attempt: Attempt) -> None:
        """Remember a call that was refused before its body was read, so that its retry is known to be a new one."""
        if is_refusal(error):
            self._deliveries.refused_early(attempt)

    async def start(
        self,
        request: ImageRequest,
        owner: User,
        *,
        attempt: Attempt,
        request_id: str,
        idempotency_key: str | None,
        uploads: Path | None,
    ) -> Answer:
        """Join or admit a call and run it; return when its answer begins.

        `uploads` is the folder of its input files, which is the call's to delete from here on. Raises ProxyError.
        Who is cancelled in here has left: the call goes on, and is a retry's to find.
        """
        asked = Asked(
            request=request,
            owner=owner,
            attempt=attempt,
            request_id=request_id,
            idempotency_key=idempotency_key,
            uploads=uploads,
        )
        while (answer := await self._answer(asked)) is None:
            pass  # the call that was joined came to nothing
        return answer

    async def _answer(self, asked: Asked) -> Answer | None:
        """Enter a call and wait for its answer; None asks to enter anew. Raises ProxyError."""
        entered: asyncio.Future[Job | _Repeated] = asyncio.get_running_loop().create_future()
        calling = self._tasks.run(self._call(asked, entered), f"call {asked.request_id}")
        calling.add_done_callback(lambda _: entered.cancel())  # it may have been cancelled before it began
        try:
            found = await asyncio.shield(entered)
            if isinstance(found, Job):
                return await self._begin(found)
            return await self._repeat(found, asked.uploads)
        except asyncio.CancelledError:
            entered.add_done_callback(lambda _: self._leave(entered, asked.uploads))
            self._deliveries.leaving(entered)
            raise

    @staticmethod
    async def _begin(job: Job) -> Answer:
        """Wait until a call's answer begins. Raises the error that it ended with instead."""
        try:
            is_stream = await asyncio.shield(job.begun)
        except ProxyError:
            if job.is_free:
                job.delivery.failed()
            else:
                job.delivery.delivered()
            raise
        return Answer(headers=job.headers, is_stream=is_stream, feed=job.feed, delivery=job.delivery)

    async def _repeat(self, repeated: _Repeated, uploads: Path | None) -> Answer | None:
        """Wait for the call that was joined. Raises the error that it ended with; None asks to enter anew."""
        try:
            answer = await self._joining.answer(repeated.joined, repeated.delivery, repeated.standing)
        except ProxyError:
            repeated.delivery.delivered()
            await _delete(uploads)
            raise
        if answer is None:
            repeated.delivery.left()
            return None
        self._metrics.joins.add()
        await _delete(uploads)
        return answer

    async def _call(self, asked: Asked, entered: asyncio.Future[Job | _Repeated]) -> None:
        """Take a call from its admission to its end, whatever its client does."""
        try:
            found = await self._enter(asked)
        except asyncio.CancelledError:
            entered.set_exception(_shutting_down())
            raise
        except Exception as exc:  # noqa: BLE001 - it is raised to whoever is still there
            await _delete(asked.uploads)
            entered.set_exception(exc)
            return
        entered.set_result(found)
        if isinstance(found, Job):
            await self._run(found, asked.uploads)

    async def _enter(self, asked: Asked) -> Job | _Repeated:
        """Join an earlier call or be admitted as a new one. Raises ProxyError."""
        now_us, attempt, parties = time.time_ns() // 1000, asked.attempt, asked.owner.parties
        quote = self._quotes.quote(asked.request, now_us, asked.owner.key_models)
        request = quote.asked
        parents = await find_parents(self._index, asked)
        call = record(asked, quote, self._spool.process, now_us, parents)
        if attempt.retry_count and call.idempotency_key is None:
            await self._deliveries.settle_before(call, attempt.retry_count)
        barred = (quote.refusal() if asked.owner.has_budget else None) or self._take_room(request.n)
        try:
            found = await self._index.write(
                lambda tx: enter(tx, call, attempt, parties, barred, quote.ceiling.hint)
            )
            if isinstance(found, ProxyError):
                raise found
        except BaseException:
            if barred is None:
                self._spool.give_room(request.n)
            raise
        if isinstance(found, tuple):
            if barred is None:
                self._spool.give_room(request.n)
            joined, standing = found
            delivery = self._deliveries.of(joined.row.call, attempt)
            return _Repeated(joined=joined, delivery=delivery, standing=standing.headers() | quote.said)
        header = orjson.dumps(
            {"object": "pixie.call", "id": call.id, "owner": asked.owner.name, "prompt": call.prompt}
        )
        loop = asyncio.get_running_loop()
        job = self._running[call.id] = Job(
            call=call,
            asked=request,
            owner=asked.owner,
            feed=Feed(self._spool.folder, self._threads, self._spool.disk.roomy),
            spooled=self._spool.call(call.id, header),
            headers=found.headers() | quote.said,
            begun=loop.create_future(),
            ended=loop.create_future(),
            delivery=self._deliveries.of(call, attempt),
            image_id=ImageIds(),
            flags=() if quote.ceiling.is_priced else ("unpriced",),
        )
        self._notices.admitted(call, quote)
        return job

    def _take_room(self, images: int) -> ProxyError | None:
        """Set room aside for a new call; or say why there can be none, for one that can't be joined either."""
        try:
            self.refuse_early()
            self._spool.take_room(images)
        except Unavailable as exc:
            return exc
        return None

    async def _run(self, job: Job, uploads: Path | None) -> None:
        """Run a call to its end, whatever its client does."""
        try:
            await self._relaying.relay(job)
        except asyncio.CancelledError:
            job.fail(outcome_unknown(job.call.id))  # the next start finds what came of it
            raise
        except Exception:
            log.exception("a call failed", extra={"request_id": job.call.id})
            await self._keeping.settle(job, self._billing.unknown(job, "internal error"))
            job.fail(InternalError())
        finally:
            del self._running[job.call.id]
            self._spool.give_room(job.asked.n)
            await _delete(uploads)

    def _leave(self, entered: asyncio.Future[Job | _Repeated], uploads: Path | None) -> None:
        """Note that a client left while its call was on its way in, or waited for the upstream."""
        if entered.cancelled() or entered.exception() is not None:
            return
        found = entered.result()
        found.delivery.left()
        if isinstance(found, Job):
            found.feed.abandon()
        else:
            self._tasks.spawn(_delete(uploads), "uploads")


def _shutting_down() -> ShuttingDown:
    message = "The proxy is shutting down. Nothing was sent upstream; try again."
    return ShuttingDown(message, headers={"retry-after": "1"})


async def _delete(uploads: Path | None) -> None:
    """Delete the input files of a call that has ended."""
    if uploads is not None:
        await asyncio.to_thread(shutil.rmtree, uploads, ignore_errors=True)
