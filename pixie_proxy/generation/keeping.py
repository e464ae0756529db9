"""Keep what a call brought: sealed in the spool, then home to storage and index, while its client waits a little."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
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
AWAY_WAIT_S = 0.1
"""The same while storage is known to be away: enough for the index, and no caller notices."""
LAST_MOVES_S = 5.0
"""How long a drain waits for what is on its way home. It is durable: the next start takes up the rest."""
HOLD_S = 900.0
"""How long memory holds what the disk could not take."""
_SEAL_AGAIN_S = 1.0


class Keeping:
    """Brings calls home."""

    def __init__(
        self, finisher: Finisher, tasks: TaskKeeper, homing: TaskKeeper, visibility: Visibility
    ) -> None:
        """Give new images `visibility`. Calls run in `tasks`; what is durable goes home in `homing`."""
        self._finisher = finisher
        self._tasks = tasks
        self._homing = homing
        self._visibility: Visibility = visibility

    async def seal(
        self, job: Job, pump: Pump, settlement: Settlement, revised: dict[int, str] | None = None
    ) -> Manifest:
        """Make a call durable and return its manifest; `revised` are revised prompts by position.

        A disk that fails must not take the client's answer as well. What the disk could not take waits in memory for
        `finish`; the manifest is the one that counts should that be in vain, and flagged `not_kept`.
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

        async def seal() -> Manifest:
            return told(await job.spooled.seal(pump.names, lambda images: told(images).to_json()))

        job.seal_again = None
        try:
            if pump.spool_error is not None:
                raise pump.spool_error
            return await seal()
        except OSError as exc:
            if pump.spool_error is None:
                job.seal_again = seal
                log.critical(
                    "an image waits in memory", extra={"request_id": job.call.id, "reason": str(exc)}
                )
            else:
                log.critical("an image could not be kept", exc_info=exc, extra={"request_id": job.call.id})
            manifest = told(job.spooled.sealed)
            return replace(manifest, settlement=replace(settlement, flags=(*settlement.flags, "not_kept")))

    async def bring_home(self, job: Job, manifest: Manifest) -> None:
        """Move a sealed call to storage and index. Its client's answer ends then, or after KEEP_WAIT_S."""
        job.manifest = manifest
        timer = asyncio.get_running_loop().call_later(self._wait_s, job.end)
        try:
            await self.finish(job, manifest)
        finally:
            timer.cancel()
            job.end()

    async def finish(self, job: Job, manifest: Manifest) -> None:
        """Move a sealed call to storage and index. What takes longer than KEEP_WAIT_S goes on without its call."""
        if job.seal_again is not None:
            manifest = await self._sealed_late(job.call.id, job.seal_again, manifest)
        if manifest.images:
            moving = self._finisher.keep(manifest, job.spooled.folder)
            home = self._homing.run(moving, f"home {job.call.id}")
            await asyncio.wait({home}, timeout=self._wait_s)
            if home.done():
                home.result()
        else:
            await job.spooled.remove()
            await self._finisher.settle(job.call, manifest.settlement)

    async def drain(self, timeout_s: float) -> None:
        """Let go home what does so quickly. Nobody waits for a storage that is away."""
        if not self._finisher.is_storage_away:
            await self._homing.drain(min(timeout_s, LAST_MOVES_S))

    @property
    def _wait_s(self) -> float:
        return AWAY_WAIT_S if self._finisher.is_storage_away else KEEP_WAIT_S

    async def _sealed_late(
        self, request_id: str, seal: Callable[[], Awaitable[Manifest]], in_vain: Manifest
    ) -> Manifest:
        """Try for a while to seal what waits in memory: its client has it, and a disk may come back."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HOLD_S
        while loop.time() < deadline:
            await asyncio.sleep(_SEAL_AGAIN_S)
            try:
                return await seal()
            except OSError as exc:
                log.debug("an image still waits", exc_info=exc, extra={"request_id": request_id})
        log.critical("an image could not be kept", extra={"request_id": request_id})
        return in_vain

    async def settle(self, job: Job, settlement: Settlement) -> None:
        """Settle a call that brought nothing; wait for it a little, so that its slot is free when its client hears."""
        job.is_free = settlement.state == "failed"
        job.price(settlement)
        task = self._tasks.run(self._finisher.settle(job.call, settlement), "settle")
        await asyncio.wait({task}, timeout=KEEP_WAIT_S)
