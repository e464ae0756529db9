"""The use case: one paid call, from admission through the upstream to images that are kept and a settled ledger.

`Generation.start` returns as soon as there is something for the client; the call itself runs in a task that outlives
its client, for the images are paid for either way. `relaying` moves the answer, `keeping` makes it last, `billing`
prices it. Nothing in here knows an HTTP framework.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from pixie_proxy.admission import gate
from pixie_proxy.disk.watch import Disk
from pixie_proxy.errors import InternalError, ShuttingDown
from pixie_proxy.generation.billing import Billing
from pixie_proxy.generation.job import Answer, Job
from pixie_proxy.generation.keeping import Keeping
from pixie_proxy.generation.relaying import Relaying
from pixie_proxy.index import Index
from pixie_proxy.records import CallRecord, User
from pixie_proxy.relay.feed import Feed
from pixie_proxy.relay.pump import ImageIds
from pixie_proxy.relay.refusal import outcome_unknown
from pixie_proxy.relay.request import ImageRequest
from pixie_proxy.spool.area import Spool
from pixie_proxy.tasks import TaskKeeper
from pixie_proxy.threads import WorkerThreads
from pixie_proxy.upstream.catalog import Catalog

__all__ = ["Answer", "Generation"]

log = logging.getLogger(__name__)


class Generation:
    """Runs paid calls."""

    def __init__(
        self,
        *,
        index: Index,
        spool: Spool,
        disks: Sequence[Disk],
        catalog: Catalog,
        billing: Billing,
        keeping: Keeping,
        relaying: Relaying,
        tasks: TaskKeeper,
        threads: WorkerThreads,
    ) -> None:
        """Work with what the composition root wired; `threads` serve clients that read slowly."""
        self._index = index
        self._spool = spool
        self._disks = disks
        self._catalog = catalog
        self._billing = billing
        self._keeping = keeping
        self._relaying = relaying
        self._tasks = tasks
        self._threads = threads
        self.is_draining = False

    async def drain(self, timeout_s: float) -> int:
        """Take no new calls and wait for those that run; return how many still do after `timeout_s`."""
        self.is_draining = True
        return await self._tasks.drain(timeout_s)

    async def abandon(self) -> None:
        """End the calls that still run: their clients hear so at once, and the next start settles them."""
        await self._tasks.close()

    def refuse_early(self) -> None:
        """Refuse what can be refused before a body is read. Raises ShuttingDown, StorageFull, StorageUnavailable."""
        if self.is_draining:
            message = "The proxy is shutting down. Nothing was sent upstream; try again."
            raise ShuttingDown(message, headers={"retry-after": "1"})
        for disk in self._disks:
            disk.check()
        self._spool.check_room(1)

    async def start(
        self,
        asked: ImageRequest,
        owner: User,
        *,
        request_id: str,
        idempotency_key: str | None,
        uploads: Path | None,
    ) -> Answer:
        """Admit a call and run it; return when its answer begins.

        `uploads` is the folder of its input files, which is the call's to delete from here on. Raises ProxyError.
        """
        try:
            self.refuse_early()
            self._spool.take_room(asked.n)
            try:
                job = await self._admit(asked, owner, request_id, idempotency_key)
            except BaseException:
                self._spool.give_room(asked.n)
                raise
        except BaseException:
            await _delete(uploads)
            raise
        self._tasks.spawn(self._run(job, uploads), f"call {request_id}")
        is_stream = await asyncio.shield(job.begun)
        return Answer(headers=job.headers, is_stream=is_stream, feed=job.feed)

    async def _admit(
        self, asked: ImageRequest, owner: User, request_id: str, idempotency_key: str | None
    ) -> Job:
        model = self._catalog.resolve(asked.model)
        now_us = time.time_ns() // 1000
        call = CallRecord(
            id=request_id,
            user_id=owner.id,
            key_id=owner.key_id,
            kind=asked.kind,
            requested_model=asked.model,
            model=model,
            prompt=asked.prompt,
            params=asked.params(),
            images_asked=asked.n,
            is_stream=asked.is_stream,
            fingerprint=asked.fingerprint(owner.id, model),
            idempotency_key=idempotency_key,
            hold_micros=self._billing.hold(asked, model),
            process=self._spool.process,
            created_us=now_us,
        )
        admitted = await self._index.write(lambda tx: gate.admit(tx, call, owner.limits, now_us=now_us))
        if not isinstance(admitted, gate.Admitted):
            raise admitted
        header = orjson.dumps(
            {"object": "pixie.call", "id": call.id, "owner": owner.name, "prompt": call.prompt}
        )
        return Job(
            call=call,
            asked=asked,
            owner=owner,
            feed=Feed(self._spool.folder, self._threads, self._spool.disk.roomy),
            spooled=self._spool.call(call.id, header),
            headers=admitted.headers(),
            begun=asyncio.get_running_loop().create_future(),
            image_id=ImageIds(),
        )

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
            self._spool.give_room(job.asked.n)
            await _delete(uploads)


async def _delete(uploads: Path | None) -> None:
    """Delete the input files of a call that has ended."""
    if uploads is not None:
        await asyncio.to_thread(shutil.rmtree, uploads, ignore_errors=True)
