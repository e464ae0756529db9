"""Keep what a call brought: sealed in the spool, then home to storage and index, while its client waits a little."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from pixie_proxy.generation.job import Job
from pixie_proxy.records import Settlement, StoredImage, Visibility
from pixie_proxy.relay.pump import Pump
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.tasks import TaskKeeper

log = logging.getLogger(__name__)

KEEP_WAIT_S = 2.0
"""How long an answer's end waits for storage and index; what is slower goes on without the client."""


class Keeping:
    """Brings calls home."""

    def __init__(self, finisher: Finisher, tasks: TaskKeeper, visibility: Visibility) -> None:
        """Give new images `visibility`."""
        self._finisher = finisher
        self._tasks = tasks
        self._visibility: Visibility = visibility

    async def seal(
        self, job: Job, pump: Pump, settlement: Settlement, revised: dict[int, str] | None = None
    ) -> Manifest:
        """Make a call durable and return its manifest; `revised` are revised prompts by position.

        A disk that fails must not take the client's answer as well: the call is flagged `not_kept` instead.
        """
        bare = Manifest(
            call=job.call,
            owner_name=job.owner.name,
            visibility=self._visibility,
            settlement=settlement,
            images=(),
        )
        if not pump.names:
            return bare

        def told(images: tuple[StoredImage, ...]) -> Manifest:
            if revised:
                images = tuple(
                    [replace(image, revised_prompt=revised.get(image.position)) for image in images]
                )
            return replace(bare, images=images)

        try:
            if pump.spool_error is not None:
                raise pump.spool_error
            return told(await job.spooled.seal(pump.names, lambda images: told(images).to_json()))
        except OSError as exc:
            log.critical("an image could not be kept", exc_info=exc, extra={"request_id": job.call.id})
            pump.spool_error = exc  # a file whose write or fsync failed once is never trusted again
            manifest = told(job.spooled.sealed)
            return replace(manifest, settlement=replace(settlement, flags=(*settlement.flags, "not_kept")))

    async def bring_home(self, job: Job, manifest: Manifest) -> None:
        """Move a sealed call to storage and index. Its client's answer ends then, or after KEEP_WAIT_S."""
        job.manifest = manifest
        timer = asyncio.get_running_loop().call_later(KEEP_WAIT_S, job.end)
        try:
            await self.finish(job, manifest)
        finally:
            timer.cancel()
            job.end()

    async def finish(self, job: Job, manifest: Manifest) -> None:
        """Move a sealed call to storage and index, however long that takes."""
        if manifest.images:
            await self._finisher.keep(manifest, job.spooled.folder)
        else:
            await job.spooled.remove()
            await self._finisher.settle(job.call, manifest.settlement)

    async def settle(self, job: Job, settlement: Settlement) -> None:
        """Settle a call that brought nothing; wait for it a little, so that its slot is free when its client hears."""
        job.is_free = settlement.state == "failed"
        task = self._tasks.run(self._finisher.settle(job.call, settlement), "settle")
        await asyncio.wait({task}, timeout=KEEP_WAIT_S)
