"""Send a call upstream and bring its answer back: again where that is safe, and to an honest end where it breaks."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import orjson

from pixie_proxy.config import Settings
from pixie_proxy.errors import ProxyError, UpstreamUnreachable
from pixie_proxy.gallery.sharing import LinkSigner
from pixie_proxy.generation.billing import Billing, sum_usage
from pixie_proxy.generation.job import Job
from pixie_proxy.generation.keeping import Keeping
from pixie_proxy.media import sniff
from pixie_proxy.relay.capture import AnswerBroken, JsonCapture, Skeleton, SseCapture
from pixie_proxy.relay.pump import Pump
from pixie_proxy.relay.refusal import MAX_ERROR_BYTES, Refusal, judge, outcome_unknown
from pixie_proxy.upstream import Upstream, UpstreamCut, UpstreamRequest, UpstreamResponse
from pixie_proxy.upstream.catalog import Catalog
from pixie_proxy.upstream.fetch import FetchRefused, ImageFetcher

log = logging.getLogger(__name__)

_OK = 200
_LONGEST_RESEND_WAIT_S = 20.0
"""A longer `Retry-After` of the upstream's is the client's to wait for."""


class Relaying:
    """Relays calls. Every way out of `relay` has settled the call and ended its client's answer."""

    def __init__(
        self,
        *,
        settings: Settings,
        upstream: Upstream,
        fetcher: ImageFetcher,
        catalog: Catalog,
        billing: Billing,
        keeping: Keeping,
        links: LinkSigner,
    ) -> None:
        """Work with what the composition root wired."""
        self._upstream = upstream
        self._fetcher = fetcher
        self._catalog = catalog
        self._billing = billing
        self._keeping = keeping
        self._links = links
        self._max_resends = settings.upstream.max_retries
        adds_url = settings.gallery.add_url
        self._adds_url = settings.server.public_url is not None if adds_url is None else adds_url
        key = settings.upstream.api_key
        self._secret = key.get_secret_value() if key else ""

    async def relay(self, job: Job) -> None:
        """Run a call to its end."""
        model = job.call.model
        outgoing = job.asked.to_upstream(
            job.call.id, model, None if self._catalog.is_gpt_image(model) else "b64_json"
        )
        resend = 0
        while (refusal := await self._attempt(job, outgoing)) is not None:
            wait_s = _backoff_s(resend) if refusal.retry_after_s is None else refusal.retry_after_s
            if not refusal.may_send_again or resend == self._max_resends or wait_s > _LONGEST_RESEND_WAIT_S:
                end = self._billing.failed if refusal.is_definite else self._billing.unknown
                await self._keeping.settle(job, end(job, _summary(refusal.error)))
                job.fail(refusal.error)
                return
            await asyncio.sleep(wait_s)
            resend += 1

    async def _attempt(self, job: Job, outgoing: UpstreamRequest) -> Refusal | None:
        """Send the call once; None when it has ended, else why the upstream did not take it."""
        try:
            async with self._upstream.send(outgoing) as response:
                job.upstream_request_id = response.headers.get("x-request-id")
                if job.upstream_request_id:
                    job.headers["x-upstream-request-id"] = job.upstream_request_id
                if response.status != _OK:
                    return await self._judge(job, response)
                await self._answer(job, response)
        except UpstreamUnreachable as exc:
            return Refusal(error=exc, is_definite=True, may_send_again=True)
        except UpstreamCut as exc:
            await self._end_unknown(job, str(exc))
        return None

    async def _judge(self, job: Job, response: UpstreamResponse) -> Refusal:
        body = bytearray()
        try:
            async for chunk in response.chunks():
                body += chunk
                if len(body) > MAX_ERROR_BYTES:
                    break
        except UpstreamCut:
            body.clear()
        if response.status in {401, 403}:
            log.critical("the upstream refused our credentials", extra={"status": response.status})
        return judge(response.status, response.headers, bytes(body), self._secret, job.call.id)

    async def _answer(self, job: Job, response: UpstreamResponse) -> None:
        """Relay a 200."""
        is_stream = response.headers.get("content-type", "").partition(";")[0].strip() == "text/event-stream"
        capture = self._capture(job, is_stream=is_stream)

        async def seal_event() -> None:
            # More events may follow, so the outcome is still open.
            await self._keeping.seal(job, pump, self._billing.unknown(job, "the stream had not ended"))

        pump = Pump(
            capture,
            job.spooled,
            job.feed,
            image_id=job.image_id,
            seal=seal_event,
            begin_answer=lambda: job.begin(is_stream=is_stream),
        )
        if is_stream:
            job.begin(is_stream=True)
        try:
            await pump.run(response.chunks())
            if isinstance(capture, JsonCapture):
                await self._end_json(job, pump, capture)
            else:
                await self._end_stream(job, pump, capture)
        except (AnswerBroken, UpstreamCut) as exc:
            await self._end_unknown(job, f"{type(exc).__name__}: {exc}", pump)

    def _capture(self, job: Job, *, is_stream: bool) -> JsonCapture | SseCapture:
        wants = job.asked.response_format
        wants_link = wants == "url" or (wants is None and self._adds_url)

        def link(position: int, mime: str) -> str:
            return self._links.url(job.image_id(position), mime)

        if is_stream:
            return SseCapture(link=link if wants_link else None)
        return JsonCapture(link=link if wants_link else None, url_only=wants == "url")

    async def _end_json(self, job: Job, pump: Pump, capture: JsonCapture) -> None:
        items = capture.fields.get("data")
        if not isinstance(items, list):
            message = "the answer has no data"
            raise AnswerBroken(message)
        composed: bytes | None = None
        if job.asked.response_format == "url" or not pump.names:
            composed = orjson.dumps(await self._compose(job, pump, capture.fields))
        skeleton = capture.skeleton if composed is None else Skeleton.of_text(composed)
        usage = capture.fields.get("usage")
        skeleton = skeleton.numbered(pump.positions)
        settlement = self._billing.done(job, len(pump.names), usage, skeleton.to_bytes())
        manifest = await self._keeping.seal(job, pump, settlement, _revised_prompts(items))
        if composed is not None:
            job.feed.put(composed)
        pump.release()
        await self._keeping.bring_home(job, manifest)

    async def _end_stream(self, job: Job, pump: Pump, capture: SseCapture) -> None:
        if not pump.events and pump.error_event is not None:
            await self._keeping.settle(job, self._billing.failed(job, _event_error(pump.error_event)))
            job.end()
            return
        usage = sum_usage([event.get("usage") for event in pump.events])
        skeleton = capture.skeleton.numbered(pump.positions)
        settlement = self._billing.done(job, len(pump.names), usage, skeleton.to_bytes())
        await self._keeping.bring_home(job, await self._keeping.seal(job, pump, settlement))

    async def _end_unknown(self, job: Job, reason: str, pump: Pump | None = None) -> None:
        """End a call that broke off: keep what came whole, charge the hold, and say so."""
        log.warning("an upstream call broke off", extra={"request_id": job.call.id, "reason": reason})
        error, settlement = outcome_unknown(job.call.id), self._billing.unknown(job, reason)
        if pump is not None and pump.names:
            manifest = await self._keeping.seal(job, pump, settlement)
            job.fail(error)
            await self._keeping.finish(job, manifest)
            return
        await job.spooled.remove()
        await self._keeping.settle(job, settlement)
        job.fail(error)

    async def _compose(self, job: Job, pump: Pump, fields: dict[str, Any]) -> dict[str, Any]:
        """Build the small answer that has links instead of base64, fetching images that came as links themselves."""
        slots = {name.position: slot for slot, name in pump.names.items()}
        items: list[Any] = []
        for position, item in enumerate(fields["data"]):
            if position in slots:
                mime = job.spooled.mime(slots[position])
                items.append({**item, "url": self._links.url(job.image_id(position), mime)})
            elif isinstance(item, dict) and isinstance(item.get("url"), str):
                items.append({**item, "url": await self._fetch(job, pump, position, item["url"])})
            else:
                items.append(item)
        return {**fields, "data": items}

    async def _fetch(self, job: Job, pump: Pump, position: int, url: str) -> str:
        """Keep an image that the upstream only linked to; give our own link, or the upstream's if that fails."""
        slot = -1 - position
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
            job.flags = ("not_kept",)
            if head:
                await job.spooled.drop(slot)
            return url
        job.spooled.end(slot)
        pump.name(slot, position)
        return self._links.url(job.image_id(position), job.spooled.mime(slot))


def _backoff_s(resend: int) -> float:
    return float(0.5 * 2**resend * random.uniform(0.75, 1.25))  # noqa: S311 - jitter


def _revised_prompts(items: list[Any]) -> dict[int, str]:
    return {
        position: item["revised_prompt"]
        for position, item in enumerate(items)
        if isinstance(item, dict) and isinstance(item.get("revised_prompt"), str)
    }


def _summary(error: ProxyError) -> str:
    """Say in one line what the ledger remembers of an error."""
    status, body = error.answer()
    said = body["error"]
    return f"{status} {said['code'] or said['type']}: {said['message']}"[:2000]


def _event_error(fields: dict[str, Any]) -> str:
    error = fields.get("error")
    return str(error.get("message") if isinstance(error, dict) else error)[:2000]
