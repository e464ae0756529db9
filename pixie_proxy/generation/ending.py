"""End an answer well: fetch images that it only links to, bring it into the form that was asked for, keep it.

The client gets the form that it asked for, whatever the upstream chose: in the other one SDKs find no image at all, and
no error either. An answer that was given out as it came is only ended here; any other is written anew from its images.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pixie_proxy.gallery.sharing import LinkSigner
from pixie_proxy.generation.billing import Billing, sum_usage
from pixie_proxy.generation.job import Job
from pixie_proxy.generation.keeping import Keeping
from pixie_proxy.media import sniff
from pixie_proxy.records import Settlement
from pixie_proxy.relay import conversion
from pixie_proxy.relay.capture import AnswerBroken, JsonCapture, Skeleton, SseCapture, is_link
from pixie_proxy.relay.conversion import Item
from pixie_proxy.relay.pump import Pump
from pixie_proxy.relay.refusal import Refusal, is_envelope, judge_error, outcome_unknown
from pixie_proxy.upstream.fetch import FetchRefused, ImageFetcher

log = logging.getLogger(__name__)


class Ending:
    """Ends answers that came whole."""

    def __init__(
        self, *, fetcher: ImageFetcher, billing: Billing, keeping: Keeping, links: LinkSigner, adds_url: bool
    ) -> None:
        """Work with what the composition root wired; `adds_url`: answers get links where nothing else was asked."""
        self._fetcher = fetcher
        self._billing = billing
        self._keeping = keeping
        self._links = links
        self._adds_url = adds_url

    def wants_link(self, job: Job) -> bool:
        """Tell whether images of this call are to get a `url`."""
        wants = job.asked.response_format
        return wants == "url" or (wants is None and self._adds_url)

    def link(self, job: Job, position: int, mime: str) -> str:
        """Give the link to an image."""
        return self._links.url(job.image_id(position), mime)

    async def document(self, job: Job, pump: Pump, capture: JsonCapture) -> Refusal | None:
        """End a document. Gives a refusal if it is one; raises AnswerBroken if there is nothing to give."""
        fields = capture.fields
        data = fields.get("data")
        if not isinstance(data, list):
            if is_envelope(fields):
                return judge_error(fields["error"])
            message = "the answer has no data"
            raise AnswerBroken(message)
        said = dict(enumerate(data))
        await self._fetch_linked(job, pump, capture.slots, said)
        if not capture.between_events:
            skeleton, is_new = capture.skeleton, False
        elif job.asked.is_stream:
            items = [
                item
                for item in self._items(job, pump, capture.slots, said)
                if item.slot is not None or (isinstance(item.fields, dict) and is_link(item.fields))
            ]
            if not items:
                message = "the answer has no image"
                raise AnswerBroken(message)
            skeleton, is_new = conversion.stream(job.call.kind, fields, items, _created_s(job)), True
        else:
            skeleton = conversion.document(fields, self._items(job, pump, capture.slots, said))
            is_new = True
        settlement = self._billing.done(
            job,
            _came(pump, said),
            fields.get("usage"),
            _kept(pump, skeleton),
            svg_usage=fields.get("svg_usage"),
        )
        await self._hand_over(job, pump, skeleton, settlement, said, is_new=is_new)
        return None

    async def stream(self, job: Job, pump: Pump, capture: SseCapture) -> Refusal | None:
        """End a stream. Gives a refusal if it was one and the client has not had it."""
        if not pump.events and pump.error_event is not None:
            await job.spooled.remove()
            refusal = judge_error(pump.error_event.get("error", pump.error_event))
            if not job.asked.is_stream:
                return refusal
            await self._keeping.settle(job, self._billing.failed(job, refusal.summary))
            job.end()
            return None
        events = [event.fields or {} for event in pump.events]
        said = {position: conversion.own_fields(fields) for position, fields in enumerate(events)}
        await self._fetch_linked(job, pump, capture.slots, said)
        usage = sum_usage([fields.get("usage") for fields in events])
        skeleton = capture.skeleton
        if not job.asked.is_stream:
            fields = conversion.document_fields(events, usage, _created_s(job))
            if pump.error_event is not None:
                fields["error"] = pump.error_event.get("error")
            skeleton = conversion.document(fields, self._items(job, pump, capture.slots, said))
        settlement = self._billing.done(job, _came(pump, said), usage, _kept(pump, skeleton))
        await self._hand_over(job, pump, skeleton, settlement, said, is_new=not job.asked.is_stream)
        return None

    async def _hand_over(
        self,
        job: Job,
        pump: Pump,
        skeleton: Skeleton,
        settlement: Settlement,
        said: Mapping[int, Any],
        *,
        is_new: bool,
    ) -> None:
        """Make the call durable, and only then give out what was held back, or all of it where it is new."""
        job.price(settlement)
        manifest = await self._keeping.seal(job, pump, settlement, _revised_prompts(said))
        if is_new:
            if job.asked.is_stream:
                job.begin(is_stream=True)
            try:
                await pump.play(skeleton)
            except (OSError, KeyError):
                log.exception("an answer can't be read from the spool", extra={"request_id": job.call.id})
                job.fail(outcome_unknown(job.call.id))
        pump.release()
        await self._keeping.bring_home(job, manifest)

    def _items(self, job: Job, pump: Pump, slots: int, said: Mapping[int, Any]) -> list[Item]:
        """Give the items of an answer that is written anew. Images from `slots` on were fetched from links."""
        slot_of = {name.position: slot for slot, name in pump.names.items()}
        items = []
        for position, fields in said.items():
            slot = slot_of.get(position)
            if slot is None:
                items.append(Item(None, fields))
                continue
            was_link = slot >= slots
            if was_link or self.wants_link(job):
                mime = job.spooled.mime(slot)
                fields = {**fields, "url": self.link(job, position, mime)}  # noqa: PLW2901
            has_base64 = job.asked.is_stream or not (was_link or job.asked.response_format == "url")
            items.append(Item(slot if has_base64 else None, fields))
        return items

    async def _fetch_linked(self, job: Job, pump: Pump, slots: int, said: Mapping[int, Any]) -> None:
        """Keep the images that came as links only: the upstream's links do not last."""
        kept = {name.position for name in pump.names.values()}
        for position, fields in said.items():
            if position not in kept and isinstance(fields, dict) and is_link(fields):
                await self._fetch(job, pump, slots + position, position, fields["url"])

    async def _fetch(self, job: Job, pump: Pump, slot: int, position: int, url: str) -> None:
        """Keep one image, or flag the call where it can't be fetched."""
        head = b""
        try:
            async for chunk in self._fetcher.fetch(url):
                if not head:
                    job.spooled.begin(slot, sniff(head := chunk))
                job.spooled.add(slot, chunk)
                if job.spooled.wants_flush:
                    await job.spooled.flush()
            if not head:
                message = "the link is empty"
                raise FetchRefused(message)
        except (FetchRefused, OSError) as exc:
            log.warning("an image was not kept", extra={"request_id": job.call.id, "reason": str(exc)})
            job.flags = (*job.flags, "not_kept")
            if head:
                await job.spooled.drop(slot)
            return
        job.spooled.end(slot)
        pump.name(slot, position)


def _came(pump: Pump, said: Mapping[int, Any]) -> int:
    """Count the images that came, also those that came as links and could not be kept."""
    kept = {name.position for name in pump.names.values()}
    return len(kept) + sum(
        [position not in kept and isinstance(one, dict) and is_link(one) for position, one in said.items()]
    )


def _kept(pump: Pump, skeleton: Skeleton) -> bytes:
    """Write a skeleton down with its images by their position in the call."""
    return skeleton.numbered(pump.positions).to_bytes()


def _created_s(job: Job) -> int:
    return job.call.created_us // 1_000_000


def _revised_prompts(said: Mapping[int, Any]) -> dict[int, str]:
    return {
        position: fields["revised_prompt"]
        for position, fields in said.items()
        if isinstance(fields, dict) and isinstance(fields.get("revised_prompt"), str)
    }
